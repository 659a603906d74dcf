"""What is to be done for a subject: one `likeness` command for each stage, as plain data that can
be sent to any machine."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from likeness.collection.subjects import Options, Subject
from likeness.scene.foreign_paths import shown

PREPROCESS, FIT = "preprocess", "fit"
STAGES = (PREPROCESS, FIT)

_PREPROCESS_OPTIONS = "size start end focal matting tracking max_frames min_frames".split()
_FIT_OPTIONS = "minutes iterations preset overrides init seed".split()
_FLAGS = {"overrides": "--set"}


@dataclasses.dataclass(frozen=True)
class Task:
    """One run of a program."""

    subject: str
    stage: str
    folder: Path
    """Of the task's state and log; one for each subject."""
    command: tuple[str, ...]
    """What follows ``python``."""
    product: Path
    """A file that is there once the task is done."""
    options: Options = dataclasses.field(default_factory=dict)
    """What the product depends on, plain JSON values."""
    resume: tuple[Path, tuple[str, ...]] | None = None
    """A file, and the command that takes the command's place where it exists."""
    result: Path | None = None
    """A JSON file in which the program may report more than its exit code."""
    gpu: bool = False
    """It wants a GPU where there are any."""
    judged_by: Options = dataclasses.field(default_factory=dict)
    """Limits that the result was judged by; with other ones, a finished task runs again."""
    leftovers: Path | None = None
    """A folder that only serves to resume the task, removed once it is done."""

    @property
    def key(self) -> str:
        return f"{self.subject}/{self.stage}"

    @property
    def log(self) -> Path:
        return self.folder / f"{self.stage}.log"

    @property
    def state(self) -> Path:
        return self.folder / f"{self.stage}.json"

    def command_now(self) -> tuple[str, ...]:
        """The command, or the one that resumes what an earlier attempt left."""
        if self.resume is not None and self.resume[0].is_file():
            return self.resume[1]
        return self.command


@dataclasses.dataclass(frozen=True)
class Workspace:
    """The folder of all subjects: ``captures/NAME``, ``runs/NAME``, ``tasks/NAME``."""

    root: Path

    def capture(self, subject: str) -> Path:
        return self.root / "captures" / subject

    def run(self, subject: str) -> Path:
        return self.root / "runs" / subject

    def tasks(self, subject: str) -> Path:
        return self.root / "tasks" / subject


def preprocess_task(
    subject: Subject,
    workspace: Workspace,
    options: Options,
    resources: Sequence[str],
    *,
    limits: Options | None = None,
    gpu: bool = False,
) -> Task:
    """Makes a subject's capture.

    resources: more arguments, which change no result (--device cpu, --offline). limits: what a
    usable video must keep to; with them, a video of no use is refused, which is a result, without
    them it is a failure.
    """
    chosen = _chosen(options, _PREPROCESS_OPTIONS)
    capture, folder = workspace.capture(subject.name), workspace.tasks(subject.name)
    words = [*_arguments(chosen), *resources]
    result, judged_by = None, {}
    if limits is not None:
        result = folder / f"{PREPROCESS}.result.json"
        words += ["--result", str(result), *_arguments(limits)]
        judged_by = {"bytes": subject.video.stat().st_size, **limits}
    return Task(
        subject.name,
        PREPROCESS,
        folder,
        ("-m", "likeness", PREPROCESS, str(subject.video), "--out", str(capture), *words),
        product=capture / "manifest.json",
        options={"video": shown(subject.video), **chosen},
        result=result,
        gpu=gpu,
        judged_by=judged_by,
    )


def fit_task(
    subject: Subject,
    workspace: Workspace,
    options: Options,
    resources: Sequence[str],
    *,
    gpu: bool = True,
    tidy: bool = False,
) -> Task:
    """Makes a subject's run from its capture. tidy: without checkpoints once it is finished."""
    chosen, run = _chosen(options, _FIT_OPTIONS), workspace.run(subject.name)
    start = ("--capture", str(workspace.capture(subject.name)), "--out", str(run))
    fit = ("-m", "likeness", FIT)
    return Task(
        subject.name,
        FIT,
        workspace.tasks(subject.name),
        (*fit, *start, *_arguments(chosen), *resources),
        product=run / "report.html",
        options={"video": shown(subject.video), **chosen},
        resume=(run / "run.json", (*fit, "--resume", str(run))),
        gpu=gpu,
        leftovers=run / "checkpoints" if tidy else None,
    )


def _chosen(options: Options, names: Sequence[str]) -> Options:
    return {name: options[name] for name in names if options.get(name) not in (None, [])}


def _arguments(options: Options) -> list[str]:
    """Options as a command line; a list repeats its option."""
    words: list[str] = []
    for key, value in options.items():
        flag = _FLAGS.get(key, f"--{key.replace('_', '-')}")
        values: Sequence[Any] = value if isinstance(value, (list, tuple)) else [value]
        words += [f"{flag}={item}" for item in values]
    return words
