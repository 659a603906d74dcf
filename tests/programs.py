"""The programs as a person runs them: as processes, or, without the seconds that their start costs,
in this one."""

from __future__ import annotations

import contextlib
import importlib
import io
import logging
import os
import signal
import subprocess
import sys
from pathlib import Path
from unittest import mock

from likeness.cli import command_line

ROOT = Path(__file__).resolve().parent.parent


def program(
    name: str, *arguments, timeout: float = 300, cwd: Path = ROOT, **kwargs
) -> subprocess.CompletedProcess:
    """Runs a command of `likeness`, or a program by its file's name, as a process."""
    what = [str(ROOT / name)] if name.endswith(".py") else ["-m", "likeness", name]
    command = [sys.executable, *what, *map(str, arguments)]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=timeout, cwd=cwd, **kwargs
    )


def inside(name: str, *arguments) -> int | None:
    """Runs a command's main in this process: raises what the command would print as an error."""
    return importlib.import_module(f"likeness.cli.{name}").main([*map(str, arguments)])


def called(name: str, *arguments) -> subprocess.CompletedProcess:
    """Runs a program in this process to its exit code; a bug raises, and nothing that a program
    sets outlives it."""
    command = [name, *map(str, arguments)]
    out, err, root = io.StringIO(), io.StringIO(), logging.getLogger()
    levels = {log: log.level for log in (root, logging.getLogger("likeness"))}
    on_sigterm = signal.getsignal(signal.SIGTERM)
    try:
        with contextlib.ExitStack() as stack:
            stack.enter_context(mock.patch.dict(os.environ))
            stack.enter_context(mock.patch.object(root, "handlers", []))
            stack.enter_context(
                mock.patch.object(command_line, "_resume_hint", command_line._resume_hint)
            )
            stack.enter_context(contextlib.redirect_stdout(out))
            stack.enter_context(contextlib.redirect_stderr(err))
            command_line.run(lambda: inside(name, *arguments))
    except SystemExit as stop:
        return subprocess.CompletedProcess(command, stop.code, out.getvalue(), err.getvalue())
    finally:
        signal.signal(signal.SIGTERM, on_sigterm)
        for log, level in levels.items():
            log.setLevel(level)


def fails(result: subprocess.CompletedProcess, *words: str) -> None:
    """Exit code 2, one line of error that holds the words, no traceback."""
    assert result.returncode == 2, result.stderr[-2000:]
    assert "Traceback" not in result.stderr
    errors = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1, result.stderr[-2000:]
    for word in words:
        assert word in errors[0], errors[0]
