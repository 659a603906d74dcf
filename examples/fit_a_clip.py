"""Fits an avatar to a video: python examples/fit_a_clip.py me.mp4 runs/me"""

import sys
from pathlib import Path

from PIL import Image

from likeness import fit


def main(video: str, run: str, minutes: float = 10) -> None:
    avatar = fit(video, run, minutes=minutes)
    image = avatar.render(avatar.state(smile=1, yaw=10), size=512)
    Image.fromarray(image).save(Path(run, "smile.png"))
    print(f"{avatar}\nreport: {run}/report.html")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
