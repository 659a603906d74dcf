"""The head tracker: FaceMesh landmarks of a clip in, poses, expressions, gaze and the person's
shape out.

``track`` is a batch Gauss-Newton over all frames of a clip; see ``tracker.py``. The names below
load on first use, so that importing the package costs nothing.
"""

from __future__ import annotations

_HOMES = {"track": "tracker", "Tracking": "tracker", "TrackerConfig": "config"}
__all__ = list(_HOMES)


def __getattr__(name: str):
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
