"""The network's queries: points on a head model, ordered so that any first N of them cover it
evenly.

LAM subdivides its mesh to 5K, 20K or 80K vertices. Ours are points of the triangles in
farthest-first order, denser where faces move, so that the same network serves any number of
Gaussians.
"""

from __future__ import annotations

import dataclasses
import functools

import numpy as np
import torch
from torch import Tensor

from likeness.head_models import HEAD_MODELS
from likeness.head_models.base import HeadModel
from likeness.head_models.sampling import face_areas, interpolate, sample_triangles
from likeness.renderers.mesh import vertex_normals
from likeness.scene.records import TensorRecord

_CANDIDATES = 5  # per point
# Relative to skin at rest. The cavities are hardly seen.
_DENSITY = {
    "skin": 1.0,
    "eye_left": 3.0,
    "eye_right": 3.0,
    "tongue": 1.0,
    "teeth_upper": 3.0,
    "teeth_lower": 3.0,
}
_OTHER_DENSITY = 0.25
# skin that expressions move by so much has four times the density
_MOVING_GAIN, _MOVING_M = 3.0, 0.008
# of the distance to the sixth neighbour: at the border of a dense region most stand on one side
_ONE_SIDED = 0.8
_MAX_EXACT = 24_000  # points in farthest-first order; the rest are drawn evenly


@dataclasses.dataclass(frozen=True)
class QueryPoints(TensorRecord):
    """N query points on a head model.

    corners: [N, 3] vertices around each; barycentrics: [N, 3]; spacing: [N] metres between
    neighbours; tokens: [M] positions among the points of those that attend; near: [N, 3] and
    near_weights: [N, 3] the nearest three tokens.
    template: [N, 3] metres; normals: [N, 3] on the mean person.
    """

    model: HeadModel
    corners: Tensor
    barycentrics: Tensor
    spacing: Tensor
    template: Tensor
    normals: Tensor
    tokens: Tensor
    near: Tensor
    near_weights: Tensor

    def __len__(self) -> int:
        return len(self.corners)

    def first(self, count: int) -> QueryPoints:
        """Its first ``count`` points (at least as many as tokens), as evenly spread."""
        if not len(self.tokens) <= count <= len(self):
            raise ValueError(
                f"QueryPoints.first: expected {len(self.tokens)} to {len(self)} points, got {count}"
            )
        spacing = self.spacing[:count] * (len(self) / count) ** 0.5
        cut = {name: getattr(self, name)[:count] for name in _PER_POINT}
        return dataclasses.replace(self, **(cut | {"spacing": spacing}))

    def of(self, field: Tensor) -> Tensor:
        """Values [*b, N, C] of a field over the vertices [*b, V, C]."""
        return interpolate(field, self.corners, self.barycentrics)

    def twins(self, field: Tensor) -> Tensor:
        """The same at each point's mirrored twin."""
        return interpolate(field, self.model.mirror[self.corners], self.barycentrics)


_PER_POINT = ("corners", "barycentrics", "template", "normals", "near", "near_weights")


@functools.lru_cache(maxsize=6)
def make_queries(head_model: str, count: int, tokens: int) -> QueryPoints:
    """``count`` points, of which the first ``tokens`` attend (0: all); always the same ones."""
    model = HEAD_MODELS[head_model]()
    faces, barycentrics, density = _ordered(head_model, count)
    corners = model.faces[faces]
    template = interpolate(model.template, corners, barycentrics)
    normals = torch.from_numpy(vertex_normals(model.template, model.faces))
    normals = torch.nn.functional.normalize(interpolate(normals, corners, barycentrics), dim=-1)
    area = float((face_areas(model.template, model.faces) * _densities(model)).sum())
    # Where the density changes quickly, neighbours are further off than it says.
    # What is drawn beyond those in order fills no gap that one could count on.
    spacing = (area / min(count, _MAX_EXACT) / density).sqrt()
    spacing = torch.maximum(spacing, _neighbour_distance(template))
    own = torch.arange(count if tokens == 0 else min(tokens, count))
    near, weights = _nearest(template, template[own])
    return QueryPoints(model, corners, barycentrics, spacing, template, normals, own, near, weights)


def _nearest(points: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
    from scipy.spatial import KDTree

    distance, index = KDTree(tokens.numpy()).query(points.numpy(), k=min(3, len(tokens)))
    distance, index = (np.atleast_2d(a.T).T for a in (distance, index))
    if index.shape[1] < 3:
        pad = 3 - index.shape[1]
        distance = np.pad(distance, ((0, 0), (0, pad)), constant_values=1e3)
        index = np.pad(index, ((0, 0), (0, pad)))
    weights = 1 / np.maximum(distance, 1e-4)
    weights = torch.from_numpy(weights / weights.sum(1, keepdims=True)).float()
    return torch.from_numpy(index).long(), weights


def _neighbour_distance(points: Tensor, neighbours: int = 6) -> Tensor:
    """[N] side of the square that a point has to itself, if its six neighbours stood around it
    evenly."""
    from scipy.spatial import KDTree

    if len(points) <= neighbours:
        return points.new_zeros(len(points))
    distance, _ = KDTree(points.numpy()).query(points.numpy(), k=neighbours + 1)
    even = distance[:, 1:].mean(1) * (3**0.5 / 2) ** 0.5
    return torch.from_numpy(np.maximum(even, _ONE_SIDED * distance[:, -1])).float()


def _densities(model: HeadModel) -> Tensor:
    """Relative density of points [F]."""
    part = model.values_by_part(_DENSITY, _OTHER_DENSITY)
    skin = model.face_part == model.part_names.index("skin")
    moved = model.expression_basis.norm(dim=-1).amax(0)[model.faces].mean(-1)
    return part * torch.where(skin, 1 + _MOVING_GAIN * (moved / _MOVING_M).clamp(0, 1), 1.0)


@functools.lru_cache(maxsize=2)
def _ordered(head_model: str, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """Faces [count], barycentrics [count, 3] and densities [count] in farthest-first order."""
    from likeness.head_models.farthest_first import farthest_first

    model = HEAD_MODELS[head_model]()
    density, generator = _densities(model), torch.Generator().manual_seed(0)
    exact = min(count, _MAX_EXACT)
    drawn = max(_CANDIDATES * exact, count)
    weights = face_areas(model.template, model.faces) * density
    faces, barycentrics = sample_triangles(weights, drawn, generator)
    points = interpolate(model.template, model.faces[faces], barycentrics)
    order = torch.from_numpy(farthest_first(points.numpy(), density[faces].numpy(), exact))
    if count > exact:
        rest = torch.ones(drawn, dtype=torch.bool)
        rest[order] = False
        order = torch.cat([order, rest.nonzero()[: count - exact, 0]])
    return faces[order], barycentrics[order], density[faces][order]
