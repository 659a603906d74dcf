"""Drivable photoreal head avatars, made of 3D Gaussians, from one person's video.

::

    from likeness import Avatar, fit

    avatar = fit("me.mp4", minutes=10)                # or Avatar.load("runs/me")
    image = avatar.render(avatar.state(smile=1, jawOpen=0.3, yaw=10))

Names are imported when they are first used: ``import likeness`` itself needs no other package.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from likeness.avatar import Avatar
    from likeness.fitting.bundle import AvatarBundle
    from likeness.playback.player import Player
    from likeness.preprocess import preprocess
    from likeness.preprocess.pipeline import PreprocessConfig
    from likeness.runs import fit
    from likeness.scene.camera import Camera
    from likeness.scene.capture import Capture
    from likeness.scene.cloud import GaussianCloud
    from likeness.scene.errors import UserError
    from likeness.scene.head_state import HeadState

__all__ = [
    "Avatar",
    "AvatarBundle",
    "Camera",
    "Capture",
    "GaussianCloud",
    "HeadState",
    "Player",
    "PreprocessConfig",
    "UserError",
    "fit",
    "preprocess",
]

_MODULES = {
    "Avatar": "avatar",
    "AvatarBundle": "fitting.bundle",
    "Camera": "scene.camera",
    "Capture": "scene.capture",
    "GaussianCloud": "scene.cloud",
    "HeadState": "scene.head_state",
    "Player": "playback.player",
    "PreprocessConfig": "preprocess.pipeline",
    "UserError": "scene.errors",
    "fit": "runs",
}


def __getattr__(name: str) -> Any:
    if name == "preprocess":  # the package is callable
        return importlib.import_module("likeness.preprocess")
    if name == "__version__":
        return importlib.import_module("importlib.metadata").version("likeness")
    if name not in _MODULES:
        raise AttributeError(f"module 'likeness' has no attribute {name!r}")
    return getattr(importlib.import_module(f"likeness.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
