"""A program at work in a process of its own: started, watched, stopped; it does not outlive whoever
started it."""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

# between the request to stop and the end by force; a fit saves itself after its current step
GRACE_S = 60.0
_TAIL = 4096
_BAR = re.compile(r"^(?P<what>[^|]*?):?\s+(?P<percent>\d+)%\|")
_PSNR = re.compile(r"train (-?[\d.]+ dB)")
_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None) if sys.platform == "linux" else None


class Child:
    """One run of ``python ARGUMENTS``, whose output goes to the end of a log file.

    After its end: ``code`` (negative: the signal that ended it), ``cpu_seconds`` of all its cores,
    and ``peak_mb``, the largest resident memory in MB that it, or one process that it waited for,
    came to.
    """

    def __init__(self, arguments: Sequence[str], log: Path, environment: Mapping[str, str]) -> None:
        self.code: int | None = None
        self.peak_mb = self.cpu_seconds = 0.0
        self.begun = time.monotonic()
        self._asked: float | None = None
        self._log = log
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as file:
            stamp = time.strftime("%Y-%m-%d %H:%M:%S")
            line = f"== {stamp} {os.uname().nodename}: python {' '.join(' '.join(arguments).split())}\n"
            file.write(line.encode(errors="backslashreplace"))
            self._from = file.tell()
            file.flush()
            self._process = subprocess.Popen(
                [sys.executable, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                env=dict(environment),
                start_new_session=True,
                preexec_fn=_tie(os.getpid()),
            )
        self.pid = self._process.pid

    def poll(self) -> int | None:
        """The exit code, None while it runs. Ends by force what was asked to stop and does not."""
        if self.code is not None:
            return self.code
        pid, status, usage = os.wait4(self.pid, os.WNOHANG)
        if pid == 0:
            if self._asked is not None and time.monotonic() - self._asked > GRACE_S:
                self.kill()
            return None
        self.code = self._process.returncode = os.waitstatus_to_exitcode(status)
        self.cpu_seconds = usage.ru_utime + usage.ru_stime
        self.peak_mb = usage.ru_maxrss / (1024 if sys.platform != "darwin" else 1024**2)
        return self.code

    def stop(self) -> None:
        """Asks it to save itself and end; by SIGTERM, as what shells put in the background is deaf
        to SIGINT."""
        if self._asked is None and self.poll() is None:
            self._asked = time.monotonic()
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGTERM)

    def kill(self) -> None:
        """Ends it and what it started at once."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)

    def wait(self) -> int:
        while (code := self.poll()) is None:
            time.sleep(0.05)
        return code

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.begun

    def progress(self) -> str:
        """As ``last_progress``, of this run alone."""
        return last_progress(self._log, self._from)

    def error(self) -> str:
        """Why it failed, in one line: its own ``error:``, or the last line of a traceback, or how
        it was ended."""
        lines = [line.strip() for line in re.split(r"[\r\n]+", self._text()) if line.strip()]
        for line in lines:
            if line.startswith("error: "):
                return line.removeprefix("error: ")
        if self.code is not None and self.code < 0:
            name = signal.Signals(-self.code).name
            hint = ": perhaps for want of memory; give fewer --jobs" if name == "SIGKILL" else ""
            return f"ended by {name}{hint}"
        if any(line.startswith("Traceback ") for line in lines):
            return lines[-1]
        return f"ended with code {self.code}" + (f": {lines[-1]}" if lines else "")

    def _text(self) -> str:
        try:
            with self._log.open("rb") as file:
                file.seek(self._from)
                return file.read().decode(errors="replace")
        except OSError:
            return ""


def last_progress(log: Path, start: int = 0) -> str:
    """What the last progress bar in a log says, in short: ``fitting the avatar 45%, 31.2 dB``;
    empty without one."""
    try:
        with log.open("rb") as file:
            end = file.seek(0, os.SEEK_END)
            file.seek(max(start, end - _TAIL))
            tail = file.read(_TAIL).decode(errors="replace")
    except OSError:
        return ""
    for line in reversed(re.split(r"[\r\n]+", tail)):
        if match := _BAR.match(line):
            psnr = _PSNR.search(line)
            return f"{match['what'].strip()} {match['percent']}%" + (f", {psnr[1]}" if psnr else "")
    return ""


def _tie(parent: int):
    """What runs in the new process first: on Linux, let it be asked to stop when the process that
    started it dies."""

    def tie() -> None:
        if _libc is not None:
            _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
            if os.getppid() != parent:  # it died before the line above
                os._exit(1)

    return tie
