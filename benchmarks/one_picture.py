"""Seconds and memory of an avatar from one image, by part, each time in a fresh process.

python -m benchmarks.one_picture me.jpg
python -m benchmarks.one_picture            (a synthetic subject)
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.common.figures import announced, parser, table

LIMIT_S, LIMIT_GIB = 30.0, 3.0
_KIB = 1024 * (1024 if sys.platform == "darwin" else 1)  # units of ru_maxrss in a MiB


def main() -> None:
    options = parser(__doc__)
    add = options.add_argument
    add("image", type=Path, nargs="*", metavar="FILE", help="pictures [a synthetic subject]")
    add("--size", type=int, default=512, metavar="PIXELS", help="side of the images [512]")
    add("--refine", type=float, metavar="S", help="also refine for so many seconds")
    add("--repeats", type=int, default=3, metavar="N", help="runs of each image [3]")
    args = options.parse_args()

    from likeness.scene.files import write_json

    conditions = announced()
    with tempfile.TemporaryDirectory() as folder:
        images = args.image or [synthetic_image(Path(folder) / "synthetic_subject.png", args.size)]
        rows = [
            measure(image, Path(folder) / f"{number}-{repeat}", args.size, args.refine)
            for number, image in enumerate(images)
            for repeat in range(args.repeats)
        ]
    print(markdown(rows))
    if args.json:
        write_json(args.json, {"machine": conditions, "rows": rows})


def synthetic_image(path: Path, size: int) -> Path:
    """An image of a synthetic subject before a wall."""
    import cv2
    import torch

    from likeness.head_models import HEAD_MODELS
    from likeness.scene.head_state import HeadState
    from likeness.scene.transforms import make_transform
    from likeness.synthetic.subject import SyntheticPerson, SyntheticSubject
    from likeness.synthetic.truth import DemoConfig

    model, config = HEAD_MODELS["anny"](), DemoConfig(size=size)
    subject = SyntheticSubject(model, SyntheticPerson.random(model, 1))
    facing = torch.diag(torch.tensor([1.0, -1.0, -1.0]))
    pose = make_transform(facing, torch.tensor([0.0, -0.03, config.distance]))
    state = HeadState.neutral(len(model.expression_names), len(model.joint_names), pose)
    rgb, alpha = subject.render(state, config.camera)
    image = rgb + (1 - alpha[..., None]) * subject.wall(size, size)
    cv2.imwrite(str(path), (image[..., ::-1].clip(0, 1) * 255).round().astype("uint8"))
    return path


def measure(image: Path, out: Path, size: int, refine: float | None) -> dict:
    """Wall and processor seconds and peak memory (MiB) of one run of fit_subject.py, and its
    seconds by part."""
    command = [sys.executable, "-m", "likeness", "fit", "--image", str(image), "--out", str(out)]
    command += ["--size", str(size), "--offline"] + (
        [] if refine is None else ["--refine", str(refine)]
    )
    begun = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    assert process.stderr is not None
    errors = process.stderr.read().decode()
    _, status, usage = os.wait4(process.pid, 0)
    wall = time.perf_counter() - begun
    if os.waitstatus_to_exitcode(status):
        raise SystemExit(f"error: {image}: {errors.strip().splitlines()[-1]}")
    metrics = json.loads((out / "metrics.json").read_text())
    return {
        "picture": image.name,
        "wall_s": round(wall, 2),
        "processor_s": round(usage.ru_utime + usage.ru_stime, 2),
        "peak_mib": round(usage.ru_maxrss / _KIB),
        "seconds": metrics["seconds"],
        "gaussians": metrics["num_gaussians"],
        "source_psnr": metrics["source"]["psnr"],
    }


def markdown(rows: list[dict]) -> str:
    """One table, a line for each run."""
    parts = list(dict.fromkeys(name for row in rows for name in row["seconds"]))
    titles = ("picture", "seconds in all", "of a processor", *parts, "peak memory, MiB")
    lines = []
    for row in rows:
        seconds = (row["seconds"].get(name) for name in parts)
        cells = [row["picture"], f"{row['wall_s']:.1f}", f"{row['processor_s']:.1f}"]
        cells += ["–" if value is None else f"{value:.1f}" for value in seconds]
        lines.append((*cells, row["peak_mib"], row["gaussians"], f"{row['source_psnr']:.1f}"))
    goals = f"Goals: {LIMIT_S:g} s, {LIMIT_GIB:g} GiB."
    return f"{goals}\n\n{table((*titles, 'Gaussians', 'PSNR, dB'), lines)}"


if __name__ == "__main__":
    main()
