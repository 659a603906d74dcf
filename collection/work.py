"""One task from claim to state: the same steps on this machine, in a Slurm job and on a Ray
worker."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import shutil
import socket
from typing import Any

from likeness.collection import claims, state
from likeness.collection.child import Child
from likeness.collection.claims import Claim
from likeness.collection.state import TaskState
from likeness.collection.tasks import Task
from likeness.scene.errors import UserError
from likeness.scene.reading import read_json


@dataclasses.dataclass
class Running:
    """A task at work. Call ``poll`` every second or so: it also keeps the claim alive."""

    task: Task
    child: Child
    gpu: str | None
    _claim: Claim
    _state: TaskState
    _stopping: bool = False
    _lost: bool = False

    def poll(self) -> TaskState | None:
        """The state that the task has ended in, saved; None while it runs."""
        if not self._lost and not self._claim.beat():
            self._lost = True
            # somebody took us for dead and works on it: what we do from here on would be in the way
            self.child.kill()
        code = self.child.poll()
        if code is None:
            return None
        ended = self._ended(code)
        if not self._lost:
            state.save(self.task, ended)
            if ended.status == state.DONE and self.task.leftovers is not None:
                shutil.rmtree(self.task.leftovers, ignore_errors=True)
        self._claim.release()
        return ended

    def stop(self) -> None:
        """Asks for an end; the task can go on later."""
        self._stopping = True
        self.child.stop()

    def abandon(self) -> TaskState:
        """Ends it at once, as far as it is."""
        self._stopping = True
        self.child.kill()
        self.child.wait()
        ended = self.poll()
        assert ended is not None
        return ended

    def _ended(self, code: int) -> TaskState:
        figures = {
            "exit_code": code,
            "seconds": round(self._state.seconds + self.child.seconds, 3),
            "cpu_seconds": round(self._state.cpu_seconds + self.child.cpu_seconds, 3),
            "peak_mb": round(max(self._state.peak_mb, self.child.peak_mb), 1),
        }
        result = _result(self.task)
        if self._lost:
            return self._state.ended(
                state.STOPPED, **figures, error="taken over by another machine"
            )
        if code == 0 and self.task.product.is_file():
            return self._state.ended(state.DONE, **figures, result=result)
        if code == 0:
            error = f"the program ended well, but {self.task.product} is not there"
            return self._state.ended(state.FAILED, **figures, error=error)
        if result.get("refused"):
            return self._state.ended(
                state.REFUSED, **figures, error=result["refused"], reason=result["reason"]
            )
        if self._stopping:
            return self._state.ended(state.STOPPED, **figures)
        return self._state.ended(state.FAILED, **figures, error=self.child.error())


def start(
    task: Task,
    threads: int,
    gpu: str | None = None,
    *,
    beat_s: float = claims.BEAT_S,
    stale_s: float = claims.STALE_S,
) -> Running | TaskState | None:
    """Takes up a task; its state if it is finished by now; None while somebody else works on it.

    gpu: the CUDA device it may use, "" for none, None for what there is. Raises UserError when its
    folder cannot be written.
    """
    claim = claims.take(task.folder, task.stage, beat_s=beat_s, stale_s=stale_s)
    if claim is None:
        return None
    try:
        if (done := state.finished(task)) is not None:
            claim.release()
            return done
        before = state.load(task) or TaskState(state.STARTED)
        now = dataclasses.replace(
            before,
            status=state.STARTED,
            options=task.options,
            judged_by=task.judged_by,
            error="",
            reason="",
            attempts=before.attempts + 1,
            host=socket.gethostname(),
            threads=threads,
        )
        state.save(task, now)
        if task.result is not None:
            task.result.unlink(missing_ok=True)
        child = Child(task.command_now(), task.log, environment(threads, gpu))
    except BaseException:
        claim.release()
        raise
    claim.name_child(child.pid)
    return Running(task, child, gpu, claim, now)


def environment(threads: int, gpu: str | None) -> dict[str, str]:
    """Environment of a child that uses so many threads."""
    found = dict(os.environ)
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS", "LIKENESS_THREADS"):
        found[name] = str(threads)
    found["OPENBLAS_NUM_THREADS"] = "1"
    found["PYTHONUNBUFFERED"] = "1"
    if gpu is not None:
        found["CUDA_VISIBLE_DEVICES"] = gpu
    return found


def _result(task: Task) -> dict:
    if task.result is None or not task.result.is_file():
        return {}
    with contextlib.suppress(UserError):
        return read_json(task.result, dict[str, Any], "result of a task")
    return {}
