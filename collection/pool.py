"""Runs the tasks of many subjects side by side until all are finished or have failed."""

from __future__ import annotations

import contextlib
import dataclasses
import sys
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed, wait
from typing import Protocol

from tqdm import tqdm

from likeness.collection import state
from likeness.collection.state import TaskState
from likeness.collection.tasks import Task
from likeness.scene.errors import one_line

GRACE_S = 60.0  # between the request to stop and the end by force; a fit saves itself in a step
_MAX_NAMED = 3  # tasks at work whose names the progress bar shows


class Workers(Protocol):
    """Where tasks run: ``work.LocalWorkers``, ``ray_cluster.RayWorkers``."""

    jobs: int

    def do(self, task: Task) -> TaskState:
        """Runs a task to its end; called in a thread for each."""
        ...

    def stop(self) -> None:
        """Asks what is running to save itself and end."""
        ...

    def kill(self) -> None:
        """Ends what is running at once."""
        ...


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What became of the tasks."""

    chains: tuple[tuple[Task, ...], ...]
    """The tasks of each subject in their order."""
    states: dict[str, TaskState] = dataclasses.field(default_factory=dict)
    """Of each task that was looked at, by its key."""
    ran: set[str] = dataclasses.field(default_factory=set)
    """Keys of the tasks that ran in this call."""

    @property
    def failures(self) -> list[tuple[Task, TaskState]]:
        tasks = [task for chain in self.chains for task in chain if task.key in self.states]
        states = [(task, self.states[task.key]) for task in tasks]
        return [(task, got) for task, got in states if got.status == state.FAILED]


def run(chains: Sequence[Sequence[Task]], workers: Workers, label: str) -> Outcome:
    """Runs the tasks of each chain one after the other, of ``workers.jobs`` chains side by side;
    finished ones are skipped. label: of the progress bar.

    A chain ends where a task fails or is refused. Ctrl-C stops what is running so that it can
    resume later, and is raised again; a second one ends it at once.
    """
    outcome = Outcome(tuple(tuple(chain) for chain in chains))
    pending = [rest for chain in outcome.chains if (rest := _pending(chain, outcome.states))]
    progress = _Progress(label, outcome, sum(map(len, pending)))
    executor = ThreadPoolExecutor(workers.jobs)
    futures = [executor.submit(_run_chain, rest, workers, outcome, progress) for rest in pending]
    try:
        for future in as_completed(futures):
            future.result()
    except BaseException:
        executor.shutdown(wait=False, cancel_futures=True)
        progress.stopping()
        with contextlib.suppress(KeyboardInterrupt):
            workers.stop()
            wait(futures, timeout=GRACE_S)
        workers.kill()
        raise
    finally:
        executor.shutdown()
        progress.close()
    return outcome


def _pending(chain: tuple[Task, ...], states: dict[str, TaskState]) -> tuple[Task, ...]:
    """The tasks after the last finished one. What came before that may be gone by now (a capture
    takes much room), as long as it was made with these options."""
    finished = [state.finished(task) for task in chain]
    first = max((at + 1 for at, got in enumerate(finished) if got is not None), default=0)
    for task, got in zip(chain[:first], finished):
        if got is None and (got := state.load(task)) is not None:
            state.check_options(task, got)
        states[task.key] = got or TaskState(state.DONE)
        if states[task.key].status == state.REFUSED:
            return ()
    return chain[first:]


def _run_chain(
    tasks: tuple[Task, ...], workers: Workers, outcome: Outcome, progress: _Progress
) -> None:
    for at, task in enumerate(tasks):
        progress.started(task)
        got = workers.do(task)
        outcome.states[task.key] = got
        outcome.ran.add(task.key)
        progress.ended(task, got, 0 if got.status == state.DONE else len(tasks) - at - 1)
        if got.status != state.DONE:
            return


class _Progress:
    """One bar on stderr that counts tasks; failures are written above it when they happen."""

    def __init__(self, label: str, outcome: Outcome, pending: int) -> None:
        self._counts = dict.fromkeys((state.REFUSED, state.FAILED), 0)
        self._running: dict[str, None] = {}
        self._lock = threading.Lock()
        finished, every_s = len(outcome.states), 1.0 if sys.stderr.isatty() else 30.0
        total = finished + pending
        if finished:
            print(f"{finished} of {total} tasks were finished before", file=sys.stderr)
        self._bar = tqdm(
            total=total,
            initial=finished,
            desc=label,
            unit="task",
            dynamic_ncols=True,
            mininterval=every_s,
        )

    def started(self, task: Task) -> None:
        with self._lock:
            self._running[task.key] = None
            self._describe()

    def ended(self, task: Task, got: TaskState, blocked: int) -> None:
        """blocked: tasks that will not be done because of this one."""
        with self._lock:
            self._running.pop(task.key)
            if got.status in self._counts:
                self._counts[got.status] += 1
                line = f"{got.status}: {task.subject}: {task.stage}: {one_line(got.error)}"
                self._bar.write(line, file=sys.stderr)
            self._describe()
            if got.status != state.STOPPED:
                self._bar.total -= blocked
                self._bar.update()

    def stopping(self) -> None:
        if self._running:
            line = f"stopping: {len(self._running)} tasks save themselves; Ctrl-C ends them at once"
            self._bar.write(line, file=sys.stderr)

    def close(self) -> None:
        self._bar.close()

    def _describe(self) -> None:
        counts = [f"{number} {status}" for status, number in self._counts.items() if number]
        names = [*self._running][:_MAX_NAMED]
        more = [f"and {len(self._running) - _MAX_NAMED} more"] * (len(self._running) > _MAX_NAMED)
        self._bar.set_postfix_str(", ".join([*counts, *names, *more]), refresh=False)
