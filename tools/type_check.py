"""Checks types with pyright, over the layout that is installed: ``python tools/type_check.py
[FOLDER ...]``.

The folders of the checkout are imported as ``likeness.scene`` and so on, which pyright cannot know:
links in ``build/types`` show it the package as ``pip install`` makes it (``tool.setuptools`` of
pyproject.toml). Errors are listed by the paths of the checkout. STRICT folders are checked in
pyright's strict mode, but for types that torch, NumPy and Numba leave unknown (UNKNOWN); the others
in its basic one.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LINKS = ROOT / "build" / "types"
STRICT = ("likeness", "scene", "ops")
UNKNOWN = (
    "reportMissingTypeArgument",
    "reportMissingTypeStubs",
    "reportUnknownArgumentType",
    "reportUnknownLambdaType",
    "reportUnknownMemberType",
    "reportUnknownParameterType",
    "reportUnknownVariableType",
    "reportUntypedFunctionDecorator",
)
_FOLDER = re.compile(r'^"?likeness(?:\.(\w+))?"? = "(\w+)"$', re.MULTILINE)


def folders() -> list[str]:
    """Folders of the checkout that are installed, from pyproject.toml."""
    return [folder for _, folder in _FOLDER.findall((ROOT / "pyproject.toml").read_text())]


def link() -> None:
    """Makes the package's layout from links."""
    package = LINKS / "likeness"
    package.mkdir(parents=True, exist_ok=True)
    inside = [path for path in (ROOT / "likeness").iterdir() if path.name != "__pycache__"]
    for target in (*inside, *(ROOT / folder for folder in folders() if folder != "likeness")):
        place = package / target.name
        if not place.is_symlink():
            place.symlink_to(os.path.relpath(target, package))


def main() -> int:
    link()
    chosen = sys.argv[1:] or [folder for folder in folders() if folder != "configs"]
    unknown = [folder for folder in chosen if folder not in folders()]
    if unknown:
        print(f"error: {unknown[0]}: expected one of {', '.join(folders())}", file=sys.stderr)
        return 2
    # links to folders are followed only where they are named
    strict, basic = list[str](), list[str]()
    for folder in chosen:
        if folder == "likeness":
            strict += [f"likeness/{path.name}" for path in (ROOT / folder).glob("*.py")]
            basic.append("likeness/cli")
        else:
            (strict if folder in STRICT else basic).append(f"likeness/{folder}")
    failed = [check(places, mode) for places, mode in ((strict, "strict"), (basic, "basic"))]
    return int(any(failed))


def check(places: list[str], mode: str) -> bool:
    """Runs pyright on places of LINKS in a mode and prints its findings; whether there are any."""
    if not places:
        return False
    settings = {
        "include": places,
        "exclude": [],
        "extraPaths": ["."],
        "pythonVersion": "3.10",
        "typeCheckingMode": mode,
        **dict.fromkeys(UNKNOWN, "none"),
    }
    (LINKS / "pyrightconfig.json").write_text(json.dumps(settings))
    command = [sys.executable, "-m", "pyright", "--pythonpath", sys.executable, "-p", str(LINKS)]
    result = subprocess.run(command, capture_output=True, text=True)
    inner = re.escape(f"{LINKS}/likeness/")
    text = re.sub(rf"{inner}(cli/|\w+\.py)", r"likeness/\1", result.stdout)
    print(re.sub(inner, "", text) + result.stderr, end="")
    return result.returncode != 0


if __name__ == "__main__":
    sys.exit(main())
