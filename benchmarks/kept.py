"""Figures that are written as they come: what was measured stays, however a benchmark ends."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from likeness.scene.files import write_json


class Kept:
    """Rows of figures with the facts that belong to all of them, as one JSON document."""

    def __init__(self, path: Path | None, **facts: Any) -> None:
        """path: of the document, which every change writes anew as a whole; None keeps it in memory
        alone."""
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
