"""The run directory: explains itself, is never overwritten, and can be resumed."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.metadata
import platform
import subprocess
import time
from pathlib import Path
from typing import Annotated, Any

import msgspec

from likeness.preprocess.cache import link_capture
from likeness.scene.bounds import MAX_WHOLE, Positive
from likeness.scene.errors import UserError
from likeness.scene.files import (
    check_writable,
    held,
    new_folder,
    storage_error,
    write_bytes,
    write_json,
)
from likeness.scene.foreign_paths import folder_name
from likeness.scene.machine import machine
from likeness.scene.reading import read_versioned

FORMAT_VERSION = 1
_PACKAGES = (
    *(
        "torch",
        "numpy",
        "mediapipe",
        "opencv-contrib-python",
        "numba",
        "kornia",
        "geoopt",
        "gsplat",
    ),
    *("scikit-image", "lpips", "safetensors", "tensorboard", "tinycudann", "fussim", "fused-ssim"),
)

_Text = Annotated[str, msgspec.Meta(max_length=4096)]


class RunOptions(msgspec.Struct):
    """What a run was asked for, as far as resuming it needs; runs of pictures have ``images``."""

    demo: bool = False
    minutes: Positive | None = None
    iterations: Annotated[int, msgspec.Meta(ge=1, le=MAX_WHOLE)] | None = None
    seed: Annotated[int, msgspec.Meta(ge=0, lt=2**32)] = 0
    device: _Text | None = None
    offline: bool = False
    weights: _Text | None = None
    images: list[Any] | None = None

    def __post_init__(self) -> None:
        if self.minutes is not None and self.iterations is not None:
            raise ValueError(
                "minutes and iterations are both given, which are two ways to say one thing"
            )


class _Settings(msgspec.Struct):
    options: RunOptions = msgspec.field(default_factory=RunOptions)


@dataclasses.dataclass(frozen=True)
class RunDirectory:
    """The files of one run."""

    root: Path

    @property
    def capture(self) -> Path:
        return self.root / "capture"

    @property
    def bundle(self) -> Path:
        return self.root / "bundle"

    @property
    def metrics(self) -> Path:
        return self.root / "metrics.json"

    @property
    def config(self) -> Path:
        return self.root / "config.yaml"

    @property
    def settings(self) -> Path:
        return self.root / "run.json"

    def checkpoint(self, stage: str) -> Path:
        """Where the fit called ``stage`` saves itself."""
        return self.root / "checkpoints" / f"{stage}.safetensors"

    @staticmethod
    def check_free(root: Path) -> None:
        """Raises UserError when a new run cannot be made there: something is in it, or it cannot be
        written."""
        root = Path(root)
        try:
            if root.exists() and (not root.is_dir() or any(root.iterdir())):
                raise UserError(
                    f"{root}: exists already and is not overwritten; choose another --out, or "
                    f"--resume {root}"
                )
        except OSError as error:
            raise storage_error(error, root) from error
        check_writable(root)

    @classmethod
    def create(
        cls, root: Path, capture: Path, options: dict[str, Any], config_yaml: str
    ) -> RunDirectory:
        """A new run of a finished capture, which is linked into it. The folder is there with all of
        that or not at all.

        Raises UserError when the folder exists and holds anything, or cannot be written.
        """
        cls.check_free(root)
        with new_folder(root) as temporary:
            run = cls(temporary)
            link_capture(capture, run.capture)
            write_bytes(run.config, config_yaml.encode())
            settings = {"format": "run", "format_version": FORMAT_VERSION, "options": options}
            write_json(run.settings, {**settings, "versions": versions(), "machine": machine()})
        return cls(Path(root))

    @classmethod
    def open(cls, root: Path) -> RunDirectory:
        """An existing run. Raises UserError when the folder is not one or is of a newer format."""
        run = cls(Path(root))
        if not run.settings.is_file():
            raise UserError(
                f"{root}: not a run directory (no run.json in it); give one that likeness fit made"
            )
        run.options()
        return run

    def options(self) -> RunOptions:
        """What the run was asked for. Raises UserError when its settings are damaged or newer than
        this program."""
        settings, _ = read_versioned(
            self.settings, _Settings, "settings of a run", "run", FORMAT_VERSION
        )
        return settings.options

    def held(self) -> contextlib.AbstractContextManager[None]:
        """Keeps the run to this process while it is fitted; UserError while another one does so."""
        busy = f"{self.root}: another process is at work on this run; wait until it has ended"
        return held(self.root / ".lock", busy)


def default_root(parent: Path, name: str) -> Path:
    """``runs/<name>-<time>``, with a number behind it when that exists already. The name may be any
    file's."""
    base = parent / f"{folder_name(name)}-{time.strftime('%Y%m%d-%H%M%S')}"
    root, count = base, 2
    while root.exists():
        root, count = base.with_name(f"{base.name}-{count}"), count + 1
    return root


def versions() -> dict[str, str | None]:
    """The versions of this program and of the packages that its results depend on; None where
    absent."""
    versions: dict[str, str | None] = {"code": code_version(), "python": platform.python_version()}
    for package in _PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = None
    return versions


def code_version() -> str:
    """The commit of this checkout (``+changes`` when files differ from it), or ``unknown`` outside
    a checkout."""
    folder = Path(__file__).resolve().parent.parent
    try:
        command = ["git", "describe", "--always", "--dirty=+changes", "--abbrev=12"]
        options = {"cwd": folder, "capture_output": True, "text": True, "timeout": 10}
        return subprocess.run(command, check=True, **options).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return "unknown"
