"""Writes an avatar for other programs: python examples/export_everywhere.py runs/me exported"""

import sys
from pathlib import Path

from likeness import Avatar


def main(run: str, out: str) -> None:
    avatar, folder = Avatar.load(run), Path(out)
    surprise = avatar.state(jawOpen=0.6, browOuterUp=1, wide=1)
    avatar.export(folder / "surprise.ply", states=surprise)  # SuperSplat, Unity, Blender
    avatar.export(folder / "surprise.spz", states=surprise)  # the same, compressed
    avatar.export(folder / "speaking", "ply", states=avatar.recording[:50], axes="z-up")
    # serve it: python -m http.server -d exported/page
    facts = avatar.export(folder / "page", "web")
    print(f"web page: {facts['bytes'] / 1e6:.1f} MB, {facts['gaussians']} Gaussians")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
