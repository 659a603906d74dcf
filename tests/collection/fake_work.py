"""Tasks that cost next to nothing: small programs that leave a trace of how often, and how far,
they ran."""

from __future__ import annotations

import contextlib
import io
import subprocess
from collections.abc import Callable
from pathlib import Path

from likeness.collection.pool import Outcome, run
from likeness.collection.tasks import Task
from likeness.collection.work import LocalWorkers

# Counts to so many, one unit of work after the other, keeping its place in a file, as a fit does
# with checkpoints; notes each start and each end. Arguments: folder, name, units, seconds for each,
# and the unit at which it breaks (-1).
PROGRAM = """
import os, pathlib, signal, sys, time
folder, name = pathlib.Path(sys.argv[1]), sys.argv[2]
units, pause, breaks = map(float, sys.argv[3:6])
note = lambda what: os.write(log, f"{name} {what} {os.getpid()} {os.getppid()}\\n".encode())
log = os.open(folder / "trace", os.O_CREAT | os.O_APPEND | os.O_WRONLY)
place = folder / f"{name}.place"
signal.signal(signal.SIGTERM, lambda *_: (note("saved"), sys.exit(143)))
note("begins")
at = int(place.read_text()) if place.exists() else 0
while at < units:
    if at == breaks:
        sys.exit("Traceback (most recent call last):\\nValueError: broken")
    time.sleep(pause)
    at += 1
    partial = place.with_suffix(".partial")
    partial.write_text(str(at))
    os.replace(partial, place)
(folder / f"{name}.product").write_text("whole")
note("ends")
"""


def task(
    folder: Path,
    name: str,
    stage: str = "fit",
    units: int = 1,
    pause: float = 0.0,
    breaks: int = -1,
    **changes,
) -> Task:
    """A task of PROGRAM, whose trace is ``folder/trace``."""
    work = f"{name}-{stage}"
    command = ("-S", "-c", PROGRAM, str(folder), work, str(units), str(pause), str(breaks))
    return Task(
        name, stage, folder / "tasks" / name, command, folder / f"{work}.product", **changes
    )


def chain(folder: Path, name: str, **settings) -> list[Task]:
    return [task(folder, name, "preprocess", **settings), task(folder, name, "fit", **settings)]


def trace(folder: Path, word: str) -> list[str]:
    """Names of the tasks that noted this, in order; all but the process numbers."""
    path = folder / "trace"
    lines = [line.split() for line in path.read_text().splitlines()] if path.exists() else []
    return [line[0] for line in lines if line[1] == word]


def process(folder: Path, name: str, parent: bool = False) -> int:
    """Number of the latest process that did a task, or of the one that started it."""
    lines = [line.split() for line in (folder / "trace").read_text().splitlines()]
    return next(
        int(line[3 if parent else 2]) for line in reversed(lines) if line[:2] == [name, "begins"]
    )


def quietly(chains, jobs: int = 2, **settings) -> tuple[Outcome, str]:
    """Runs chains on this machine; the outcome and what was shown."""
    shown = io.StringIO()
    with contextlib.redirect_stderr(shown):
        outcome = run(chains, LocalWorkers(jobs, 1, **settings), "testing")
    return outcome, shown.getvalue()


def wait_until(true: Callable[[], object], what: str, seconds: float = 30.0) -> None:
    import time

    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, f"waited {seconds:g} s in vain until {what}"
        time.sleep(0.02)


def is_gone(pid: int) -> bool:
    found = subprocess.run(
        ["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True
    ).stdout.strip()
    return not found or found.startswith("Z")
