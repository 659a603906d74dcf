"""Options of the photometric refinement."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True)
class PhotometricConfig:
    """Options of ``refine``."""

    size: int = 128
    """Side in pixels of the images that are compared, as near as halving the capture's comes to
    it."""

    num_gaussians: int = 5000
    """Gaussians of the tracking cloud. It has no expression bases: those would absorb the error
    that is looked for."""

    visits: int = 24
    """How often each frame is looked at."""

    batch: int = 4
    """Frames per step."""

    pose_rate: float = 8e-3
    """Learning rate of the poses, in radians and in tenths of a metre, at the knots of the coarse
    steps."""

    expression_rate: float = 0.02
    """Learning rate of the expression coefficients there; 0 leaves those of the landmarks."""

    coarse_interval_s: float = 0.2
    """Seconds from one knot to the next at which the first quarter of the steps holds poses and
    expressions."""

    gap_weight: float = 1e-3
    """Cost per squared millimetre by which the gaps of lids and lips, and irises, leave what
    landmarks say: at 128 pixels these see speech, blinks and gaze better than images do."""

    steadiness: float = 0.2
    """How much poses are kept from shaking in the end (``steadied``); 0 leaves them."""

    matte_weight: float = 0.2
    """Cost of the silhouette's error against the colour's."""

    sway_rate: float = 0.04
    """Learning rate of the secondary motion of hair, neck and clothes, in centimetres; 0: there is
    none."""

    sway_weight: float = 3e-3
    """Cost of its mean square in square centimetres, and of that of the differences between control
    points."""

    sway_interval_s: float = 0.12
    """Seconds from one knot of it in time to the next. Offsets of each frame alone take in noise,
    of which poses shake along."""
