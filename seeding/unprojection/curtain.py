"""Long hair, which hangs around the back of head and neck: what an image shows of it to both sides
of the jaw goes round behind."""

from __future__ import annotations

import dataclasses

import numpy as np
import torch

from likeness.head_models.base import ShapedHead
from likeness.head_models.surface import bind_to_skin
from likeness.scene.seeds import Seeds
from likeness.seeding.source_view import SourceView
from likeness.seeding.unprojection.patches import flat_cloud

_AXIS_Z = -0.083  # metres, head frame: the middle of neck and cranium
_TOP, _JAW, _BOTTOM = 0.06, (-0.08, -0.05), -0.16  # heights
_AREA_M2 = 0.08  # of the longest hair
_MIN_COUNT = 120
_SPREAD = 0.75  # deviation of a patch over the spacing of patches
_INSET = 1.2  # spacings inside of the outline, so that none hangs over it
_MIN_HAIR_M = 0.003  # beside the mesh at the ears and above
_MIN_EXCESS = 0.012  # beside the jaw, from which on hair is long
_MAX_WIDTH = 0.13  # what is wider are shoulders
_BEHIND = 0.012  # hair behind the back of the head
_FRONT = 75.0  # degrees from the front around the axis, where it begins
_STEP = 0.002


def curtain_seeds(
    view: SourceView, head: ShapedHead, shapes: torch.Tensor, count: int
) -> Seeds | None:
    """About ``count`` patches on an upright elliptic cylinder about the neck, as wide as the matte
    at each height; None where hair is short, or they would be too few. shapes: of the rig."""
    if count < _MIN_COUNT:
        return None
    spacing = (_AREA_M2 / count) ** 0.5
    heights = np.arange(_TOP, _BOTTOM, -spacing)
    vertices = head.vertices.numpy()
    tops = np.minimum(heights, vertices[:, 1].max() - _BEHIND)
    # Hair hangs down from where the back of the head stands out most.
    back = np.array([vertices[vertices[:, 1] > top, 2].min() for top in tops]) - _BEHIND
    sides = [_Side.of(view, heights, spacing, side) for side in (1.0, -1.0)]
    long = [side for side in sides if side.is_long]
    points, normals, colours = [], [], []
    for side in long:
        other = long[1 - long.index(side)] if len(long) == 2 else side
        own = np.flatnonzero(side.hair)
        for row in np.flatnonzero(side.hair | other.hair):
            a = side.width[own[np.abs(own - row).argmin()]]
            depth = _AXIS_Z - back[row]
            arc = np.arange(np.radians(_FRONT), np.pi, spacing / max(a, depth))
            arc = arc[(arc > np.pi / 2) | (a * np.sin(arc) > side.mesh[row] + spacing)]
            x, z = a * np.sin(arc), depth * np.cos(arc)
            points.append(np.stack([side.sign * x, 0 * x + heights[row], _AXIS_Z + z], -1))
            normals.append(np.stack([side.sign * x / a**2, 0 * x, z / depth**2], -1))
            share = (arc / np.pi - 0.5).clip(0)[:, None]  # both sides meet at the back
            colours.append((1 - share) * side.rgb[row] + share * other.rgb[row])
    if not points:
        return None
    at, normal, rgb = (
        torch.from_numpy(np.concatenate(parts)).float() for parts in (points, normals, colours)
    )
    sizes = torch.full((len(at), 2), _SPREAD * spacing)
    cloud = flat_cloud(at, torch.nn.functional.normalize(normal, dim=-1), sizes, rgb)
    rig = bind_to_skin(head, at, shapes)
    return Seeds(cloud, torch.full((len(at),), 0.95), rig)


@dataclasses.dataclass(frozen=True, eq=False)
class _Side:
    """One side of the head, by height [R]: width, mesh: metres from the axis to the outlines of
    matte and mesh. rgb: [R, 3], what is in between. hair: where hair hangs."""

    sign: float
    width: np.ndarray
    mesh: np.ndarray
    rgb: np.ndarray
    hair: np.ndarray
    is_long: bool

    @classmethod
    def of(cls, view: SourceView, heights: np.ndarray, spacing: float, sign: float) -> _Side:
        width, mesh, rgb = _widths(view, heights, sign)
        excess, jaw = width - mesh, (heights > _JAW[0]) & (heights < _JAW[1])
        least = np.where(heights > _JAW[1], _MIN_HAIR_M, 0.5 * _MIN_EXCESS)
        hair = (excess > least) & (width < _MAX_WIDTH)
        hair &= np.cumsum(~hair & (heights < _JAW[0])) == 0
        rgb[heights < _JAW[0]] = rgb[jaw].mean(0)  # further down clothes shine through
        long = bool(np.median(excess[jaw]) > _MIN_EXCESS) and bool(hair.any())
        return cls(sign, (width - _INSET * spacing).clip(0.01), mesh, rgb, hair, long)


def _widths(
    view: SourceView, heights: np.ndarray, side: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of each height, metres from the axis to the outline of the matte and to that of the mesh on
    one side, and the colour [3] in between."""
    x = np.arange(0.0, _MAX_WIDTH + 2 * _STEP, _STEP)
    grid = np.stack(np.broadcast_arrays(side * x, heights[:, None], _AXIS_Z), -1)
    pixels, _ = view.camera.project(torch.from_numpy(grid.reshape(-1, 3)).float())
    column, row = pixels.floor().long().numpy().T
    inside = (column >= 0) & (row >= 0) & (column < view.camera.width) & (row < view.camera.height)
    column, row = column.clip(0, view.camera.width - 1), row.clip(0, view.camera.height - 1)
    person = ((view.matte[row, column] > 0.5) & inside).reshape(grid.shape[:2])
    solid = (view.raster.mask[row, column] & inside).reshape(grid.shape[:2])
    rgb = view.rgb[row, column].reshape(*grid.shape[:2], 3)
    mesh = x[np.where(solid.any(1), len(x) - 1 - solid[:, ::-1].argmax(1), 0)]
    gap = ~person & (x > mesh[:, None])
    width = x[np.where(gap.any(1), gap.argmax(1) - 1, len(x) - 1).clip(0)]
    between = (x > mesh[:, None] + _STEP) & (x < width[:, None] - _STEP)
    count = between.sum(1, keepdims=True)
    mean = (rgb * between[..., None]).sum(1) / np.maximum(count, 1)
    known = count[:, 0] > 0
    if known.any():  # where hair is thin, the colour of the nearest height
        rows = np.arange(len(heights))
        nearest = np.abs(rows[:, None] - rows[known]).argmin(1)
        mean = mean[known][nearest]
    return width, mesh, mean
