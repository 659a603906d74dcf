"""Hands out tasks until all are finished or have failed: the same loop over this machine's
processes or a cluster's."""

from __future__ import annotations

import dataclasses
import time
from collections import deque
from collections.abc import Sequence
from typing import Protocol

from likeness.collection import state, work
from likeness.collection.resources import Memory
from likeness.collection.state import TaskState
from likeness.collection.tasks import Task
from likeness.collection.view import View

_TICK_S = 0.1
_LOOK_AGAIN_S = 3.0  # at tasks that somebody else works on


class Handle(Protocol):
    """A task at work (``work.Running`` is one)."""

    task: Task

    def poll(self) -> TaskState | None: ...
    def stop(self) -> None: ...
    def abandon(self) -> TaskState: ...


class Pool(Protocol):
    """Where tasks run."""

    def has_room(self, task: Task) -> bool: ...
    def start(self, task: Task) -> Handle | TaskState | None: ...
    def ended(self, handle: Handle, ended: TaskState) -> None: ...
    def progress(self, handle: Handle) -> str: ...


class LocalPool:
    """Processes of this machine: at most ``jobs`` of them, as memory allows, and one task on each
    of ``gpus``.

    gpus: names for CUDA_VISIBLE_DEVICES; one that is named twice takes two tasks. Without any,
    tasks that want a GPU run like all others.
    """

    def __init__(
        self,
        jobs: int,
        threads: int,
        memory_mb: float,
        gpus: Sequence[str] = (),
        stale_s: float | None = None,
    ) -> None:
        self._jobs, self._threads = jobs, threads
        self._memory = Memory(memory_mb)
        self._has_gpus, self._free_gpus = bool(gpus), list(gpus)
        self._running: list[work.Running] = []
        self._timing = {} if stale_s is None else {"stale_s": stale_s, "beat_s": stale_s / 6}

    def has_room(self, task: Task) -> bool:
        if len(self._running) >= self._jobs or (
            task.gpu and self._has_gpus and not self._free_gpus
        ):
            return False
        return self._memory.fits(task.stage, [running.task.stage for running in self._running])

    def start(self, task: Task) -> work.Running | TaskState | None:
        gpu = None if not self._has_gpus else self._free_gpus[0] if task.gpu else ""
        handle = work.start(task, self._threads, gpu, **self._timing)
        if isinstance(handle, work.Running):
            self._running.append(handle)
            if gpu:
                self._free_gpus.remove(gpu)
        return handle

    def ended(self, handle: work.Running, ended: TaskState) -> None:
        self._running.remove(handle)
        self._memory.note(handle.task.stage, handle.child.peak_mb)
        if handle.gpu:
            self._free_gpus.append(handle.gpu)

    def progress(self, handle: work.Running) -> str:
        return handle.child.progress()


@dataclasses.dataclass(frozen=True)
class Outcome:
    """How it went. chains: the tasks of each subject in their order; states: of each task that was
    looked at."""

    chains: tuple[tuple[Task, ...], ...]
    states: dict[str, TaskState]
    ran: frozenset[str]
    """Keys of the tasks that were at work in this call."""

    @property
    def failures(self) -> list[tuple[Task, TaskState]]:
        found = ((task, self.states.get(task.key)) for chain in self.chains for task in chain)
        return [
            (task, got) for task, got in found if got is not None and got.status == state.FAILED
        ]


def run(chains: Sequence[Sequence[Task]], pool: Pool, view: View) -> Outcome:
    """Does the tasks of each chain one after the other, of many chains side by side; finished ones
    are passed over.

    Those that are further along come first, so that subjects get finished. A chain ends where a
    task fails or is refused. Ctrl-C stops what is at work, so that it can go on later, and is
    raised again.
    """
    loop = _Loop(tuple(tuple(chain) for chain in chains), pool, view)
    try:
        loop.turn_until_done()
    except BaseException:
        loop.stop()
        raise
    finally:
        view.close()
    return Outcome(loop.chains, loop.states, frozenset(loop.ran))


class _Loop:
    def __init__(self, chains: tuple[tuple[Task, ...], ...], pool: Pool, view: View) -> None:
        self.chains, self.states, self.ran = chains, {}, set()
        self._pool, self._view = pool, view
        self._next: dict[str, tuple[int, Task | None]] = {}
        self._behind: dict[str, int] = {}
        self._waiting: dict[int, deque[Task]] = {}  # by place in the chain
        self._elsewhere: list[tuple[float, Task]] = []
        self._running: list[Handle] = []
        for chain in chains:
            for place, task in enumerate(chain):
                self._next[task.key] = (place, chain[place + 1] if place + 1 < len(chain) else None)
                self._behind[task.key] = len(chain) - place - 1
        for chain in chains:
            self._resume(chain)
        view.begin(sum(map(len, chains)), self.states)

    def turn_until_done(self) -> None:
        while any(self._waiting.values()) or self._running or self._elsewhere:
            changed = self._collect()
            self._look_again()
            changed |= self._start()
            self._view.show(
                [(h.task, self._pool.progress(h)) for h in self._running], len(self._elsewhere)
            )
            if not changed:
                time.sleep(_TICK_S)

    def stop(self) -> None:
        """Asks all that is at work to stop and waits for it; a second Ctrl-C ends it at once."""
        try:
            self._view.stopping(len(self._running))
            for handle in self._running:
                handle.stop()
            while self._running:
                self._collect()
                time.sleep(_TICK_S)
        except KeyboardInterrupt:
            for handle in self._running:
                handle.abandon()

    def _resume(self, chain: tuple[Task, ...]) -> None:
        """Queues the task of a chain that comes after the last finished one. What came before that
        has served, and may be gone by now (a capture takes much room), as long as it was made with
        these options."""
        found = [state.finished(task) for task in chain]
        begun = max((place + 1 for place, got in enumerate(found) if got is not None), default=0)
        for task, got in zip(chain[:begun], found):
            if got is None and (got := state.load(task)) is not None:
                state.check_options(task, got)
            self.states[task.key] = got or TaskState(state.DONE)
        refused = begun > 0 and self.states[chain[begun - 1].key].status == state.REFUSED
        if begun < len(chain) and not refused:
            self._queue(chain[begun])

    def _queue(self, task: Task) -> None:
        self._waiting.setdefault(self._next[task.key][0], deque()).append(task)

    def _collect(self) -> bool:
        """Takes in what has ended."""
        ended = [(handle, got) for handle in self._running if (got := handle.poll()) is not None]
        for handle, got in ended:
            self._running.remove(handle)
            self._pool.ended(handle, got)
            self._note(handle.task, got)
        return bool(ended)

    def _note(self, task: Task, got: TaskState) -> None:
        self.states[task.key] = got
        following = self._next[task.key][1]
        self._view.ended(task, got, 0 if got.status == state.DONE else self._behind[task.key])
        if got.status == state.DONE and following is not None:
            done = state.finished(following)
            if done is None:
                self._queue(following)
            else:
                self._note(following, done)

    def _look_again(self) -> None:
        now = time.monotonic()
        for entry in [entry for entry in self._elsewhere if entry[0] <= now]:
            self._elsewhere.remove(entry)
            self._queue(entry[1])

    def _start(self) -> bool:
        """Starts what there is room for, the furthest along first."""
        started = False
        for place in sorted(self._waiting, reverse=True):
            waiting = self._waiting[place]
            while waiting and self._pool.has_room(waiting[0]):
                task = waiting.popleft()
                handle = self._pool.start(task)
                if handle is None:
                    self._elsewhere.append((time.monotonic() + _LOOK_AGAIN_S, task))
                elif isinstance(handle, TaskState):
                    self._note(task, handle)
                else:
                    self._running.append(handle)
                    self.ran.add(task.key)
                    started = True
        return started
