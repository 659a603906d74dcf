"""Where lips, brows, hair, beard and lids are on a head model: what is painted on it, or guessed
where no image shows it, before any landmark is placed.

One entry in ``REGIONS`` per head model, in millimetres of its template's frontal view (x to the
subject's left, y up), drawn on its left half; the other half is the mirror image.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from torch import Tensor

from likeness.head_models.base import HeadModel
from likeness.scene.errors import UserError


@dataclasses.dataclass(frozen=True)
class FaceRegions:
    """Outlines on the template. Millimetres; hairline angles in degrees from the front around the
    head's axis."""

    upper_lip: tuple[tuple[float, float], ...]
    """Outer border of the upper lip, from the middle to the corner."""
    lower_lip: tuple[tuple[float, float], ...]
    """Outer border of the lower lip, from the middle to the corner."""
    brow: tuple[tuple[float, float, float], ...]
    """Centre line and half width of the brow, from the nose outwards."""
    lid_rings: int
    """Rings of skin vertices from the eye socket's border to the edge of the lid."""
    axis_z: float
    """Depth of the vertical axis through the cranium."""
    hairline: tuple[tuple[float, float], ...]
    """Angle from the front and height of the hairline."""
    ear_box: tuple[float, float, float, float, float]
    """The ears: |x| beyond the first, y below the second and above the third, z between the last
    two."""
    beard_top: float
    """Height below which a beard grows."""
    gum_lines: tuple[float, float]
    """Heights where the gums begin: of the upper teeth, of the lower ones."""
    whorl: tuple[float, float, float]
    """The point of the crown from which short hair runs."""


REGIONS = {
    "anny": FaceRegions(
        upper_lip=(
            (0, -57.6),
            (3, -56.9),
            (6.7, -56.7),
            (10, -57.6),
            (13.5, -59.2),
            (18, -62.4),
            (20.9, -65.4),
            (22.6, -67.7),
        ),
        lower_lip=(
            (0, -79.0),
            (6.4, -78.8),
            (12.7, -77.1),
            (17.2, -74.3),
            (20.7, -70.7),
            (22.6, -67.7),
        ),
        brow=(
            (11.5, 19.0, 3.2),
            (18, 21.8, 4.0),
            (27, 24.6, 3.8),
            (37, 26.0, 3.1),
            (46, 24.3, 2.2),
            (54, 19.2, 0.9),
        ),
        lid_rings=3,
        axis_z=-65.0,
        hairline=(
            (0, 64),
            (18, 66),
            (34, 62),
            (46, 50),
            (56, 30),
            (64, -2),
            (74, -14),
            (80, 4),
            (86, 27),
            (104, 30),
            (114, 2),
            (124, -40),
            (140, -60),
            (180, -68),
        ),
        ear_box=(68.0, 33.0, -48.0, -108.0, -54.0),
        beard_top=-44.0,
        gum_lines=(-56.5, -71.5),
        whorl=(-8.0, 97.0, -105.0),
    )
}

_BLINKS = ("eyeBlinkLeft", "eyeBlinkRight")
_LID_MOTION_M = 1.5e-3  # of a vertex by a blink, from which on it is one of a lid


def regions_of(model: HeadModel) -> FaceRegions:
    """The outlines of a head model. Raises UserError where nobody has drawn them yet."""
    if model.name not in REGIONS:
        raise UserError(
            f"head model {model.name!r}: cannot be painted, no outlines of lips, brows and hair "
            "are "
            f"known for it; add them to REGIONS in {__name__} (known: {', '.join(REGIONS)})"
        )
    return REGIONS[model.name]


def lip_outline(regions: FaceRegions) -> np.ndarray:
    """The closed outline of both lips [N, 2] in millimetres."""
    left = np.array([*regions.upper_lip, *regions.lower_lip[-2::-1]])
    return np.concatenate([left, left[-2:0:-1] * [-1, 1]])


def scalp_score(regions: FaceRegions, points_mm: np.ndarray) -> np.ndarray:
    """About the distance [N] in millimetres above the hairline of template points [N, 3]; negative
    on bare skin."""
    x, y, z = points_mm.T
    angle = np.degrees(np.arctan2(np.abs(x), z - regions.axis_z))
    angles, heights = np.array(regions.hairline).T
    score = y - np.interp(angle, angles, heights)
    side, top, bottom, back, front = regions.ear_box
    ear = (np.abs(x) > side) & (y < top) & (y > bottom) & (z > back) & (z < front)
    return np.where(ear, np.minimum(score, -12.0), score)


def blink_shape(model: HeadModel) -> Tensor:
    """[V, 3] metres by which shutting both eyes moves the vertices; 0 for a model that cannot."""
    columns = [
        model.expression_names.index(name) for name in _BLINKS if name in model.expression_names
    ]
    return model.expression_basis[columns].sum(0)


def lid_vertices(model: HeadModel) -> Tensor:
    """[V] bool: the skin of the eyelids."""
    skin = model.vertex_part == model.part_names.index("skin")
    return skin & (blink_shape(model).norm(dim=-1) > _LID_MOTION_M)
