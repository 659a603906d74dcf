"""What is known of a task: a small JSON file beside its log, written whole or not at all."""

from __future__ import annotations

import dataclasses
import time
from typing import Any

from likeness.collection.tasks import Task
from likeness.scene.errors import UserError
from likeness.scene.files import write_json
from likeness.scene.reading import read_versioned

FORMAT_VERSION = 1
DONE, REFUSED, FAILED, STOPPED, STARTED = "done", "refused", "failed", "stopped", "started"


@dataclasses.dataclass(frozen=True)
class TaskState:
    """What became of a task."""

    status: str
    """done; refused: the video is of no use; failed; stopped: on request, resumes later; started:
    running, or killed while it was."""
    options: dict[str, Any] = dataclasses.field(default_factory=dict)
    judged_by: dict[str, Any] = dataclasses.field(default_factory=dict)
    attempts: int = 0
    seconds: float = 0.0
    """Of all attempts that ended while their machine was up; so cpu_seconds."""
    cpu_seconds: float = 0.0
    peak_mb: float = 0.0
    """Largest resident memory of one process."""
    exit_code: int | None = None
    error: str = ""
    """One line; empty unless refused or failed."""
    reason: str = ""
    """What a refusal is about, in a few words."""
    host: str = ""
    threads: int = 0
    ended_at: float = 0.0
    result: dict[str, Any] = dataclasses.field(default_factory=dict)
    """What the program reported of its product."""

    def ended(self, status: str, **changes: Any) -> TaskState:
        return dataclasses.replace(self, status=status, ended_at=round(time.time(), 3), **changes)


def load(task: Task) -> TaskState | None:
    """The task's state; None before its first attempt. Raises UserError when the file is damaged or
    newer."""
    if not task.state.is_file():
        return None
    remedy = "remove it to do the task again"
    state, _ = read_versioned(
        task.state, TaskState, "state of a task", "task", FORMAT_VERSION, remedy=remedy
    )
    return state


def save(task: Task, state: TaskState) -> None:
    """Writes a task's state."""
    header = {"format": "task", "format_version": FORMAT_VERSION}
    write_json(task.state, {**header, **dataclasses.asdict(state)})


def finished(task: Task) -> TaskState | None:
    """The state of a task that need not run: done with its product there, or refused by the same
    limits; else None.

    Raises UserError when it was done with other options: nothing is overwritten.
    """
    state = load(task)
    if state is None or state.judged_by != task.judged_by:
        return None
    if state.status == REFUSED:
        return state if state.options == task.options else None
    if state.status != DONE or not task.product.is_file():  # removed by hand, to be made anew
        return None
    check_options(task, state)
    return state


def check_options(task: Task, state: TaskState) -> None:
    """Raises UserError when a task was done with other options than are asked for now."""
    was, now = state.options, task.options
    changed = sorted(key for key in {*was, *now} if was.get(key) != now.get(key))
    if changed:
        values = ", ".join(f"{key}={was.get(key, '(default)')}" for key in changed)
        raise UserError(
            f"{task.product.parent}: subject {task.subject!r} was made with {values}, and now "
            "something else is asked for; give it another name, choose another --out, or remove "
            "that folder to make it anew"
        )
