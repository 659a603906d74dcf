"""Preprocessing of long clips: time of each stage and memory against length; and what more of the
same person is worth.

    python -m benchmarks.length [--video FILE] [--seconds 15 45 180] [--max-frames 2000]
    python -m benchmarks.length --seconds --capture DIR --shares 0.125 0.25 0.5 1 --iterations 300
    python -m benchmarks.length --seconds --joined A.json B.json [--plot FILE]

A video that is shorter than a length is played to its end and back until it is as long; without
one, a synthetic subject of 20 seconds. Each length is a process of its own, on a fresh folder. A
capture's share is the last of its training frames; the held-out frames are always the same. With
OMP_NUM_THREADS=1 the stages' seconds are the processor's, which other programs cannot lengthen.
With --keep an interrupted length is resumed by the same command; its times are those of all parts.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from benchmarks.common.figures import announced, parser, table
from likeness.scene.files import write_json

STAGES = ("landmarks", "tracking", "frames", "quality", "picture tracking")


def main() -> None:
    options = parser(__doc__)
    add = options.add_argument
    add("--video", type=Path, metavar="FILE", help="clip [a synthetic one]")
    add("--seconds", type=float, nargs="*", default=[15, 45, 180], help="lengths [15 45 180]")
    add("--size", type=int, default=512, help="side of the captures' images [512]")
    add("--max-frames", type=int, default=2000, help="frames of a capture at most [2000]")
    add("--capture", type=Path, metavar="DIR", help="capture to fit avatars to")
    add("--shares", type=float, nargs="*", default=[0.125, 0.25, 0.5, 1.0], help="parts of it")
    add("--iterations", type=int, default=600, help="of each fit [600]")
    add("--joined", type=Path, nargs="*", default=[], metavar="FILE", help="earlier runs' --json")
    add("--keep", type=Path, metavar="DIR", help="where videos and captures stay [nowhere]")
    add("--plot", type=Path, metavar="FILE", help="also draw time, memory and quality here")
    args = options.parse_args()
    conditions = announced(size=args.size, max_frames=args.max_frames)
    earlier = [json.loads(path.read_text()) for path in args.joined]
    lengths: list[dict[str, Any]] = [row for file in earlier for row in file["lengths"]]
    fits: list[dict[str, Any]] = [row for file in earlier for row in file["fits"]]
    with tempfile.TemporaryDirectory(prefix="length-") as folder:
        for seconds in args.seconds:
            lengths.append(_of_length(args, seconds, args.keep or Path(folder)))
            print(_line(lengths[-1]), file=sys.stderr, flush=True)
    if args.capture:
        fits += [_of_share(args, share) for share in args.shares]
    lengths.sort(key=lambda row: row["seconds"])
    fits.sort(key=lambda row: row["seconds"])
    print(markdown(lengths, fits))
    if args.plot:
        plot(lengths, fits, args.plot)
    if args.json:
        write_json(args.json, conditions | {"lengths": lengths, "fits": fits})


def _of_length(args: Any, seconds: float, folder: Path) -> dict[str, Any]:
    folder.mkdir(parents=True, exist_ok=True)
    video = folder / f"{seconds:g}.mp4"
    if not video.exists():
        prolonged(args.video or _synthetic(folder), seconds, video)
    with get_context("spawn").Pool(1) as pool:
        return pool.apply(preprocessed, (video, folder / video.stem, args.size, args.max_frames))


def preprocessed(video: Path, root: Path, size: int, max_frames: int) -> dict[str, Any]:
    """Figures of one video's preprocessing; the memory is the whole process's."""
    import resource

    from likeness.cli import command_line
    from likeness.preprocess import work
    from likeness.preprocess.pipeline import PreprocessConfig, build_capture

    command_line.set_up_environment()
    if os.environ.get("OMP_NUM_THREADS") == "1":
        work.clock = time.process_time
    begun = time.process_time()
    config = PreprocessConfig(size=size, max_frames=max_frames)
    report = build_capture(video, root, config, download=False).report
    row = {"seconds": report["video"]["duration_s"], "seen": report["frames"]["seen"]}
    return row | {
        "used": report["frames"]["used"],
        "stages": {stage: report["seconds"][stage] for stage in STAGES},
        "cpu_s": time.process_time() - begun,
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def prolonged(source: Path, seconds: float, path: Path) -> None:
    """A video played forwards and backwards until it lasts so long."""
    import cv2

    from likeness.playback.films import open_film
    from likeness.preprocess.video import VideoReader, open_video

    info = open_video(source)
    frames = [cv2.imencode(".png", frame.image)[1] for frame in VideoReader(info)]
    last = len(frames) - 1
    with open_film(path, info.fps) as film:
        for number in range(round(seconds * info.fps)):
            turn, place = divmod(number, last)
            image = cv2.imdecode(frames[place if turn % 2 == 0 else last - place], -1)
            film.write(image)


def _of_share(args: Any, share: float) -> dict[str, Any]:
    """Held-out PSNR of the default preset fitted to the last part of the training frames."""
    import dataclasses

    import torch

    from likeness.fitting.bundle import AvatarBundle
    from likeness.fitting.config import FitConfig
    from likeness.fitting.evaluation import evaluate
    from likeness.fitting.loop import Budget, fit
    from likeness.playback.player import Player
    from likeness.renderers import create
    from likeness.scene.capture import Capture
    from likeness.scene.config_files import load_preset

    whole = Capture.load(args.capture)
    train = whole.train[-max(2, round(share * len(whole.train))) :]
    capture = dataclasses.replace(whole, train=train)
    budget = Budget(None, args.iterations)
    config = load_preset("default", FitConfig, ())
    avatar = fit(capture, create("auto", "cpu"), config, budget, device="cpu", perceptual=None)
    player, white = Player(AvatarBundle.from_fit(avatar.eval(), capture, {})), torch.ones(3)
    # as a driver can reach them: held-out frames' own secondary motion is not known to any
    frames = whole.without_secondary_motion().frames
    count = max(1, len(capture.test) // 16)

    def render(index: int) -> torch.Tensor:
        return player.step(frames[index].state, frames[index].camera).over(white)

    metrics = evaluate(render, capture, list(capture.test)[::count]).frames
    row: dict[str, Any] = {"train": len(train), "seconds": len(train) / capture.fps}
    row["psnr"] = sum(frame.psnr for frame in metrics) / len(metrics)
    for region in ("face", "mouth", "eyes"):
        row[region] = sum(frame.regions[region] for frame in metrics) / len(metrics)
    print(row, file=sys.stderr, flush=True)
    return row


def _line(row: dict[str, Any]) -> str:
    return f"{row['seconds']:.0f} s: {row['used']} frames, {row['peak_mb']:.0f} MB"


def markdown(lengths: Sequence[dict[str, Any]], fits: Sequence[dict[str, Any]]) -> str:
    """The figures as tables."""
    tables = []
    if lengths:
        titles = ("seconds", "frames", "used", *STAGES, "sum, s", "processor s", "peak, MB")
        rows = []
        for row in lengths:
            stages = [row["stages"][stage] for stage in STAGES]
            cells = [f"{row['seconds']:.0f}", row["seen"], row["used"]]
            cells += [f"{value:.1f}" for value in (*stages, sum(stages), row["cpu_s"])]
            rows.append((*cells, f"{row['peak_mb']:.0f}"))
        tables.append(table(titles, rows))
    if fits:
        titles = ("training frames", "seconds", "PSNR", "face", "mouth", "eyes")
        figures = ("psnr", "face", "mouth", "eyes")
        rows = [
            (row["train"], f"{row['seconds']:.0f}", *(f"{row[name]:.1f}" for name in figures))
            for row in fits
        ]
        tables.append(table(titles, rows))
    return "\n\n".join(tables)


def plot(lengths: Sequence[dict[str, Any]], fits: Sequence[dict[str, Any]], path: Path) -> None:
    """Seconds of the stages and memory by length, and PSNR of fits against theirs."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    shape = (1, 3 if fits else 2)
    figure, axes = pyplot.subplots(*shape, figsize=(4.5 * shape[1], 3.4), layout="constrained")
    names = [f"{row['seconds']:.0f} s,\n{row['used']} frames" for row in lengths]
    below = [0.0] * len(lengths)
    for stage in STAGES:
        heights = [row["stages"][stage] for row in lengths]
        axes[0].bar(names, heights, bottom=below, label=stage)
        below = [low + height for low, height in zip(below, heights)]
    axes[0].set(ylabel="preprocessing, s")
    axes[1].bar(names, [row["peak_mb"] for row in lengths], color="gray")
    axes[1].set(ylabel="peak memory, MB")
    for name in ("psnr", "face", "mouth", "eyes") if fits else ():
        values = [row[name] for row in fits]
        axes[2].plot([row["seconds"] for row in fits], values, "o-", label=name)
        axes[2].set(ylabel="held-out PSNR, dB", xlabel="training frames, s", xlim=(0, None))
    for axis in axes:
        axis.grid(axis="y", alpha=0.3)
    for axis in (axes[0], *axes[2:]):
        axis.legend(fontsize=8)
    figure.savefig(path, dpi=110)


def _synthetic(folder: Path) -> Path:
    from likeness.synthetic.truth import make_demo

    return make_demo(folder / "subject", frames=600, fps=30.0).video


if __name__ == "__main__":
    main()
