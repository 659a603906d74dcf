"""One task from start to state, as a process of this machine; the same here and on a Ray worker."""

from __future__ import annotations

import contextlib
import ctypes
import dataclasses
import fcntl
import os
import queue
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

from likeness.collection import state
from likeness.collection.state import TaskState
from likeness.collection.tasks import Task
from likeness.scene.errors import UserError
from likeness.scene.files import storage_error
from likeness.scene.reading import read_json

_MB = 1024**2 if sys.platform == "darwin" else 1024  # units of ru_maxrss
_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None) if sys.platform == "linux" else None


class LocalWorkers:
    """Processes of this machine, each of ``threads`` threads and at most ``jobs`` at once.

    gpus: names for CUDA_VISIBLE_DEVICES, one task on each; one that is named twice takes two tasks.
    Tasks that want none see none. Without any (None), all see what this process sees.
    """

    def __init__(self, jobs: int, threads: int, gpus: Sequence[str] | None = None) -> None:
        self.jobs = jobs
        self._threads = threads
        self._gpus: queue.SimpleQueue[str] | None = queue.SimpleQueue() if gpus else None
        for gpu in gpus or ():
            assert self._gpus is not None
            self._gpus.put(gpu)
        self._stopping = threading.Event()
        self._running: set[subprocess.Popen] = set()

    def do(self, task: Task) -> TaskState:
        """Runs a task to its end, which is saved. Raises UserError when its folder cannot be
        written."""
        if self._gpus is None:
            return self.do_on(task, None)
        if not task.gpu:
            return self.do_on(task, "")
        gpu = self._gpus.get()
        try:
            return self.do_on(task, gpu)
        finally:
            self._gpus.put(gpu)

    def do_on(self, task: Task, gpu: str | None) -> TaskState:
        """As ``do``, on this GPU; "" for none, None for those that this process sees."""
        try:
            task.folder.mkdir(parents=True, exist_ok=True)
            with task.log.open("ab") as log:
                if not self._locked(log):
                    return TaskState(state.STOPPED)
                return state.finished(task) or self._run(task, log, gpu)
        except OSError as error:
            raise storage_error(error, task.folder) from error

    def stop(self) -> None:
        """Asks what is running to save itself and end, by SIGTERM; nothing new is started."""
        self._stopping.set()
        for process in list(self._running):
            with contextlib.suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGTERM)

    def kill(self) -> None:
        """Ends what is running, and what that has started, at once."""
        self._stopping.set()
        for process in list(self._running):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)

    def _locked(self, log: IO[bytes]) -> bool:
        """Waits until no other process works on the task: each that does, the program itself too,
        holds its log open with this lock. False when asked to stop before that."""
        while not self._stopping.is_set():
            with contextlib.suppress(BlockingIOError):
                fcntl.flock(log, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return True
            self._stopping.wait(0.2)
        return False

    def _run(self, task: Task, log: IO[bytes], gpu: str | None) -> TaskState:
        before = state.load(task) or TaskState(state.STARTED)
        started = dataclasses.replace(
            before,
            status=state.STARTED,
            options=task.options,
            judged_by=task.judged_by,
            error="",
            reason="",
            attempts=before.attempts + 1,
            host=socket.gethostname(),
            threads=self._threads,
        )
        state.save(task, started)
        if task.result is not None:
            task.result.unlink(missing_ok=True)
        begun, command = time.monotonic(), task.command_now()
        words = " ".join(" ".join(command).split())
        stamp = f"{time.strftime('%Y-%m-%d %H:%M:%S')} {socket.gethostname()}"
        log.write(f"== {stamp}: python {words}\n".encode(errors="backslashreplace"))
        log.flush()
        start = log.tell()
        process = subprocess.Popen(
            [sys.executable, *command],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=environment(self._threads, gpu),
            start_new_session=True,
            preexec_fn=_end_with(os.getpid()),
        )
        self._running.add(process)
        if self._stopping.is_set():
            self.stop()
        try:
            _, status, usage = os.wait4(process.pid, 0)
        except KeyboardInterrupt:  # as a Ray worker is asked to stop
            self.stop()
            _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        self._running.remove(process)
        ended = self._ended(
            task,
            process.returncode,
            start,
            dataclasses.replace(
                started,
                exit_code=process.returncode,
                seconds=round(started.seconds + time.monotonic() - begun, 3),
                cpu_seconds=round(started.cpu_seconds + usage.ru_utime + usage.ru_stime, 3),
                peak_mb=round(max(started.peak_mb, usage.ru_maxrss / _MB), 1),
            ),
        )
        state.save(task, ended)
        if ended.status == state.DONE and task.leftovers is not None:
            shutil.rmtree(task.leftovers, ignore_errors=True)
        return ended

    def _ended(self, task: Task, code: int, log_start: int, measured: TaskState) -> TaskState:
        result = _result(task)
        if code == 0 and task.product.is_file():
            return measured.ended(state.DONE, result=result)
        if code == 0:
            error = f"the program ended well, but {task.product} is not there"
            return measured.ended(state.FAILED, error=error)
        if result.get("refused"):
            error, reason = result["refused"], result["reason"]
            return measured.ended(state.REFUSED, error=error, reason=reason)
        if self._stopping.is_set():
            return measured.ended(state.STOPPED)
        return measured.ended(state.FAILED, error=_error(task.log, log_start, code))


def environment(threads: int, gpu: str | None) -> dict[str, str]:
    """Environment of a process of so many threads. gpu: see ``LocalWorkers.do_on``."""
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS", "LIKENESS_THREADS")
    own = dict.fromkeys(names, str(threads)) | {
        "OPENBLAS_NUM_THREADS": "1",
        "PYTHONUNBUFFERED": "1",
    }
    return {**os.environ, **own} | ({} if gpu is None else {"CUDA_VISIBLE_DEVICES": gpu})


def _error(log: Path, start: int, code: int) -> str:
    """Why a program failed, in one line: its own ``error:``, or the last line of a traceback, or
    how it ended."""
    with log.open("rb") as file:
        file.seek(start)
        text = file.read().decode(errors="replace")
    lines = [line.strip() for line in re.split(r"[\r\n]+", text) if line.strip()]
    for line in lines:
        if line.startswith("error: "):
            return line.removeprefix("error: ")
    if code < 0:
        name = signal.Signals(-code).name
        hint = ": perhaps for want of memory; give fewer --jobs" if name == "SIGKILL" else ""
        return f"ended by {name}{hint}"
    if any(line.startswith("Traceback ") for line in lines):
        return lines[-1]
    return f"ended with code {code}" + (f": {lines[-1]}" if lines else "")


def _result(task: Task) -> dict[str, Any]:
    if task.result is not None and task.result.is_file():
        with contextlib.suppress(UserError):
            return read_json(task.result, dict[str, Any], "result of a task")
    return {}


def _end_with(parent: int):
    """What runs first in the new process: on Linux, it is asked to stop when its parent dies."""

    def tie() -> None:
        if _libc is not None:
            _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
            if os.getppid() != parent:  # it died before the line above
                os._exit(1)

    return tie
