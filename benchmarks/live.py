"""The live way from the camera's image to the avatar's, by its parts: detection, tracking,
transfer and rendering.

python -m benchmarks.live runs/me --camera clip.mp4
"""

from __future__ import annotations

import itertools
from pathlib import Path

from benchmarks.common.figures import announced, parser, table

LIMIT_MS = 60.0


def main() -> None:
    options = parser(__doc__)
    add = options.add_argument
    add("run", type=Path, metavar="RUN", help="run directory or bundle")
    add("--camera", default="0", metavar="N", help="webcam's number, or a video in its place")
    add("--size", type=int, default=256, metavar="PIXELS", help="side of the image [256]")
    add("--frames", type=int, default=200, metavar="N", help="frames to measure [200]")
    args = options.parse_args()

    from likeness.cli import command_line

    command_line.set_up_environment()
    from likeness.scene.files import write_json

    conditions = announced()
    figures = measure(args.run, args.camera, args.size, args.frames)
    print(markdown(figures))
    if args.json:
        write_json(args.json, {"machine": conditions, **figures})


def measure(run: Path, camera: str, size: int, frames: int) -> dict[str, float]:
    """Milliseconds from the moment an image is there: median and 95th percentile, and the median
    of each part."""
    import numpy as np

    from likeness.playback.bundles import load_bundle
    from likeness.playback.drivers import open_driver
    from likeness.playback.player import Player
    from likeness.playback.transfer.running import live_rows

    bundle = load_bundle(run)
    driver = open_driver(camera, bundle, kind="webcam")
    rows = list(itertools.islice(live_rows(Player(bundle), driver, size), 10, frames + 10))
    if not rows:
        raise SystemExit(
            "error: the camera gave no more than 10 frames after the calibration; give a longer "
            "clip"
        )
    # without the first ten: warm by then
    detection, tracking, values = (
        1000
        * np.array([(row.frame.detection_s, row.frame.tracking_s, row.latency_s) for row in rows]).T
    )
    return {
        "frames": len(values),
        "size": size,
        "median_ms": float(np.median(values)),
        "p95_ms": float(np.percentile(values, 95)),
        "detection_ms": float(np.median(detection)),
        "tracking_ms": float(np.median(tracking)),
        "avatar_ms": float(np.median(values - detection - tracking)),
    }


def markdown(figures: dict[str, float]) -> str:
    """One table."""
    columns = {
        "median": "median_ms",
        "95th percentile": "p95_ms",
        "detection": "detection_ms",
        "tracking": "tracking_ms",
        "transfer and rendering": "avatar_ms",
    }
    head = (
        f"From the camera's image to the avatar's at {figures['size']}², ms over "
        f"{figures['frames']} frames (goal: {LIMIT_MS:g}):"
    )
    return f"{head}\n\n{table([*columns], [[f'{figures[key]:.1f}' for key in columns.values()]])}"


if __name__ == "__main__":
    main()
