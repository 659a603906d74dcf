"""The architecture's one rule: a folder imports only from folders above it in ORDER, and no modules
import each other in a circle. Read from the source, imports inside functions included."""

from __future__ import annotations

import ast
import graphlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
ORDER = (
    "scene",
    "ops",
    "renderers",
    "head_models",
    "seeding",
    "preprocess",
    "one_shot",
    "synthetic",
    "fitting",
    "training",
    "playback",
    "export",
    "collection",
    "likeness",
)
PROGRAMS = ("benchmarks", "tools", "examples")  # may import everything, and parse arguments
STANDARD_LIBRARY = sys.stdlib_module_names

VIDEO_AND_LANDMARKS = ("mediapipe", "av", "decord", "moviepy", "dlib", "face_alignment")
# of cv2, which others may use to read and write images
VIDEO_NAMES = {"VideoCapture", "CAP_FFMPEG"}
PARSERS = ("argparse", "tyro", "click", "fire", "typer", "optparse", "getopt")
# the one file outside preprocess that uses a video library: it writes, reads nothing
FILM_WRITER = "playback/films.py"
# The only places that may import these libraries.
OPTIONAL_LIBRARIES = {
    "gsplat": "renderers/gsplat.py",
    "tinycudann": "fitting/networks/fused.py",
    "triton": "playback/fused/kernels/",
}

# What an exported avatar needs to be loaded and shown: of fitting, playback and export take these.
BUNDLE = ("fitting.avatars", "fitting.bundle", "fitting.images", "fitting.networks")
# Modules of playback that measure a fit: they may read runs, but nothing in playback may need them.
MEASURING = (
    "playback.evaluation",
    "playback.demo_truth",
    "playback.inside",
    "playback.transfer.reenactment",
    "playback.tracking_gain",
    "playback.image_evaluation",
)
# A video or a webcam cannot drive before a head is tracked, and a tracker of their own would be a
# second truth. Every other driver, and playing itself, works from the bundle alone.
PREPROCESSING = ("playback.drivers.video", "playback.drivers.webcam")


def module_name(path: Path) -> str:
    """scene/camera.py is ``scene.camera``: the names here leave out the package ``likeness``."""
    parts = path.with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(tree: ast.AST) -> Iterator[str]:
    """Dotted names that a file imports, anywhere in it; ``from a import b`` gives both ``a`` and
    ``a.b``; without the package ``likeness``, but for what lies in the folder of that name."""
    for node in ast.walk(tree):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, "relative imports are not used here"
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            function = node.func
            name = (
                function.attr
                if isinstance(function, ast.Attribute)
                else getattr(function, "id", "")
            )
            if name in ("import_module", "__import__") and isinstance(node.args[0].value, str):
                names = [node.args[0].value]
        for name in names:
            inner = name.removeprefix("likeness.")
            yield inner if inner.split(".")[0] in ORDER else name


def within(name: str, modules: tuple[str, ...]) -> bool:
    return any(name == module or name.startswith(f"{module}.") for module in modules)


def sources(root: Path, folders: tuple[str, ...] = ORDER) -> Iterator[Path]:
    for folder in folders:
        yield from (path.relative_to(root) for path in sorted((root / folder).rglob("*.py")))


def violations(root: Path) -> list[str]:
    """Every breach of the rules, as ``file: what``."""
    breaches, graph, trees = [], {}, {}
    for path in sources(root, (*ORDER, *PROGRAMS)):
        tree = ast.parse((root / path).read_text(encoding="utf-8"))
        imported = sorted(set(imports(tree)))
        checks = [_libraries, _video, _installed_names]
        if path.parts[0] in ORDER:
            graph[module_name(path)], trees[module_name(path)] = imported, tree
            checks += [_order, _avatars, _arguments]
        for check in checks:
            breaches += [f"{path.as_posix()}: {what}" for what in check(path, imported, tree)]
    return breaches + list(_playback(graph)) + list(_circle(trees))


def _order(path: Path, imported: list[str], _: ast.AST) -> Iterator[str]:
    below = (*ORDER[ORDER.index(path.parts[0]) + 1 :], *PROGRAMS, "tests", "fit_subject")
    yield from (f"{path.parts[0]} imports {name}" for name in imported if within(name, below))


def _installed_names(_: Path, __: list[str], tree: ast.AST) -> Iterator[str]:
    """The folders are imported as parts of ``likeness``: other programs have a ``scene``, too."""
    for node in ast.walk(tree):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or ""]
        inner = tuple(folder for folder in ORDER if folder != "likeness")
        yield from (f"imports {name}, not likeness.{name}" for name in names if within(name, inner))


def _avatars(path: Path, imported: list[str], _: ast.AST) -> Iterator[str]:
    if path.parts[:2] != ("fitting", "avatars"):
        return
    allowed = ("scene", "ops", "torch", "likeness", "fitting.avatars", *STANDARD_LIBRARY)
    yield from (f"an avatar imports {name}" for name in imported if not within(name, allowed))


def _libraries(path: Path, imported: list[str], _: ast.AST) -> Iterator[str]:
    for library, place in OPTIONAL_LIBRARIES.items():
        if not path.as_posix().startswith(place):
            yield from (f"imports {name}" for name in imported if within(name, (library,)))


def _video(path: Path, imported: list[str], tree: ast.AST) -> Iterator[str]:
    if path.parts[0] == "preprocess":
        return
    writer = path.as_posix() == FILM_WRITER
    foreign = tuple(name for name in VIDEO_AND_LANDMARKS if not (writer and name == "av"))
    yield from (f"imports {name}" for name in imported if within(name, foreign))
    used = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    used |= {name.rpartition(".")[2] for name in imported if within(name, ("cv2",))}
    yield from (f"reads video (cv2.{name})" for name in sorted(used & VIDEO_NAMES))


def _arguments(path: Path, imported: list[str], tree: ast.AST) -> Iterator[str]:
    if path.parts[:2] == ("likeness", "cli"):
        return
    yield from (f"parses arguments with {name}" for name in imported if within(name, PARSERS))
    attributes = (node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute))
    yield from ("reads sys.argv" for name in attributes if name == "argv")


def _playback(graph: dict[str, list[str]]) -> Iterator[str]:
    """What shows or exports an avatar needs neither what trains one nor what tracks a head."""
    for module, imported in graph.items():
        shows = within(module, ("playback", "export")) and not within(module, MEASURING)
        for name in imported if shows else ():
            if within(name, ("fitting",)) and name != "fitting" and not within(name, BUNDLE):
                yield f"{module}: needs the trainer's {name}"
            if within(name, ("preprocess",)) and not within(module, PREPROCESSING):
                yield f"{module}: needs {name}"
            if within(name, MEASURING):
                yield f"{module}: needs {name}, which measures fits"
    for module in graph:
        if within(module, BUNDLE):
            for name in graph[module]:
                if within(name, ("fitting",)) and name != "fitting" and not within(name, BUNDLE):
                    yield f"{module}: a bundle needs the trainer's {name}"
                if within(name, ("preprocess", "synthetic", "one_shot")):
                    yield f"{module}: a bundle needs {name}"


def _circle(trees: dict[str, ast.AST]) -> Iterator[str]:
    """A circle of modules that import each other, inside functions included, if there is one."""
    edges: dict[str, set[str]] = {}
    for module, tree in trees.items():
        # of `from a import b`, the module a.b where there is one, else a
        names = {name if name in trees else name.rpartition(".")[0] for name in _leaves(tree)}
        edges[module] = {name for name in names if name in trees and name != module}
    try:
        graphlib.TopologicalSorter(edges).prepare()
    except graphlib.CycleError as error:
        yield f"circle of imports: {' <- '.join(error.args[1])}"


def _leaves(tree: ast.AST) -> Iterator[str]:
    imported = set(imports(tree))
    yield from (
        name for name in imported if not any(other.startswith(f"{name}.") for other in imported)
    )


def test_every_folder_imports_only_from_those_above_it():
    assert list(violations(ROOT)) == []


def test_the_rule_reads_every_folder():
    read = {path.parts[0] for path in sources(ROOT)}
    assert set(ORDER) == read


BREACHES = [
    ("scene/a.py", "from likeness import renderers", "scene imports renderers"),
    (
        "scene/a.py",
        "def f():\n    from likeness.preprocess.video import read",
        "scene imports preprocess.video",
    ),
    ("scene/a.py", "from scene import camera", "imports scene, not likeness.scene"),
    (
        "ops/a.py",
        "import importlib\nimportlib.import_module('likeness.fitting.loop')",
        "ops imports fitting.loop",
    ),
    ("fitting/a.py", "from likeness.cli import fit", "fitting imports likeness.cli"),
    ("playback/a.py", "from benchmarks import rasterizer", "playback imports benchmarks"),
    (
        "fitting/a.py",
        "if TYPE_CHECKING:\n    from likeness.playback import x",
        "fitting imports playback.x",
    ),
    ("fitting/avatars/a.py", "import numpy", "an avatar imports numpy"),
    ("fitting/avatars/a.py", "from likeness.fitting import losses", "an avatar imports fitting"),
    (
        "fitting/avatars/a.py",
        "from likeness.renderers.output import Out",
        "an avatar imports renderers.output",
    ),
    ("renderers/cpu.py", "from gsplat import rasterization", "imports gsplat"),
    ("benchmarks/a.py", "import gsplat", "imports gsplat"),
    ("fitting/networks/a.py", "def f():\n    import tinycudann", "imports tinycudann"),
    ("playback/a.py", "def f():\n    import triton", "imports triton"),
    ("fitting/a.py", "import mediapipe", "imports mediapipe"),
    ("playback/a.py", "import av", "imports av"),
    ("playback/films.py", "import mediapipe", "imports mediapipe"),
    ("playback/a.py", "import cv2\nx = cv2.VideoCapture(0)", "reads video (cv2.VideoCapture)"),
    ("tools/a.py", "from cv2 import VideoCapture", "reads video (cv2.VideoCapture)"),
    ("preprocess/a.py", "import argparse", "parses arguments with argparse"),
    ("fitting/a.py", "import sys\nprint(sys.argv[1])", "reads sys.argv"),
    ("playback/a.py", "from likeness.fitting.loop import fit", "needs the trainer's fitting.loop"),
    ("export/a.py", "from likeness.fitting import loop", "needs the trainer's fitting.loop"),
    ("playback/a.py", "from likeness.playback import evaluation", "which measures fits"),
    (
        "fitting/bundle.py",
        "from likeness.fitting.subject import fit",
        "a bundle needs the trainer's",
    ),
    (
        "playback/player.py",
        "def f():\n    from likeness.preprocess.video import read",
        "needs preprocess.video",
    ),
    (
        "scene/camera.py",
        "def f():\n    from likeness.scene import cloud",
        "circle of imports: scene.",
    ),
]


def _healthy_tree(root: Path) -> None:
    files = {
        "scene/cloud.py": "import torch\nfrom likeness.scene import camera",
        "scene/camera.py": "",
        "renderers/gsplat.py": "def create():\n    import gsplat",
        "preprocess/video.py": "import cv2\nimport mediapipe\nx = cv2.VideoCapture('x')",
        "fitting/avatars/one.py": "import math\nfrom likeness.scene.cloud import Cloud",
        "fitting/bundle.py": "import cv2\nfrom likeness.fitting.avatars.one import One",
        "fitting/loop.py": "from likeness.preprocess import video\nimport likeness.renderers.cpu",
        "playback/films.py": "import av\nfrom likeness.fitting.images import to_uint8",
        "playback/player.py": "from likeness.fitting.bundle import Bundle",
        "playback/drivers/video.py": "def load():\n    from likeness.preprocess.video import x",
        "playback/evaluation.py": "from likeness.playback.player import Player",
        "likeness/cli/fit.py": "import argparse, sys\nprint(sys.argv)",
        "benchmarks/speed.py": "import argparse\nfrom likeness.fitting import loop",
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
    # what gsplat's renderer and the Triton kernels import is not everywhere
    absent = tuple(OPTIONAL_LIBRARIES.values())
    modules = [
        module_name(path) for path in sources(ROOT) if not path.as_posix().startswith(absent)
    ]
    modules = [name if within(name, ("likeness",)) else f"likeness.{name}" for name in modules]
    modules.remove("likeness.__main__")
    code = (
        "import importlib, sys\n"
        f"for name in {sorted(modules)!r}: importlib.import_module(name)\n"
        "import torch\n"
        "assert not torch.cuda.is_initialized(), 'CUDA was initialised'\n"
        "assert 'mediapipe' not in sys.modules, 'mediapipe was imported'\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert result.returncode == 0, result.stderr
    assert (result.stdout, result.stderr) == ("", "")
