"""Reads damaged files by every reader, and shows what came of each: accepted, refused in one clear
line, or bad.

    python -m benchmarks.damaged_files         10,000 files and more, the same ones each time
    python -m benchmarks.damaged_files --only capture --cases 2000 --seed 7

Bad is whatever is not a UserError of one line of at most 500 printable characters: another
exception, a crash, more than --memory MB beside what the reader held before, more than --seconds.
Readers run in processes of their own, which end with this one; a crash counts for the file that was
being read, and the next ones go on. Exit code 1 with any bad.
"""

from __future__ import annotations

import dataclasses
import importlib
import logging
import multiprocessing
import os
import shutil
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path

from benchmarks.common import figures
from benchmarks.common.damage import Reader, damaged
from likeness.cli import command_line
from likeness.cli.command_line import positive_int, positive_number
from likeness.scene.files import check_writable, write_json

ACCEPTED, REFUSED, BAD = "accepted", "refused", "bad"
_START_S = 180.0  # to import, to make the files, and to compile kernels for the first time


@dataclasses.dataclass(frozen=True)
class Case:
    """One damaged file: the reader's name, and the number from which its damage is drawn."""

    reader: str
    number: int


@dataclasses.dataclass(frozen=True)
class Result:
    """outcome: ACCEPTED, REFUSED or BAD. said: the message, or what was wrong. megabytes: taken
    beside what was there before; seconds: of the reading."""

    case: Case
    outcome: str
    said: str = ""
    megabytes: float = 0.0
    seconds: float = 0.0


@dataclasses.dataclass(frozen=True)
class Limits:
    """Of one file."""

    megabytes: float = 400.0
    seconds: float = 10.0


class _Files:
    """The valid files of a reader in a folder; one at a time is damaged and put back."""

    def __init__(self, reader: Reader, folder: Path) -> None:
        self.reader, self.folder = reader, folder
        folder.mkdir(parents=True)
        self.targets = self.reader.make(folder)
        self.reader.read(folder)  # what is whole is accepted, or nothing below means anything
        self.whole = {
            p: p.read_bytes()
            for p in folder.rglob("*")
            if p.is_file() and not p.name.startswith(".")
        }

    def damage(self, case: Case, seed: int) -> None:
        name, kind = self.targets[case.number % len(self.targets)]
        path = self.folder / name
        path.write_bytes(damaged(self.whole[path], kind, f"{seed} {case.reader} {case.number}"))

    def restore(self) -> None:
        shutil.rmtree(self.folder)
        for path, content in self.whole.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)


def _work(
    connection: Connection, folder: Path, cases: list[Case], seed: int, limits: Limits, module: str
) -> None:
    """In a process of its own: says each case's number before it is read, and its result after."""
    command_line.set_up_environment()
    readers = importlib.import_module(module).READERS
    files: dict[str, _Files] = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logging.disable(logging.CRITICAL)  # what readers say beside their exceptions
        for position, case in enumerate(cases):
            if case.reader not in files:
                files[case.reader] = _Files(readers[case.reader], folder / str(len(files)))
            kept = files[case.reader]
            kept.damage(case, seed)
            connection.send(position)
            connection.send(_outcome(kept, case, limits))
            kept.restore()
    connection.send(None)


def _outcome(files: _Files, case: Case, limits: Limits) -> Result:
    from likeness.scene.errors import MAX_MESSAGE, UserError

    before, begun, problem, message = _peak_mb(reset=True), time.monotonic(), "", None
    try:
        files.reader.read(files.folder)
    except UserError as error:
        message = str(error)
        if len(message) > MAX_MESSAGE or not message.isprintable():
            problem = f"a message of {len(message)} characters, printable: {message.isprintable()}"
        elif "allocate" in message:
            problem = f"memory: {message}"
    except BaseException as error:  # noqa: BLE001 (whatever it is, it is what is looked for)
        where = traceback.extract_tb(error.__traceback__)[-1]
        line = f"{Path(where.filename).name}:{where.lineno}"
        problem = f"{type(error).__name__}: {str(error)[:200]!r} ({line})"
    seconds, megabytes = time.monotonic() - begun, max(_peak_mb() - before, 0.0)
    if not problem and megabytes > limits.megabytes:
        problem = f"took {megabytes:.0f} MB"
    if not problem and seconds > limits.seconds:
        problem = f"took {seconds:.1f} s"
    outcome = BAD if problem else ACCEPTED if message is None else REFUSED
    return Result(case, outcome, problem or message or "", round(megabytes, 1), round(seconds, 3))


def _peak_mb(reset: bool = False) -> float:
    """The most memory that this process held at once since the last reset, where the system tells;
    else 0."""
    try:
        if reset:
            Path("/proc/self/clear_refs").write_text("5")
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024
    except (OSError, StopIteration):
        return 0.0


def read_damaged(
    cases: list[Case],
    seed: int = 0,
    limits: Limits = Limits(),
    module: str = "benchmarks.common.damaged_readers",
    watch: Callable[[Result], None] = lambda result: None,
) -> list[Result]:
    """The results of all cases. Workers that crash or hang are replaced; their case is bad.

    module: whose READERS they are. watch: sees each result as it comes.
    """
    context, results = multiprocessing.get_context("spawn"), []
    while len(results) < len(cases):
        with tempfile.TemporaryDirectory(prefix="damaged-") as folder:
            ours, theirs = context.Pipe()
            left = cases[len(results) :]
            worker = context.Process(
                target=_work, args=(theirs, Path(folder), left, seed, limits, module), daemon=True
            )
            worker.start()
            theirs.close()
            done, problem = _follow(ours, worker, limits, watch)
            results += done
            if problem and len(results) < len(cases):
                results.append(Result(cases[len(results)], BAD, problem))
                watch(results[-1])
    return results


def _follow(
    connection: Connection, worker: BaseProcess, limits: Limits, watch: Callable[[Result], None]
) -> tuple[list[Result], str]:
    """What a worker did, and how it ended if that was before its time."""
    done: list[Result] = []
    reading = False
    try:
        while connection.poll(3 * limits.seconds if reading else _START_S):
            message = connection.recv()
            if message is None:
                return done, ""
            reading = isinstance(message, int)
            if isinstance(message, Result):
                done.append(message)
                watch(message)
        return done, f"no end after {3 * limits.seconds:g} s"
    except (EOFError, ConnectionError):
        worker.join(10)
        if not reading:
            raise RuntimeError(
                f"the worker ended with {worker.exitcode} between files; see above"
            ) from None
        return done, f"the process ended with {worker.exitcode}"
    finally:
        worker.kill()
        worker.join()


def table(results: list[Result]) -> str:
    """A line for each reader, and the bad ones."""
    readers = list(dict.fromkeys(result.case.reader for result in results))
    rows = []
    for reader in [*readers, ""]:
        part = [result for result in results if reader in ("", result.case.reader)]
        outcomes = [result.outcome for result in part]
        counts = [outcomes.count(kind) for kind in (ACCEPTED, REFUSED, BAD)]
        most, slowest = max(r.megabytes for r in part), max(r.seconds for r in part)
        rows.append((reader or "all", len(part), *counts, f"{most:.0f}", f"{slowest:.2f}"))
    titles = ("reader", "files", ACCEPTED, REFUSED, BAD, "most MB", "slowest s")
    bad = [result for result in results if result.outcome == BAD]
    lines = (f"bad: {r.case.reader}, number {r.case.number}: {r.said}" for r in bad)
    return "\n".join([figures.table(titles, rows), *lines])


def main() -> int:
    from tqdm import tqdm

    from benchmarks.common.damaged_readers import READERS
    from likeness.scene.machine import machine

    options = figures.parser(__doc__)
    add = options.add_argument
    add("--cases", type=positive_int, default=420, metavar="N", help="for each reader [420]")
    add("--seed", type=int, default=0, metavar="N", help="another one is another set of files")
    add("--only", metavar="TEXT", help="readers whose name holds it")
    add("--memory", type=positive_number, default=400.0, metavar="MB", help="most of a file [400]")
    add("--seconds", type=positive_number, default=10.0, metavar="S", help="longest [10]")
    args = options.parse_args()
    if args.json:
        check_writable(args.json)
    names = [name for name in READERS if not args.only or args.only in name]
    if not names:
        options.error(f"--only {args.only}: no such reader; known: {', '.join(READERS)}")
    if os.name == "posix" and os.getpgrp() != os.getpid():
        os.setpgrp()  # what is started here can be ended together
    cases = [Case(name, number) for name in names for number in range(args.cases)]
    begun = time.monotonic()
    with tqdm(total=len(cases), unit="file", disable=None) as bar:

        def watch(result: Result) -> None:
            bar.update()
            if result.outcome == BAD:
                bar.write(
                    f"bad: {result.case.reader}, number {result.case.number}: {result.said}",
                    file=sys.stderr,
                )

        results = read_damaged(cases, args.seed, Limits(args.memory, args.seconds), watch=watch)
    print(table(results))
    conditions = machine()
    seconds = time.monotonic() - begun
    print(
        f"{len(results)} files in {seconds:.0f} s; {conditions['processor']}, {conditions['date']}"
    )
    if args.json:
        rows = [dataclasses.asdict(result) for result in results]
        write_json(args.json, {"machine": conditions, "seed": args.seed, "results": rows})
    return int(any(result.outcome == BAD for result in results))


if __name__ == "__main__":
    command_line.run(main)
