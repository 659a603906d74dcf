"""Plays the curves of a phone's capture app: python examples/drive_by_csv.py runs/me take.csv a.mp4

Any other driver works alike: a video, a run, a capture, a file of states.
"""

import sys

from likeness import Avatar
from likeness.playback.films import open_film


def main(run: str, driver: str, out: str, size: int = 512) -> None:
    avatar = Avatar.load(run)
    recording = avatar.drive(driver)
    with open_film(out, recording.fps) as film:
        for state in recording:
            film.write(avatar.render(state, size=size))


if __name__ == "__main__":
    main(*sys.argv[1:4])
