"""Photometric tracking: poses and expressions of landmarks refined until a Gaussian cloud shows
every frame.

Landmarks alone trade rotation against expression, and place the head a degree or two off. Here a
coarse cloud, bound to the head model's expression shapes and nothing else, is fitted to all frames
together with each frame's poses, secondary motion and expression: bundle adjustment on pixels. It
sees every frame alike, before any avatar exists, and no avatar sees it.
"""

from __future__ import annotations

_HOMES = {"refine": "refinement", "PhotometricConfig": "config"}
__all__ = list(_HOMES)


def __getattr__(name: str):
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
