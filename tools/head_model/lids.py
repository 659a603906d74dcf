"""Lids that unroll: what of the skin stretches when an eye shuts."""

from __future__ import annotations

import numpy as np
import torch
from scipy.spatial import KDTree
from torch import Tensor

from likeness.head_models.base import HeadModel
from likeness.head_models.sampling import interpolate
from likeness.head_models.sides import edge_distances, lid_margins, lid_rings
from likeness.ops.closest import closest_triangles

# Along the surface from the upper lid's edge, metres: as far as the first, the skin, which carries
# the lashes, moves as the edge does; between the two it stretches evenly.
_RIGID_M, _END_M = 4.5e-3, 15e-3
_EDGE_M = (5e-4, 2.5e-3)  # where the change begins, where it is whole
_CORNERS = (0.02, 0.15)  # the same of the edge's length from either corner
_CANDIDATES = 16


def unrolled_blinks(model: HeadModel) -> Tensor:
    """[E, V, 3] the expressions of a mirror-symmetric model with blinks that shut the same surface,
    but draw its skin evenly from below the brow.

    The files' blinks move the skin within 3 mm of the edge along with it, and stretch what is
    between 4 and 8 mm to three times its length: lashes and shade that an open eye shows there are
    drawn over the whole lid.
    """
    basis = model.expression_basis.clone()
    left, right = (model.expression_names.index(f"eyeBlink{side}") for side in ("Left", "Right"))
    basis[left] = _unrolled(model, basis[left], 1)
    basis[right] = basis[left][model.mirror] * torch.tensor([-1.0, 1.0, 1.0])
    return basis


def _unrolled(model: HeadModel, blink: Tensor, sign: int) -> Tensor:
    """A blink [V, 3] of the left (1) or right (-1) eye."""
    template, shut = model.template, model.template + blink
    edges = lid_margins(model, sign)
    upper, lower = (edge_distances(model, edge) for edge in edges)
    along = _densified(np.arange(len(edges[0]), dtype=np.float32)[:, None])[:, 0]
    nearest = KDTree(_densified(template[edges[0]].numpy())).query(template.numpy())[1]
    motion = torch.from_numpy(_densified(blink[edges[0]].numpy())[nearest])
    place = torch.from_numpy(along[nearest] / along[-1])
    share = ((_END_M - upper) / (_END_M - _RIGID_M)).clamp(0, 1)
    skin = model.vertex_part == model.part_names.index("skin")
    changing = skin & (upper < lower) & ((share > 0) | (blink != 0).any(-1))
    changing[torch.from_numpy(lid_rings(model)[1])] = False  # what is behind the edge
    corners = torch.minimum(place, 1 - place)
    weight = changing * _smooth(upper, *_EDGE_M) * _smooth(corners, *_CORNERS)
    target = shut + weight[:, None] * (motion * share[:, None] - blink)
    chosen = (weight > 0).nonzero()[:, 0]
    # onto the surface that was shut before
    faces = model.skin_faces
    tree = KDTree(shut[faces].mean(1).numpy())
    candidates = torch.from_numpy(tree.query(target[chosen].numpy(), k=_CANDIDATES)[1])
    triangles, barycentrics, _ = closest_triangles(target[chosen], shut[faces], candidates)
    result = blink.clone()
    result[chosen] = interpolate(shut, faces[triangles], barycentrics) - template[chosen]
    return result


def _densified(points: np.ndarray, parts: int = 16) -> np.ndarray:
    """A polyline's points [M, C] with more between them."""
    share = np.linspace(0, 1, parts, endpoint=False, dtype=np.float32)[:, None]
    between = [(1 - share) * a + share * b for a, b in zip(points[:-1], points[1:], strict=True)]
    return np.concatenate([*between, points[-1:]])


def _smooth(x: Tensor, low: float, high: float) -> Tensor:
    t = ((x - low) / (high - low)).clamp(0, 1)
    return t * t * (3 - 2 * t)
