"""A real Chromium for the tests of the exported page, driven through node by playwright-core.

Both are taken from the machine where they are there (``LIKENESS_CHROMIUM`` names a program), else
installed into a
cache folder: playwright-core by npm, Chromium and what it needs by apt-get, unpacked without
    touching the system.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

PLAYWRIGHT = "playwright-core@1.65.1"
DRIVER = Path(__file__).with_name("chromium.mjs")
CACHE = Path(
    os.environ.get("LIKENESS_TEST_CACHE", Path.home() / ".cache" / "likeness" / "chromium")
)
_NAMES = ("chromium", "chromium-browser", "google-chrome")
_LIBRARIES = ("usr/lib/x86_64-linux-gnu", "usr/lib/aarch64-linux-gnu")


def node() -> str:
    """The node program, or skips the test."""
    return shutil.which("node") or pytest.skip("no node on this machine")


class Chromium:
    """One page of a browser. Everything is a line of JSON to node and one back."""

    def __init__(self) -> None:
        environment = os.environ | {"PLAYWRIGHT_PACKAGE": str(_playwright())}
        program, libraries = _chromium()
        environment |= {"CHROMIUM": str(program)}
        if libraries:
            environment["LD_LIBRARY_PATH"] = os.pathsep.join(map(str, libraries))
        self._process = subprocess.Popen(
            [node(), str(DRIVER)],
            env=environment,
            text=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        try:
            self.ask("start")
        except RuntimeError as error:
            self.close()
            pytest.skip(f"Chromium does not start: {str(error).splitlines()[0][:150]}")

    def ask(self, action: str, **values: Any) -> Any:
        """One action of the driver: open, visit, evaluate, resize, screenshot, log, drop.
        RuntimeError when not."""
        self._process.stdin.write(json.dumps({"action": action, **values}) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError("the browser's driver has ended")
        answer = json.loads(line)
        if "error" in answer:
            raise RuntimeError(answer["error"])
        return answer.get("value")

    def evaluate(self, script: str, value: Any = None) -> Any:
        """What an expression on the page gives (waited for); ``value`` is the argument of a
        function."""
        return self.ask("evaluate", script=script, value=value)

    def close(self) -> None:
        self._process.stdin.close()
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:
        """Says nothing."""


def serve(folder: Path) -> tuple[ThreadingHTTPServer, str]:
    """A server of a folder on a free port, and its address."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server, f"http://127.0.0.1:{server.server_address[1]}/"


def _playwright() -> Path:
    folder = CACHE / PLAYWRIGHT
    if not (folder / "node_modules").is_dir():
        _install(folder, _npm, "playwright-core")
    return folder / "node_modules" / "playwright-core" / "index.mjs"


def _chromium() -> tuple[Path, list[Path]]:
    """The program, and folders of libraries that it needs beside the system's."""
    found = os.environ.get("LIKENESS_CHROMIUM") or next(
        filter(None, map(shutil.which, _NAMES)), None
    )
    if found:
        return Path(found), []
    folder = CACHE / "debian"
    program = folder / "usr" / "lib" / "chromium" / "chromium"
    if not program.is_file():
        _install(folder, _debian, "Chromium")
    libraries = [folder / name for name in _LIBRARIES if (folder / name).is_dir()]
    return program, libraries + [path / "pulseaudio" for path in libraries]


def _install(folder: Path, fill: Any, what: str) -> None:
    """Fills a folder, whole or not at all; skips the test where that fails."""
    partial_folder = folder.with_name(f"{folder.name}.{os.getpid()}.partial")
    partial_folder.mkdir(parents=True, exist_ok=True)
    try:
        fill(partial_folder)
        if folder.exists():  # an earlier, damaged one
            shutil.rmtree(folder)
        partial_folder.rename(folder)
    except (OSError, subprocess.SubprocessError) as error:
        reason = (getattr(error, "stderr", None) or str(error)).strip().splitlines() or [
            "no reason given"
        ]
        pytest.skip(f"{what} cannot be had here: {reason[-1][:150]}")
    finally:
        shutil.rmtree(partial_folder, ignore_errors=True)


def _npm(folder: Path) -> None:
    (folder / "package.json").write_text('{"private": true}')
    _run(["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts", PLAYWRIGHT], folder, 120)


def _debian(folder: Path) -> None:
    packages = folder / "packages"
    (packages / "partial").mkdir(parents=True)
    get = [
        "apt-get",
        "-y",
        "-q",
        "-o",
        f"Dir::Cache::archives={packages}",
        "-o",
        "Debug::NoLocking=1",
    ]
    fetch = [*get, "install", "--download-only", "--no-install-recommends", "chromium"]
    try:
        _run(fetch, folder, 300)
    except subprocess.CalledProcessError:
        _run(["apt-get", "-q", "update"], folder, 120)
        _run(fetch, folder, 300)
    for package in packages.glob("*.deb"):
        _run(["dpkg", "-x", str(package), str(folder)], folder, 120)
    shutil.rmtree(packages)


def _run(command: list[str], folder: Path, seconds: int) -> None:
    subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True, timeout=seconds)
