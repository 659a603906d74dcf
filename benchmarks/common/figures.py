"""What the benchmarks share of their command lines, tables and files of figures."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from likeness.scene.files import write_json
from likeness.scene.machine import machine, machine_line


def parser(description: str | None) -> argparse.ArgumentParser:
    """A parser whose help is the program's docstring as it stands, with --json."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures here")
    return parser


def table(titles: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table in Markdown."""
    lines = [titles, ["---"] * len(titles), *rows]
    return "\n".join(f"| {' | '.join(map(str, cells))} |" for cells in lines)


def announced(**more: Any) -> dict[str, Any]:
    """Prints the machine's line, with ``more`` behind it, and returns all of it with the versions
    for the JSON."""
    from likeness.fitting.run_directory import versions

    conditions, used = machine(), versions()
    extra = "".join(f", {name} {value}" for name, value in more.items())
    print(machine_line(conditions) + extra, flush=True)
    return conditions | {name: used[name] for name in ("code", "python", "torch", "numba")} | more


def with_load_after(conditions: dict[str, Any]) -> dict[str, Any]:
    """The same when all is measured: how busy the machine was by then."""
    return conditions | {"load_average_after": machine()["load_average"]}


class Kept:
    """Rows of figures with the facts that belong to all of them, as one JSON document, written anew
    by every change: what was measured stays, however a benchmark ends. path: None for memory
    alone."""

    def __init__(self, path: Path | None, **facts: Any) -> None:
        self._path, self._facts, self.rows = path, facts, []
        self._write()

    def add(self, row: dict[str, Any]) -> None:
        """One row more."""
        self.rows.append(row)
        self._write()

    def note(self, **facts: Any) -> None:
        """Facts that were not known at the start, or are other ones now."""
        self._facts |= facts
        self._write()

    def _write(self) -> None:
        if self._path is not None:
            write_json(self._path, {**self._facts, "rows": self.rows})
