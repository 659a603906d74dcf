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
FINISHED = (DONE, REFUSED)  # is not run again


@dataclasses.dataclass(frozen=True)
class TaskState:
    """status: done; refused: the program says that its input is of no use; failed; stopped: on
    request, goes on later;
    started: at work, or killed while it was (the claim tells which).

    seconds, cpu_seconds: over all attempts that did not lose their machine. peak_mb: largest
    resident memory of one process. error: one line, empty unless refused or failed. reason: what a
    refusal is about, in a few words. result: what the program said of its product.
    """

    status: str
    options: dict[str, Any] = dataclasses.field(default_factory=dict)
    judged_by: dict[str, Any] = dataclasses.field(default_factory=dict)
    attempts: int = 0
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    peak_mb: float = 0.0
    exit_code: int | None = None
    error: str = ""
    reason: str = ""
    host: str = ""
    threads: int = 0
    ended_at: float = 0.0
    result: dict[str, Any] = dataclasses.field(default_factory=dict)

    def ended(self, status: str, **changes: Any) -> TaskState:
        return dataclasses.replace(self, status=status, ended_at=round(time.time(), 3), **changes)


def load(task: Task) -> TaskState | None:
    """The task's state; None before its first attempt. Raises UserError when the file is damaged or
    newer."""
    if not task.state.is_file():
        return None
    state, _ = read_versioned(
        task.state,
        TaskState,
        "state of a task",
        "task",
        FORMAT_VERSION,
        remedy="remove it to do the task again",
    )
    return state


def save(task: Task, state: TaskState) -> None:
    """Writes a task's state."""
    write_json(
        task.state,
        {"format": "task", "format_version": FORMAT_VERSION, **dataclasses.asdict(state)},
    )


def finished(task: Task) -> TaskState | None:
    """The state of a task that need not be run: done with its product there, or refused; by the
    same limits.

    Raises UserError when it was done with other options: nothing is overwritten.
    """
    state = load(task)
    if state is None or state.status not in FINISHED or state.judged_by != task.judged_by:
        return None
    if state.status == DONE and not task.product.is_file():
        return None  # removed by hand, to be made anew
    if state.status == REFUSED and state.options != task.options:
        return None
    check_options(task, state)
    return state


def check_options(task: Task, state: TaskState) -> None:
    """Raises UserError when a task was done with other options than are asked for now."""
    if state.options == task.options:
        return
    changed = sorted(
        key
        for key in {*state.options, *task.options}
        if state.options.get(key) != task.options.get(key)
    )
    was = ", ".join(f"{key}={state.options.get(key, '(default)')}" for key in changed)
    raise UserError(
        f"{task.product.parent}: subject {task.subject!r} was made with {was}, and now something else is asked "
        "for; give it another name, choose another --out, or remove that folder to make it anew"
    )
