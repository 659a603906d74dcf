"""Who is at work on a task: claims that survive nothing but their owner, on one machine or on a
shared folder.

A claim is a file ``STAGE.claim-N`` made with O_EXCL; the highest N counts. Its owner touches it
every few seconds. A
claim whose owner is gone is never removed or rewritten by others: they make number N + 1, which
only one of them can, and only if no higher one is there by then. So there is no moment at which two
think that they own a task, save that an owner that slept through its time notices so at its next
touch.

Times are compared by the file system's own clock, so that machines whose clocks differ agree.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import socket
import time
import uuid
from pathlib import Path
from typing import Annotated, Any

import msgspec

from likeness.scene.errors import UserError
from likeness.scene.files import storage_error
from likeness.scene.reading import read_json

BEAT_S = 10.0
STALE_S = 60.0


class _Owner(msgspec.Struct):
    """What a claim holds: the machine, and its processes with the times at which they began."""

    machine: Annotated[str, msgspec.Meta(max_length=1000)]
    processes: Annotated[
        list[tuple[Annotated[int, msgspec.Meta(ge=1, lt=2**31)], str | None]],
        msgspec.Meta(min_length=1, max_length=9),
    ]


@dataclasses.dataclass
class Claim:
    """A claim that is ours. ``path`` is its file."""

    path: Path
    number: int
    beat_s: float = BEAT_S
    _last_beat: float = dataclasses.field(default_factory=time.monotonic)

    def name_child(self, pid: int) -> None:
        """Notes the process at work, which may outlive us for a moment."""
        with contextlib.suppress(FileNotFoundError), self.path.open("r+") as file:
            json.dump(_owner(pid), file)
            file.truncate()

    def beat(self) -> bool:
        """Call this often: says that we are alive when it is time to. False: somebody else has
        taken over."""
        if time.monotonic() - self._last_beat < self.beat_s:
            return True
        try:
            os.utime(self.path)
        except FileNotFoundError:
            return False
        self._last_beat = time.monotonic()
        return _highest(self.path) == self.number

    def release(self) -> None:
        """Ends the claim. Write what came of the task before."""
        self.path.unlink(missing_ok=True)


def take(
    folder: Path, stage: str, *, beat_s: float = BEAT_S, stale_s: float = STALE_S
) -> Claim | None:
    """Claims a task of a folder (made if need be); None while somebody else owns it.

    stale_s: seconds without a touch after which an owner on another machine counts as gone; on this
    machine its processes tell. Raises UserError when the folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        top = _top(folder, stage)
        if top is not None and _alive(_path(folder, stage, top), stale_s):
            return None
        number = 1 if top is None else top + 1
        path = _path(folder, stage, number)
        try:
            handle = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)
        except FileExistsError:
            return None
        with os.fdopen(handle, "w") as file:
            json.dump(_owner(), file)
        # a slower look at the folder than somebody else's whole work
        if _top(folder, stage) != number:
            path.unlink(missing_ok=True)
            return None
        return Claim(path, number, beat_s)
    except OSError as error:
        raise storage_error(error, folder) from error


def owner(folder: Path, stage: str) -> str:
    """The machine and process of the claim that counts, for people; empty without one."""
    top = _top(folder, stage)
    found = None if top is None else _read(_path(folder, stage, top))
    return (
        "" if found is None else f"{found.machine.split('/')[0]}, process {found.processes[0][0]}"
    )


def _path(folder: Path, stage: str, number: int) -> Path:
    return folder / f"{stage}.claim-{number}"


def _top(folder: Path, stage: str) -> int | None:
    numbers = (
        name.rpartition("-")[2] for name in os.listdir(folder) if name.startswith(f"{stage}.claim-")
    )
    return max((int(number) for number in numbers if number.isdecimal()), default=None)


def _highest(path: Path) -> int | None:
    return _top(path.parent, path.name.partition(".claim-")[0])


def _alive(path: Path, stale_s: float) -> bool:
    try:
        found, touched = _read(path), path.stat().st_mtime
    except FileNotFoundError:  # released just now; whoever looks next will find it free
        return True
    if found is not None and found.machine == machine():
        return any(_started(pid) == started for pid, started in found.processes)
    return _now(path.parent) - touched < stale_s


def _now(folder: Path) -> float:
    """Seconds by the clock of the file system that holds the folder."""
    probe = folder / f".clock-{uuid.uuid4().hex}"
    try:
        probe.touch()
        return probe.stat().st_mtime
    finally:
        probe.unlink(missing_ok=True)


def _read(path: Path) -> _Owner | None:
    """The owner; None when it is just being written, or is none of ours. Raises
    FileNotFoundError."""
    if not path.is_file():
        raise FileNotFoundError(path)
    try:
        return read_json(path, _Owner, "owner of a task")
    except UserError:
        return None


def _owner(child: int | None = None) -> dict[str, Any]:
    pids = [os.getpid()] + ([child] if child is not None else [])
    return {"machine": machine(), "processes": [[pid, _started(pid)] for pid in pids]}


def machine() -> str:
    """Names the space in which process numbers mean something: host, boot, and container."""
    parts = [socket.gethostname()]
    with contextlib.suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text().strip())
        parts.append(os.readlink("/proc/self/ns/pid"))
    return "/".join(parts)


def _started(pid: int) -> str | None:
    """When a process began, in the system's ticks, so that a number used again is told apart; None:
    no such process."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        # a dead one that nobody has waited for is dead
        return None if fields[0] in "ZX" else fields[19]
    except OSError:
        pass
    if Path("/proc/self/stat").exists():
        return None
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return None
    except PermissionError:
        pass
    return "unknown"
