"""One line that shows all tasks: how many are done, at work and failed, and how far those at work
are."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence

from likeness.collection import state
from likeness.collection.state import TaskState
from likeness.collection.tasks import Task
from likeness.scene.errors import one_line

_EVERY_S = {True: 1.0, False: 30.0}  # on a terminal, in a log file
_NAMED = 3  # tasks at work whose progress is spelt out


class View:
    """A progress bar over tasks on stderr; every failure is written above it when it happens."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._bar = None
        self._counts = dict.fromkeys((state.DONE, state.REFUSED, state.FAILED), 0)
        self._shown = float("-inf")
        self._every_s = _EVERY_S[sys.stderr.isatty()]

    def begin(self, total: int, finished: Mapping[str, TaskState]) -> None:
        """``finished``: what was so before, which does not count for the speed."""
        from tqdm import tqdm

        if finished:
            print(f"{len(finished)} of {total} tasks were finished before", file=sys.stderr)
        self._bar = tqdm(
            total=total,
            initial=len(finished),
            desc=self._what,
            unit="task",
            dynamic_ncols=True,
            mininterval=self._every_s,
        )

    def show(self, running: Sequence[tuple[Task, str]], elsewhere: int) -> None:
        if self._bar is None or time.monotonic() - self._shown < self._every_s:
            return
        self._shown = time.monotonic()
        parts = [f"{len(running)} running"]
        parts += [f"{elsewhere} elsewhere"] if elsewhere else []
        parts += [
            f"{number} {status}"
            for status, number in self._counts.items()
            if number and status != state.DONE
        ]
        named = "; ".join(
            f"{task.subject}: {progress or task.stage}" for task, progress in running[:_NAMED]
        )
        self._bar.set_postfix_str(", ".join(parts) + (f" | {named}" if named else ""))

    def ended(self, task: Task, got: TaskState, blocked: int = 0) -> None:
        """``blocked``: tasks that will not be done because of this one."""
        if got.status in self._counts:
            self._counts[got.status] += 1
        if self._bar is None:
            return
        if got.status in (state.FAILED, state.REFUSED):
            self._bar.write(
                f"{got.status}: {task.subject}: {task.stage}: {one_line(got.error)}",
                file=sys.stderr,
            )
        if got.status != state.STOPPED:
            self._bar.total -= blocked
            self._bar.update()

    def stopping(self, running: int) -> None:
        if self._bar is not None and running:
            note = f"stopping: {running} tasks save themselves; Ctrl-C once more ends them at once"
            self._bar.write(note, file=sys.stderr)

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None
