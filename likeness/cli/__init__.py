"""The command `likeness`: one module per subcommand, each with ``main(arguments)``.

Nothing heavy is imported before a subcommand runs, so that ``--help`` answers at once.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from importlib import metadata
from typing import NoReturn

from likeness.cli import command_line
from likeness.scene.errors import hint, one_line

COMMANDS = {
    "fit": "fit an avatar to a video, to images or to a capture",
    "preprocess": "make a capture of a video: cropped frames, mattes, tracked head",
    "evaluate": "measure an avatar, or how well it reenacts a driver",
    "render": "make images and films of an avatar, from any view",
    "drive": "move an avatar with a video, a capture, a CSV file or head states",
    "export": "write an avatar as .ply, .spz, playback bundle or web page",
    "view": "show an avatar live in the browser",
    "train": "train the one-shot network",
    "collect": "make captures of many videos, to train on",
}


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Runs ``likeness COMMAND ...`` and exits with its code. arguments: those of the process."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if not words or words[0] in ("-h", "--help"):
        print(_help(), file=sys.stdout if words else sys.stderr)
        sys.exit(0 if words else 2)
    if words[0] == "--version":
        print(f"likeness {metadata.version('likeness')}")
        sys.exit()
    if words[0] not in COMMANDS:
        message = f"unknown command {words[0]!r}; {hint(words[0], tuple(COMMANDS))}"
        print(f"error: {one_line(message)}", file=sys.stderr)
        sys.exit(2)
    run(words[0], words[1:])


def run(command: str, arguments: Sequence[str]) -> NoReturn:
    """Runs one command of COMMANDS and exits with its code."""
    command_line.run(lambda: importlib.import_module(f"{__name__}.{command}").main(arguments))


def _help() -> str:
    commands = "\n".join(f"  {name:<12}{text}" for name, text in COMMANDS.items())
    usage, more = (
        "usage: likeness COMMAND ...",
        "likeness COMMAND --help lists its options, likeness --version tells the version.",
    )
    return f"{usage}\n\n{commands}\n\n{more}"
