"""The architecture's one rule: a folder imports only from folders to its left. Read from the
source, lazily or not."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
ORDER = ("scene", "renderers", "preprocess", "fitting", "playback", "fleet")
PROGRAMS = ("benchmarks", "tools")  # beside the scripts at the top: they may import everything
STANDARD_LIBRARY = sys.stdlib_module_names

VIDEO_AND_LANDMARKS = {
    "mediapipe",
    "av",
    "decord",
    "moviepy",
    "dlib",
    "face_alignment",
    "torchcodec",
}
# of cv2, which others may use to read and write pictures
VIDEO_NAMES = {"VideoCapture", "CAP_FFMPEG"}
PARSERS = {"argparse", "tyro", "click", "fire", "typer", "optparse", "getopt"}

# What an exported avatar needs to be loaded and shown; likeness.fitting.images only turns arrays
# into pictures for people.
BUNDLE = (
    "likeness.fitting.avatars",
    "likeness.fitting.bundle",
    "likeness.scene.config_files",
    "likeness.scene.config_values",
    "likeness.fitting.networks",
    "likeness.fitting.images",
    "likeness.renderers.screen_refiner",
)
# the one file outside preprocess that uses a video library: it writes, reads nothing
FILM_WRITER = "playback/films.py"
# Modules of playback that measure a fit, for the scripts: they may read runs, but nothing in
# playback may need them.
MEASURING = (
    "likeness.playback.evaluation",
    "likeness.playback.demo_truth",
    "likeness.playback.inside",
    "likeness.playback.transfer.reenactment",
    "likeness.playback.tracking_gain",
    "likeness.playback.image_evaluation",
)
# Modules of playback whose work is preprocessing: a video or a webcam cannot drive before landmarks
# are found and a head is tracked, and a tracker of their own would be a second truth. All other
# drivers, and playing itself, work from the bundle alone: these modules are imported inside the
# function that opens a driver, and by no one else.
PREPROCESSING = ("likeness.playback.drivers.video", "likeness.playback.drivers.webcam")
TRAINER = (
    "likeness.fitting.loop",
    "likeness.fitting.subject",
    "likeness.fitting.optimizers",
    "likeness.fitting.objective",
    "likeness.fitting.densify",
    "likeness.fitting.listeners",
    "likeness.fitting.checkpoint",
)


def module_name(path: Path) -> str:
    parts = path.with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(tree: ast.AST, path: Path) -> Iterator[str]:
    """Dotted names that a file imports, anywhere in it; ``from a import b`` gives both ``a`` and
    ``a.b``."""
    package = path.parent.parts
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join((*base, *filter(None, [node.module])))
            yield module
            yield from (f"{module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            name = (
                node.func.attr
                if isinstance(node.func, ast.Attribute)
                else getattr(node.func, "id", "")
            )
            if name in ("import_module", "__import__") and isinstance(node.args[0].value, str):
                yield node.args[0].value


def within(name: str, modules: tuple[str, ...]) -> bool:
    return any(name == module or name.startswith(f"{module}.") for module in modules)


def sources(root: Path) -> Iterator[Path]:
    """Files of the project relative to ``root``: the packages, the programs and the scripts, not
    the tests."""
    for folder in (*ORDER, *PROGRAMS):
        yield from (path.relative_to(root) for path in sorted((root / folder).rglob("*.py")))
    yield from (path.relative_to(root) for path in sorted(root.glob("*.py")))


def violations(root: Path) -> list[str]:
    """Every breach of the rules, as ``file: what``."""
    scripts = tuple(path.stem for path in root.glob("*.py"))
    found, graph = [], {}
    for path in sources(root):
        tree = ast.parse((root / path).read_text(encoding="utf-8"))
        imported = sorted(set(imports(tree, path)))
        graph[module_name(path)] = imported
        in_package = path.parts[0] in ORDER
        everywhere, packaged = (
            (_gsplat, _tinycudann, _triton, _video),
            (_order, _avatars, _fleet, _lazy, _arguments),
        )
        for check in (*everywhere, *packaged) if in_package else everywhere:
            found += [f"{path.as_posix()}: {what}" for what in check(path, imported, tree, scripts)]
    return found + list(_playback(graph))


def _order(path: Path, imported: list[str], _: ast.AST, scripts: tuple[str, ...]) -> Iterator[str]:
    own = ORDER.index(path.parts[0])
    to_the_right = (*ORDER[own + 1 :], *PROGRAMS, *scripts, "tests")
    yield from (
        f"{path.parts[0]} imports {name}" for name in imported if within(name, to_the_right)
    )


def _avatars(path: Path, imported: list[str], _: ast.AST, __: tuple[str, ...]) -> Iterator[str]:
    if path.parts[:2] != ("fitting", "avatars"):
        return
    for name in imported:
        if not within(name, ("scene", "torch", "likeness.fitting.avatars", *STANDARD_LIBRARY)):
            yield f"an avatar imports {name}, not only scene and torch"


def _fleet(path: Path, imported: list[str], _: ast.AST, __: tuple[str, ...]) -> Iterator[str]:
    """What hands out tasks stays small: it knows the programs by their command lines, and Ray in
    one file alone."""
    if path.parts[0] != "fleet":
        return
    allowed = (
        "likeness.scene.bounds",
        "likeness.scene.errors",
        "likeness.scene.files",
        "likeness.scene.foreign_paths",
        "likeness.scene.reading",
        "fleet",
        "msgspec",
        "tqdm",
        *STANDARD_LIBRARY,
    )
    allowed += ("ray",) if path.as_posix() == "collection/ray_cluster.py" else ()
    # of `from scene import x`, scene.x is among them too
    named = {name for name in imported if name != "scene"}
    yield from (f"fleet imports {name}" for name in sorted(named) if not within(name, allowed))


def _gsplat(path: Path, imported: list[str], _: ast.AST, __: tuple[str, ...]) -> Iterator[str]:
    if path.parts[0] != "renderers" or not path.name.startswith("gsplat"):
        yield from (f"imports {name}" for name in imported if within(name, ("gsplat",)))


def _tinycudann(path: Path, imported: list[str], _: ast.AST, __: tuple[str, ...]) -> Iterator[str]:
    if path.as_posix() != "fitting/networks/fused.py":
        yield from (f"imports {name}" for name in imported if within(name, ("tinycudann",)))


def _triton(path: Path, imported: list[str], _: ast.AST, __: tuple[str, ...]) -> Iterator[str]:
    if path.parts[:3] != ("playback", "fused", "kernels"):
        yield from (f"imports {name}" for name in imported if within(name, ("triton",)))


def _video(path: Path, imported: list[str], tree: ast.AST, __: tuple[str, ...]) -> Iterator[str]:
    if path.parts[0] == "preprocess":
        return
    foreign = VIDEO_AND_LANDMARKS - ({"av"} if path.as_posix() == FILM_WRITER else set())
    yield from (f"imports {name}" for name in imported if within(name, tuple(foreign)))
    used = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    used |= {name.rpartition(".")[2] for name in imported if within(name, ("cv2",))}
    yield from (f"reads video (cv2.{name})" for name in sorted(used & VIDEO_NAMES))


class _OutsideFunctions(ast.NodeTransformer):
    def visit_FunctionDef(self, _: ast.FunctionDef) -> None:
        return None


def _lazy(path: Path, _: list[str], tree: ast.AST, __: tuple[str, ...]) -> Iterator[str]:
    """What needs preprocessing is imported inside functions alone, and only by the registry of
    drivers."""
    if path.parts[0] != "playback" or within(module_name(path), MEASURING):
        return
    anywhere = set(imports(tree, path))
    at_top = set(imports(_OutsideFunctions().visit(ast.parse(ast.unparse(tree))), path))
    registry = path.as_posix() == "playback/drivers/__init__.py"
    found = {name for name in at_top if within(name, ("preprocess", *PREPROCESSING))}
    found |= set() if registry else {name for name in anywhere if within(name, PREPROCESSING)}
    yield from (f"needs {name} before a video or webcam drives" for name in sorted(found))


def _arguments(
    path: Path, imported: list[str], tree: ast.AST, __: tuple[str, ...]
) -> Iterator[str]:
    yield from (
        f"parses arguments with {name}" for name in imported if within(name, tuple(PARSERS))
    )
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr == "argv":
            yield "reads sys.argv"


def _playback(graph: dict[str, list[str]]) -> Iterator[str]:
    """Follows playback's imports through fitting: what shows an avatar must not need what trains or
    tracks one."""
    for start in (name for name in graph if within(name, ("playback",))):
        if within(start, MEASURING):
            yield from (
                f"{start}: measures a fit, but imports {n}"
                for n in graph[start]
                if within(n, TRAINER)
            )
            continue
        seen, waiting = {start}, [start]
        while waiting:
            module = waiting.pop()
            tracks = within(module, PREPROCESSING) or not within(module, ("playback",))
            for name in graph[module]:
                if within(name, ("preprocess",)) and not tracks:
                    yield f"{module}: playback needs {name}"
                elif within(name, MEASURING):
                    yield f"{module}: playback needs {name}, which measures fits"
                elif within(name, ("fitting",)) and name != "fitting" and not within(name, BUNDLE):
                    yield f"{module}: playback needs {name}"
                elif name in graph and name not in seen and within(name, ("fitting", "playback")):
                    seen.add(name)
                    waiting.append(name)


def test_every_folder_imports_only_from_its_left():
    assert violations(ROOT) == []


def test_the_rule_reads_every_folder():
    read = {path.parts[0] for path in sources(ROOT)}
    assert set(ORDER) <= read
    assert sum(1 for _ in sources(ROOT)) > 20


BREACHES = [
    ("scene/a.py", "import renderers", "scene imports renderers"),
    (
        "scene/a.py",
        "def f():\n    from likeness.preprocess.video import read",
        "scene imports likeness.preprocess.video",
    ),
    (
        "renderers/a.py",
        "import importlib\nimportlib.import_module('likeness.fitting.loop')",
        "renderers imports likeness.fitting.loop",
    ),
    ("preprocess/sub/a.py", "from ...playback import player", "preprocess imports playback"),
    ("fitting/a.py", "import command_line", "fitting imports command_line"),
    ("playback/a.py", "from benchmarks import rasterizer", "playback imports benchmarks"),
    (
        "fitting/a.py",
        "if TYPE_CHECKING:\n    from likeness.playback.player import Player",
        "fitting imports likeness.playback.player",
    ),
    ("fitting/avatars/a.py", "import numpy", "an avatar imports numpy"),
    ("fitting/avatars/a.py", "from fitting import losses", "an avatar imports fitting"),
    (
        "fitting/avatars/a.py",
        "from likeness.renderers.output import RenderOutput",
        "an avatar imports likeness.renderers.output",
    ),
    (
        "collection/a.py",
        "from likeness.preprocess.pipeline import build_capture",
        "fleet imports likeness.preprocess.pipeline",
    ),
    (
        "collection/a.py",
        "from likeness.scene.capture import Capture",
        "fleet imports likeness.scene.capture",
    ),
    ("collection/a.py", "import torch", "fleet imports torch"),
    ("collection/scheduler.py", "import ray", "fleet imports ray"),
    ("playback/a.py", "from fleet import tasks", "playback imports fleet"),
    ("renderers/cpu.py", "from gsplat import rasterization", "imports gsplat"),
    ("benchmarks/a.py", "import gsplat", "imports gsplat"),
    ("fitting/networks/a.py", "def f():\n    import tinycudann", "imports tinycudann"),
    ("playback/a.py", "def f():\n    import triton", "imports triton"),
    ("fitting/a.py", "import mediapipe", "imports mediapipe"),
    ("playback/a.py", "import av", "imports av"),
    ("playback/films.py", "import mediapipe", "imports mediapipe"),
    ("playback/a.py", "import cv2\nx = cv2.VideoCapture(0)", "reads video (cv2.VideoCapture)"),
    ("script.py", "from cv2 import VideoCapture", "reads video (cv2.VideoCapture)"),
    ("preprocess/a.py", "import argparse", "parses arguments with argparse"),
    ("fitting/a.py", "import sys\nprint(sys.argv[1])", "reads sys.argv"),
    (
        "playback/a.py",
        "from likeness.fitting.loop import fit",
        "playback needs likeness.fitting.loop",
    ),
    (
        "playback/a.py",
        "from playback import evaluation",
        "playback needs likeness.playback.evaluation",
    ),
    (
        "playback/evaluation.py",
        "import likeness.fitting.optimizers",
        "but imports likeness.fitting.optimizers",
    ),
    (
        "fitting/bundle.py",
        "from likeness.fitting.subject import fit",
        "playback needs likeness.fitting.subject",
    ),
    (
        "playback/player.py",
        "def f():\n    from likeness.preprocess.video import read",
        "playback needs likeness.preprocess.video",
    ),
    (
        "playback/drivers/__init__.py",
        "from likeness.playback.drivers import video",
        "before a video or webcam drives",
    ),
    (
        "playback/player.py",
        "def f():\n    import likeness.playback.drivers.video",
        "before a video or webcam drives",
    ),
    (
        "playback/drivers/video.py",
        "from preprocess import video",
        "before a video or webcam drives",
    ),
]


def _healthy_tree(root: Path) -> None:
    files = {
        "scene/__init__.py": "",
        "scene/cloud.py": "import torch\nfrom scene import camera",
        "scene/camera.py": "from . import cloud",
        "renderers/gsplat.py": "def create():\n    import gsplat",
        "preprocess/video.py": "import cv2\nimport mediapipe\nx = cv2.VideoCapture('x')",
        "fitting/avatars/one.py": "import math\nimport torch\nfrom likeness.scene.cloud import Cloud\nfrom .base import Base",
        "fitting/avatars/base.py": "",
        "fitting/bundle.py": "import cv2\nfrom likeness.fitting.avatars.one import One\nfrom likeness.scene.config_files import apply",
        "scene/config_files.py": "import yaml",
        "fitting/images.py": "import cv2",
        "fitting/loop.py": "from preprocess import video\nfrom renderers import gsplat",
        "fitting/evaluation.py": "",
        "playback/films.py": "import av\nfrom likeness.fitting.images import to_uint8",
        "playback/player.py": "from likeness.fitting.bundle import Bundle\nfrom fitting import bundle",
        "playback/drivers/__init__.py": "def f():\n    from likeness.playback.drivers.video import load",
        "playback/drivers/video.py": "def load():\n    from likeness.preprocess.video import x",
        "playback/evaluation.py": "from likeness.fitting.evaluation import evaluate\nfrom likeness.playback.player import Player",
        "collection/tasks.py": "import json\nfrom likeness.scene.errors import UserError\nfrom fleet import work\nimport tqdm",
        "collection/ray_cluster.py": "def connect():\n    import ray",
        "likeness/cli/command_line.py": "from scene import cloud",
        "script.py": "import argparse, sys\nfrom playback import player\nprint(sys.argv)",
        "benchmarks/speed.py": "import argparse\nfrom fitting import loop",
    }
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)


def test_a_healthy_tree_passes(tmp_path):
    _healthy_tree(tmp_path)
    assert violations(tmp_path) == []


@pytest.mark.parametrize("path, text, message", BREACHES)
def test_each_breach_is_found(tmp_path, path, text, message):
    _healthy_tree(tmp_path)
    (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / path).write_text(text)
    assert any(message in found for found in violations(tmp_path)), violations(tmp_path)


def test_imports_are_silent_and_start_nothing():
    """Importing every module prints nothing and touches neither CUDA nor a video library."""
    # What the renderer gsplat and the Triton kernels import is not everywhere.
    packaged = (
        path
        for path in sources(ROOT)
        if path.parts[0] in ORDER and not path.name.startswith("gsplat")
    )
    packaged = (path for path in packaged if path.parts[:3] != ("playback", "fused", "kernels"))
    modules = sorted({module_name(path) for path in packaged})
    code = (
        "import importlib, sys\n"
        f"for name in {modules!r}: importlib.import_module(name)\n"
        "import torch\n"
        "assert not torch.cuda.is_initialized(), 'CUDA was initialised'\n"
        "assert 'mediapipe' not in sys.modules, 'mediapipe was imported'\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert result.returncode == 0, result.stderr
    assert (result.stdout, result.stderr) == ("", "")
