"""From a video to a tracked, matted capture.

``pipeline`` runs the stages: ``scan`` (landmarks of all frames), ``selection`` (usable frames),
``frames`` (crops and ``matting``), ``tracking`` (head model to landmarks), ``photometric`` (to
images), ``assembly``. ``portraits`` does the same for still images.

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
    weights: str | Path | None = None,
    offline: bool = False,
    progress: bool = True,
) -> Capture:
    """The capture of a video of one person: cropped frames, mattes and the tracked head.

    out: folder of the capture; unfinished work there is resumed, a finished capture is returned.
        None: a folder in ``runs/.captures``, found again by the video and the settings.
    weights: folder with files of published weights. offline: download none.

    Raises UnusableVideo for a video that cannot be used, UserError where nothing can be written.
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
        weights=None if weights is None else Path(weights),
        download=not offline,
        progress=progress,
    )


class _CallablePackage(types.ModuleType):
    def __call__(self, *args: Any, **kwargs: Any) -> Capture:
        return preprocess(*args, **kwargs)


sys.modules[__name__].__class__ = _CallablePackage
