"""What is to be done for a subject: one program's run for each stage, as plain data that can be
sent to any machine."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from likeness.collection.subjects import Options, Subject
from likeness.scene.foreign_paths import shown

PREPROCESS, FIT = "preprocess", "fit"
STAGES = (PREPROCESS, FIT)

# Which options each stage's program takes.
_OPTIONS = {
    PREPROCESS: (
        "size",
        "start",
        "end",
        "focal",
        "matting",
        "tracking",
        "max_frames",
        "min_frames",
    ),
    FIT: ("minutes", "iterations", "preset", "overrides", "init", "seed"),
}
_FLAGS = {"overrides": "--set"}


@dataclasses.dataclass(frozen=True)
class Task:
    """One run of a program.

    folder: of the task's state, log and claims; one for each subject. command: what follows
        ``python``.
    product: a file that is there once the task is done. options: what the product depends on, plain
        JSON values.
    resume: a file, and the command that takes the command's place where it exists. result: a JSON
    file that the program may write to say more than its exit code. gpu: it wants a GPU where there
    are any.
    judged_by: limits that the result was judged by; with other ones, a finished task is run again
        to judge anew.
    leftovers: a folder that serves to go on with the task, and is removed once it is done.
    """

    subject: str
    stage: str
    folder: Path
    command: tuple[str, ...]
    product: Path
    options: Options = dataclasses.field(default_factory=dict)
    resume: tuple[Path, tuple[str, ...]] | None = None
    result: Path | None = None
    gpu: bool = False
    judged_by: Options = dataclasses.field(default_factory=dict)
    leftovers: Path | None = None

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
        """The command, or the one that goes on with what an earlier attempt left."""
        return (
            self.resume[1] if self.resume is not None and self.resume[0].is_file() else self.command
        )


@dataclasses.dataclass(frozen=True)
class Place:
    """The folder that holds all subjects: ``captures/NAME``, ``runs/NAME``, ``tasks/NAME``."""

    root: Path

    def capture(self, subject: str) -> Path:
        return self.root / "captures" / subject

    def run(self, subject: str) -> Path:
        return self.root / "runs" / subject

    def tasks(self, subject: str) -> Path:
        return self.root / "tasks" / subject


def preprocess_task(
    subject: Subject,
    place: Place,
    options: Options,
    resources: tuple[str, ...],
    *,
    limits: Options | None = None,
    gpu: bool = False,
) -> Task:
    """Makes a subject's capture.

    resources: more arguments that change no result (--device cpu, --offline). limits: what a usable
    video must keep to; where they are given, one that is of no use is refused, which is a result,
    and else it is a failure.
    """
    chosen = _chosen(options, _OPTIONS[PREPROCESS])
    capture, folder = place.capture(subject.name), place.tasks(subject.name)
    result = None if limits is None else folder / f"{PREPROCESS}.result.json"
    judging = [] if limits is None else ["--result", str(result), *_arguments(limits)]
    command = (
        "-m",
        "likeness",
        "preprocess",
        str(subject.video),
        "--out",
        str(capture),
        *_arguments(chosen),
        *judging,
        *resources,
    )
    judged_by = {} if limits is None else {"bytes": subject.video.stat().st_size, **limits}
    return Task(
        subject.name,
        PREPROCESS,
        folder,
        command,
        capture / "manifest.json",
        {"video": shown(subject.video), **chosen},
        result=result,
        gpu=gpu,
        judged_by=judged_by,
    )


def fit_task(
    subject: Subject,
    place: Place,
    options: Options,
    resources: tuple[str, ...],
    *,
    gpu: bool = True,
    tidy: bool = False,
) -> Task:
    """Makes a subject's run from its capture, or goes on with it. tidy: without checkpoints once it
    is finished."""
    chosen, run = _chosen(options, _OPTIONS[FIT]), place.run(subject.name)
    command = (
        "-m",
        "likeness",
        "fit",
        "--capture",
        str(place.capture(subject.name)),
        "--out",
        str(run),
        *_arguments(chosen),
        *resources,
    )
    return Task(
        subject.name,
        FIT,
        place.tasks(subject.name),
        command,
        run / "report.html",
        {"video": shown(subject.video), **chosen},
        resume=(run / "run.json", ("-m", "likeness", "fit", "--resume", str(run))),
        gpu=gpu,
        leftovers=run / "checkpoints" if tidy else None,
    )


def subject_tasks(
    subject: Subject,
    place: Place,
    options: Options,
    preprocessing: tuple[str, ...],
    fitting: tuple[str, ...],
    *,
    stages: tuple[str, ...] = STAGES,
    gpu: bool = True,
    gpu_first: bool = False,
    tidy: bool = False,
) -> list[Task]:
    """What makes a subject's avatar, in order; of that, the given stages. ``preprocessing``,
    ``fitting``: resources."""
    chain = [
        preprocess_task(subject, place, options, preprocessing, gpu=gpu and gpu_first),
        fit_task(subject, place, options, fitting, gpu=gpu, tidy=tidy),
    ]
    return [task for task in chain if task.stage in stages]


def _chosen(options: Options, names: tuple[str, ...]) -> Options:
    return {name: options[name] for name in names if options.get(name) not in (None, [])}


def _arguments(options: Options) -> list[str]:
    """Options as a command line; a list repeats its option, and True stands alone."""
    words: list[str] = []
    for key, value in options.items():
        flag = _FLAGS.get(key, f"--{key.replace('_', '-')}")
        values: list[Any] = value if isinstance(value, (list, tuple)) else [value]
        for item in values:
            words += [flag] if item is True else [f"{flag}={item}"]
    return words
