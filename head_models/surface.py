"""One person's head at rest as the surface that Gaussians are bound to: the nearest place of a part
on its own side of mouth and eyes, and how far things stand from theirs."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import torch
from torch import Tensor

from likeness.head_models.base import ShapedHead
from likeness.head_models.sampling import interpolate
from likeness.head_models.sides import NO_SIDE, SIDES, sides_of
from likeness.ops.closest import closest_triangles
from likeness.scene.rig_binding import RigBinding

RIG_REACH_M = 0.015
"""How far off the skin expressions still move things."""
_CANDIDATES = 12  # triangles whose centres are nearest, among which the nearest surface point is
_OPEN_PARTS = ("skin",)  # what stands off other parts (teeth, eyes) still moves with them entirely


@dataclasses.dataclass(frozen=True)
class Membership:
    """What Gaussians belong to. part: [N] long, positions in the head model's ``part_names``.
    side: [N] long, in ``SIDES`` or NO_SIDE."""

    part: Tensor
    side: Tensor

    def select(self, index: Tensor) -> Membership:
        return Membership(self.part[index], self.side[index])


class RestSurface:
    """The mesh of a head at rest, [V] vertices in the head frame, with parts and sides."""

    def __init__(self, head: ShapedHead) -> None:
        self.head, self.model = head, head.model
        self.vertices = head.vertices
        self.sides = sides_of(head.model.name)
        self._trees: dict[tuple[int, int], tuple[Tensor, Tensor, Any]] = {}

    def place(self, rig: RigBinding) -> Tensor:
        """[N, 3] where on the mesh Gaussians are bound to."""
        total = rig.weights.sum(-1, keepdim=True).clamp_min(1e-12)
        return interpolate(self.vertices, rig.vertices, rig.weights / total)

    def membership(self, rig: RigBinding) -> Membership:
        """Parts and sides of the triangles that Gaussians are bound to. A triangle with a corner
        inside of a part belongs to that, although its other corners are on its border."""
        part = self.model.vertex_part[rig.vertices].amax(-1)
        side = self.sides.side[rig.vertices].amax(-1)
        return Membership(part, side)

    def bind(self, points: Tensor, member: Membership) -> RigBinding:
        """Points [N, 3] at rest bound to the nearest triangle of their own part that has no corner
        on the other lip or lid, nor on the inner side of a lid; skin moves things the less, the
        further off they are. The shapes are those of ``ShapedHead.expression_shapes``."""
        vertices = torch.zeros(len(points), 3, dtype=torch.long)
        weights = torch.zeros(len(points), 3)
        keys = member.part * (len(SIDES) + 1) + member.side + 1
        for key in keys.unique().tolist():
            chosen = (keys == key).nonzero()[:, 0]
            part, side = divmod(key, len(SIDES) + 1)
            found, barycentrics, distance = self._nearest(points[chosen], part, side - 1)
            if self.model.part_names[part] in _OPEN_PARTS:
                barycentrics = barycentrics * reach_weight(distance)[:, None]
            vertices[chosen], weights[chosen] = found, barycentrics
        return RigBinding(self.shapes, vertices, weights)

    @functools.cached_property
    def shapes(self) -> Tensor:
        """[E, V, 3]: see ``ShapedHead.expression_shapes``."""
        return self.head.expression_shapes()

    def _nearest(self, points: Tensor, part: int, side: int) -> tuple[Tensor, Tensor, Tensor]:
        """The triangles' vertices [N, 3], barycentrics [N, 3] and distances [N] of the nearest
        places."""
        faces, corners, tree = self._allowed(part, side)
        count = min(_CANDIDATES, len(faces))
        _, candidates = tree.query(points.numpy(), k=count)
        candidates = torch.from_numpy(candidates.reshape(len(points), count))
        chosen, barycentrics, distances = closest_triangles(points, corners, candidates)
        return faces[chosen], barycentrics, distances

    def _allowed(self, part: int, side: int) -> tuple[Tensor, Tensor, Any]:
        """The triangles [F', 3] that what belongs to a part and side may be bound to, their corners
        [F', 3, 3] and a tree of their centres."""
        from scipy.spatial import KDTree

        if (part, side) not in self._trees:
            # entirely of the part: what its border moves is the neighbour's
            allowed = (self.model.vertex_part[self.model.faces] == part).all(-1)
            allowed &= self.model.face_part == part
            allowed &= ~self.sides.lining[self.model.faces].any(-1)
            if side != NO_SIDE:
                other = side ^ 1  # SIDES lists the two of an opening one after the other
                allowed &= ~(self.sides.side[self.model.faces] == other).any(-1)
            faces = self.model.faces[allowed]
            corners = self.vertices[faces]
            self._trees[part, side] = faces, corners, KDTree(corners.mean(1).numpy())
        return self._trees[part, side]


def reach_weight(distance: Tensor) -> Tensor:
    """How much of the skin's motion things have that stand so many metres off it: 1 to 0."""
    return torch.exp(-((distance / RIG_REACH_M) ** 2))


def bind_to_skin(head: ShapedHead, points: Tensor, shapes: Tensor | None = None) -> RigBinding:
    """Points [N, 3] at rest, on or beside the head, bound to the nearest place of its skin, the
    weaker the further off they are. shapes: those of the rig, unless they are the head's own."""
    surface = RestSurface(head)
    skin = head.model.part_names.index("skin")
    every = torch.ones(len(points), dtype=torch.long)
    bound = surface.bind(points, Membership(every * skin, every * NO_SIDE))
    return bound if shapes is None else dataclasses.replace(bound, shapes=shapes)
