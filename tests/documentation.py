"""The documentation as text, and its code blocks, so that tests run what readers copy."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


def section(page: str, heading: str) -> str:
    """The text under a heading of a page, such as ``section("docs/extending.md", "A driver")``, up
    to the next heading of its level or above."""
    text = (ROOT / page).read_text()
    start = re.search(rf"^(#+) {re.escape(heading)}$", text, re.MULTILINE)
    assert start, f"{page} has no heading {heading!r}"
    rest = text[start.end() :]
    end = re.search(rf"^#{{1,{len(start[1])}}} ", rest, re.MULTILINE)
    return rest[: end.start()] if end else rest


def code_under(page: str, heading: str, language: str = "python") -> list[str]:
    """The code blocks of one language under a heading."""
    return re.findall(
        rf"^```{language}\n(.*?)^```", section(page, heading), re.MULTILINE | re.DOTALL
    )
