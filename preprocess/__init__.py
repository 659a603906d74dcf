"""From a video to a tracked, matted capture.

The package is also the function of the public interface: ``likeness.preprocess(video)`` calls
``preprocess`` below, whether or not its modules were imported before.
"""

from __future__ import annotations

import sys
import types
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from likeness.preprocess.pipeline import PreprocessConfig
    from likeness.scene.capture import Capture


def preprocess(
    video: str | Path,
    out: str | Path | None = None,
    settings: PreprocessConfig | None = None,
    *,
    device: str = "auto",
    weights: Path | None = None,
    offline: bool = False,
    progress: bool = True,
) -> Capture:
    """The capture of a video of one person: cropped frames, mattes and the tracked head.

    out: folder of the capture; work that was begun there is taken up, a finished capture is
        returned. None: one in ``runs/.captures``, found again by the video and the settings.
    weights: folder with files of published weights. offline: download none.

    Raises UnusableVideo for a video that is no use, UserError where nothing can be written.
    """
    from likeness.preprocess.pipeline import PreprocessConfig, build_capture, find_or_build
    from likeness.scene.devices import choose_device

    build, place = (
        (find_or_build, Path("runs/.captures")) if out is None else (build_capture, Path(out))
    )
    return build(
        Path(video),
        place,
        settings or PreprocessConfig(),
        device=str(choose_device(device)),
        weights=weights,
        download=not offline,
        progress=progress,
    )


class _CallablePackage(types.ModuleType):
    def __call__(self, *args: Any, **kwargs: Any) -> Capture:
        return preprocess(*args, **kwargs)


sys.modules[__name__].__class__ = _CallablePackage
