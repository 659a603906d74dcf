"""Films an avatar by a camera that goes round it: python examples/render_orbit.py runs/me a.mp4"""

import math
import sys

from likeness import Avatar
from likeness.playback.films import open_film


def main(run: str, out: str, frames: int = 100, size: int = 512) -> None:
    avatar = Avatar.load(run)
    with open_film(out, fps=25) as film:
        for frame in range(frames):
            phase = 2 * math.pi * frame / frames
            camera = avatar.camera(yaw=30 * math.sin(phase), pitch=5 * math.cos(phase), size=size)
            state = avatar.state(smile=0.5 - 0.5 * math.cos(phase))
            film.write(avatar.render(state, camera))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
