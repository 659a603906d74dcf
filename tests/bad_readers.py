"""Readers that do what none may, for the test of what finds it
(``tests/test_damaged_files.py``)."""

from __future__ import annotations

import os
import time
from pathlib import Path

from benchmarks.common.damage import Reader, Targets
from likeness.scene.errors import UserError

WHOLE = bytes(range(256))


def _make(folder: Path) -> Targets:
    (folder / "a").write_bytes(WHOLE)
    return [("a", "bytes")]


def _reader(does) -> Reader:
    def read(folder: Path) -> None:
        if (folder / "a").read_bytes() != WHOLE:
            does()

    return Reader(_make, read)


def _refuses() -> None:
    raise UserError("a: damaged; make it anew")


def _fails() -> None:
    raise KeyError("frames")


def _leaks() -> None:
    bytearray(b"x") * (200 << 20)


READERS = {
    "refuses": _reader(_refuses),
    "accepts": _reader(lambda: None),
    "fails": _reader(_fails),
    "crashes": _reader(os.abort),
    "hangs": _reader(lambda: time.sleep(60)),
    "leaks": _reader(_leaks),
}
