"""Kills preprocessing and fits at random moments, resumes them, and compares results.

Each trial is one capture or run that is killed (SIGKILL, the whole process group) up to KILLS_EACH
times at moments that a seed chooses, and then left to finish. Its result must equal that of a run
that nobody disturbed, to the last bit: images, mattes and states of a capture; the bundle's tensors
and all figures of a run. Work is saved every fifth of a second, so that kills meet it in all
states.

Example: python -m benchmarks.kills --preprocessing 20 --fits 20 --out /tmp/kills
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

KILLS_EACH = 4
_SAVE_EVERY_S = 0.2
# The command `likeness`, which saves its work every so many seconds.
_PROGRAM = "import {0} as m; m.{1} = {2}; from likeness.cli import main; main()"
_TIMES = "seconds steps_per_s pictures_per_s fps machine date versions notes speed".split()


@dataclasses.dataclass(frozen=True)
class Job:
    """A program that is to survive kills."""

    kind: str
    program: str
    """Its code."""
    options: tuple[str, ...]
    begun: str
    """A file in its folder that is there once it works."""
    result: Callable[[Path], dict[str, str]]
    """What is compared of a folder."""
    resume: Callable[[Path], tuple[str, ...]] | None = None
    """The options that resume a folder, where those are others."""

    def command(self, folder: Path) -> list[str]:
        options = (*self.options, "--out", str(folder))
        if self.resume is not None and (folder / self.begun).exists():
            options = self.resume(folder)
        return [sys.executable, "-c", self.program, *options]


def preprocessing(video: Path, size: int, seconds: float) -> Job:
    module, name = "likeness.preprocess.photometric.refinement", "_SAVE_EVERY_S"
    options = (f"--size={size}", f"--end={seconds}", "--matting=selfie", "--offline")
    return Job(
        "preprocessing",
        _PROGRAM.format(module, name, _SAVE_EVERY_S),
        ("preprocess", str(video), *options, "--device=cpu"),
        "work/state.json",
        capture_result,
    )


def fitting(capture: Path, iterations: int) -> Job:
    options = (f"--capture={capture}", f"--iterations={iterations}", "--offline", "--device=cpu")
    return Job(
        "fit",
        _PROGRAM.format("likeness.fitting.loop", "_CHECKPOINT_EVERY_S", _SAVE_EVERY_S),
        ("fit", *options),
        "run.json",
        run_result,
        lambda folder: ("fit", "--resume", str(folder)),
    )


def capture_result(folder: Path) -> dict[str, str]:
    """Digests of what a capture is, by file; times that the work took are no part of it."""
    paths = [
        *folder.glob("images/*.png"),
        *folder.glob("mattes/*.png"),
        folder / "states.safetensors",
    ]
    return {
        path.relative_to(folder).as_posix(): _digest(path.read_bytes()) for path in paths
    } | _values(folder / "manifest.json")


def run_result(folder: Path) -> dict[str, str]:
    """Digests of the bundle's tensors, and the figures of a run."""
    tensors = {
        path.name: _digest(path.read_bytes()) for path in folder.glob("bundle/*.safetensors")
    }
    return tensors | _values(folder / "metrics.json")


def _values(path: Path) -> dict[str, str]:
    """The values of a JSON file by their places, without times."""

    def walk(value: Any, place: str) -> Iterator[tuple[str, str]]:
        if isinstance(value, dict):
            for key, inner in value.items():
                if key not in _TIMES:
                    yield from walk(inner, f"{place}.{key}")
        else:
            yield place, json.dumps(value)

    return dict(walk(json.loads(path.read_text()), path.name))


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@dataclasses.dataclass
class Attempt:
    """One run of a program: how it ended, and after how many seconds."""

    code: int
    seconds: float
    begun_s: float
    output: str


def attempt(job: Job, folder: Path, kill_s: float | None = None) -> Attempt:
    """Runs or resumes a job until it ends or is killed."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}
    started, begun_s = time.monotonic(), float("inf")
    log = folder.with_suffix(".log")
    with log.open("ab") as file:
        process = subprocess.Popen(
            job.command(folder), env=environment, stdout=file, stderr=file, start_new_session=True
        )
        while process.poll() is None:
            now = time.monotonic() - started
            if begun_s > now and (folder / job.begun).exists():
                begun_s = now
            if kill_s is not None and now >= kill_s:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
            time.sleep(0.01)
    seconds = time.monotonic() - started
    return Attempt(
        process.returncode, seconds, min(begun_s, seconds), log.read_text(errors="replace")[-2000:]
    )


def differences(wanted: dict[str, str], got: dict[str, str]) -> list[str]:
    """Places in which two results differ."""
    return sorted(
        place for place in wanted.keys() | got.keys() if wanted.get(place) != got.get(place)
    )


def trials(job: Job, kills: int, folder: Path, seed: int) -> tuple[Path, list[str]]:
    """Kills a job so many times in all; the undisturbed result's folder, and what was wrong, one
    line each."""
    moments = random.Random(f"{seed} {job.kind}")
    calm = folder / f"{job.kind}-calm"
    reference = attempt(job, calm)
    if reference.code != 0:
        raise SystemExit(f"error: {job.kind} fails undisturbed: {reference.output}")
    wanted = job.result(calm)
    print(
        f"{job.kind}: {reference.seconds:.1f} s undisturbed, at work from "
        f"{reference.begun_s:.1f} s on",
        flush=True,
    )
    wrong: list[str] = []
    begun_s, whole_s = reference.begun_s, reference.seconds
    done = number = 0
    while done < kills:
        number += 1
        place = folder / f"{job.kind}-{number}"
        at = []
        for _ in range(min(KILLS_EACH, kills - done)):
            tried = attempt(job, place, moments.uniform(0.9 * begun_s, whole_s))
            if tried.code != -signal.SIGKILL:
                # the first run compiled, or the machine was busy: later ones are quicker
                if not at:
                    begun_s, whole_s = min(begun_s, tried.begun_s), min(whole_s, tried.seconds)
                break
            at.append(tried.seconds)
        done += len(at)
        last = tried if at == [] or tried.code != -signal.SIGKILL else attempt(job, place)
        if last.code != 0:
            wrong.append(
                f"{job.kind} {number}: ended with {last.code}: {last.output.splitlines()[-1:]}"
            )
        elif different := differences(wanted, job.result(place)):
            wrong.append(
                f"{job.kind} {number}: differs in {len(different)}: {', '.join(different[:5])}"
            )
        state = "differs" if wrong and wrong[-1].startswith(f"{job.kind} {number}:") else "equal"
        moments_s = ", ".join(f"{s:.1f}" for s in at) or "no time"
        print(f"{job.kind} {number}: killed at {moments_s} s: {state}", flush=True)
        if state == "equal":
            shutil.rmtree(place)
    print(f"{job.kind}: {done} kills in {number} trials, {len(wrong)} wrong", flush=True)
    return calm, wrong


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--video", type=Path, help="a clip of a person [a synthetic one]")
    add("--out", type=Path, required=True, help="an empty folder; what differs stays in it")
    add("--preprocessing", type=int, default=20, help="kills of preprocessing [20]")
    add("--fits", type=int, default=20, help="kills of fits [20]")
    add("--size", type=int, default=128, help="side of the images [128]")
    add("--seconds", type=float, default=1.6, help="of the video that are used [1.6]")
    add("--iterations", type=int, default=40, help="of each fit [40]")
    add("--seed", type=int, default=0)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    begun = time.monotonic()
    video = args.video or _synthetic(args.out / "demo")
    capture, wrong = trials(
        preprocessing(video.absolute(), args.size, args.seconds),
        args.preprocessing,
        args.out,
        args.seed,
    )
    _, more = trials(fitting(capture.absolute(), args.iterations), args.fits, args.out, args.seed)
    print(*wrong, *more, f"{(time.monotonic() - begun) / 60:.1f} minutes", sep="\n")
    return int(bool(wrong or more))


def _synthetic(folder: Path) -> Path:
    from likeness.synthetic.truth import make_demo

    return make_demo(folder, size=256, frames=60).video


if __name__ == "__main__":
    sys.exit(main())
