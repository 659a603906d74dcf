"""Bound means bound: what keeps the Gaussians of a rigged avatar where the mesh moves them.

A Gaussian moves with the place on the head model's mesh that it is bound to. Where a fit has moved
it away from there, a new expression moves it by the wrong shape, and the face tears. So Gaussians
are bound anew now and then to the nearest place of their own part and their own side of mouth and
eyes; those of lips, lids and all that lies behind them are also held near that place after every
step, and those of lips and lids are kept from reaching over their edge.
"""

from __future__ import annotations

import dataclasses
import math

import torch
from torch import Tensor

from likeness.fitting.avatars import AvatarModel
from likeness.head_models import shaped_head
from likeness.head_models.inside import TEETH
from likeness.head_models.sides import NO_SIDE, SIDES
from likeness.head_models.surface import RestSurface, reach_weight
from likeness.scene.capture import Capture
from likeness.scene.rig_binding import RigBinding
from likeness.scene.transforms import normalize_quats, quats_to_matrices
from likeness.seeding.inside import LARGEST_M


@dataclasses.dataclass(frozen=True)
class BindingConfig:
    """How avatars with a rig (``anchoring.rigged``) stay bound to it. The values are those that
    lose nothing on frames like the recorded ones."""

    every: int = 50
    """Steps between two rounds in which all Gaussians are bound to the place where they are; 0: as
    at the start."""
    leash_m: float = 0.002
    """Metres that Gaussians of lips may stand from their place; 0: any number. Those that are
    farther off than twice that from the start (beards, glasses) stay free."""
    lid_leash_m: float = 0.002
    """Metres for those of lids, which have lashes."""
    inner_leash_m: float = 0.001
    """Metres for those of eyes, teeth, tongue and cavities; 0: any number."""
    inner_size_m: float = 0.0025
    """Metres: largest deviation of the same; 0: any. Cavities, seen from afar, may have twice
    that; teeth are as small as their seeds were, so that none reaches through the lips."""
    rim_slack_m: float = 0.0005
    """Metres that Gaussians of lips may reach over the rim; 0: any number."""
    lid_slack_m: float = 0.0015
    """Metres that those of lids may reach over the edge, which has lashes, and which the tracked
    mesh has as much beside the picture's; 0: any number."""


_LIPS = SIDES[:2]
_GROWTH = 1.3  # of teeth, over their largest seeds
_REACH = 2.0  # standard deviations to which a Gaussian is seen
_RIM_EVERY = 5  # steps


class Binder:
    """Keeps the Gaussians of one avatar bound to a capture's head."""

    def __init__(self, capture: Capture, config: BindingConfig = BindingConfig()) -> None:
        self.config = config
        self.surface = RestSurface(shaped_head(capture))
        self._edges = [self._edge(name) for name in SIDES]
        self._largest = torch.tensor([self._largest_of(n) for n in self.surface.model.part_names])
        self._held: tuple[Tensor, Tensor, Tensor] | None = None

    def _edge(self, name: str) -> tuple[Tensor, Tensor | None]:
        """Points [M, 3] along the edge of a lip or lid, and of a lid the ways from there to the
        other one. (Lips at rest touch.)"""
        of = {side: self.surface.vertices[e] for side, e in self.surface.sides.edges.items()}
        edge = _densified(of[name])
        if name in _LIPS:
            return edge, None
        other = _densified(of[SIDES[SIDES.index(name) ^ 1]])  # the two are one after the other
        return edge, other[torch.cdist(edge, other).argmin(-1)] - edge

    def _largest_of(self, part: str) -> float:
        """Metres: the largest deviation of what is not skin."""
        limit = self.config.inner_size_m or math.inf
        if part in TEETH:
            return min(limit, _GROWTH * LARGEST_M[part])
        return 2 * limit if part.endswith("cavity") else limit

    @torch.no_grad()
    def after_step(self, avatar: AvatarModel, step: int, operated: bool) -> bool:
        """To be called when step number ``step`` has been taken; ``operated``: surgery was done.
        Returns whether all Gaussians were bound anew."""
        if operated or self._held is None:
            self._look_up(avatar)
        self._hold(avatar)
        due = bool(self.config.every) and (operated or (step + 1) % self.config.every == 0)
        if due:
            self.bind(avatar)
        if step % _RIM_EVERY == 0:
            self._keep_within(avatar)
        return due

    @torch.no_grad()
    def bind(self, avatar: AvatarModel) -> None:
        """Binds all Gaussians to the place where they are."""
        if not self.config.every:
            return
        p, rig = avatar.per_gaussian, avatar.rig
        assert rig is not None
        member = self.surface.membership(_cpu(rig))
        bound = self.surface.bind(p["means"].cpu(), member)
        p["rig_vertices"].copy_(bound.vertices)
        p["rig_weights"].copy_(bound.weights)
        self._look_up(avatar)

    def _look_up(self, avatar: AvatarModel) -> None:
        """Which Gaussians are held, where, and how far they may go."""
        p, config, rig = avatar.per_gaussian, self.config, avatar.rig
        assert rig is not None
        rig, device = _cpu(rig), p["means"].device
        member, place = self.surface.membership(rig), self.surface.place(rig)
        leashes = [config.leash_m] * 2 + [config.lid_leash_m] * (len(SIDES) - 2)
        radius = torch.tensor([*leashes, 0.0])[member.side]  # NO_SIDE is the last
        # what stands beside the mesh moves less than the mesh
        sided = (member.side != NO_SIDE) & (rig.weights.sum(-1) > reach_weight(2 * radius))
        radius = torch.where(sided & (radius > 0), radius, torch.inf)
        skin = member.part == self.surface.model.part_names.index("skin")
        radius = torch.where(skin, radius, config.inner_leash_m or torch.inf)
        inner = (~skin).nonzero()[:, 0]
        largest = self._largest[member.part[inner]]
        self._inner = inner.to(device), largest.log()[:, None].to(device)
        held = torch.isfinite(radius).nonzero()[:, 0]
        self._held = held.to(device), place[held].to(device), radius[held, None].to(device)
        near = (sided & skin).nonzero()[:, 0]
        side, points = member.side[near], place[near]
        toward, distance = torch.zeros(len(near), 3), torch.zeros(len(near))
        for number, (edge, across) in enumerate(self._edges):
            mine = side == number
            if mine.any():
                nearest = torch.cdist(points[mine], edge).argmin(-1)
                away = edge[nearest] - points[mine]
                direction = away if across is None else across[nearest]
                toward[mine] = torch.nn.functional.normalize(direction, dim=-1)
                distance[mine] = (away * toward[mine]).sum(-1)
        lid = side >= len(_LIPS)
        slack = torch.where(lid, config.lid_slack_m or torch.inf, config.rim_slack_m or torch.inf)
        self._near = tuple(t.to(device) for t in (near, toward, distance, points, lid, slack))

    def _hold(self, avatar: AvatarModel) -> None:
        means = avatar.per_gaussian["means"].data
        assert self._held is not None, "looked up before"
        index, place, radius = self._held
        away = means[index] - place
        distance = away.norm(dim=-1, keepdim=True)
        means[index] = place + away * (radius / distance.clamp_min(1e-9)).clamp_max(1)
        log_scales, (inner, largest) = avatar.per_gaussian["log_scales"].data, self._inner
        log_scales[inner] = torch.minimum(log_scales[inner], largest)

    def _keep_within(self, avatar: AvatarModel) -> None:
        """Makes smaller, along the axes that point there, what reaches over its edge, and moves
        back what of lids stands in the eye's opening."""
        p = avatar.per_gaussian
        index, toward, distance, place, lid, slack = self._near
        moved = ((p["means"][index] - place) * toward).sum(-1)
        over = torch.where(lid, moved - distance - slack, 0.0).clamp_min(0)
        p["means"].data[index] -= over[:, None] * toward
        distance = torch.where(lid, (distance - moved).clamp_min(0), distance)
        axes = quats_to_matrices(normalize_quats(p["quats"][index]))
        along = (toward[:, None] @ axes)[:, 0].square()  # of each axis
        log_scales = p["log_scales"][index]
        sigma = (along * (2 * log_scales).exp()).sum(-1).sqrt()
        limit = (distance + slack) / _REACH
        excess = (sigma / limit).log().clamp_min(0)
        p["log_scales"].data[index] = log_scales - along * excess[:, None]


def _cpu(rig: RigBinding) -> RigBinding:
    return dataclasses.replace(
        rig, vertices=rig.vertices.detach().cpu(), weights=rig.weights.detach().cpu()
    )


def _densified(points: Tensor, parts: int = 8) -> Tensor:
    """A polyline's points [M, 3] with more between them."""
    share = torch.linspace(0, 1, parts + 1)[:-1, None, None]
    return torch.cat([((1 - share) * points[:-1] + share * points[1:]).flatten(0, 1), points[-1:]])


def bound_distances(avatar: AvatarModel, capture: Capture) -> dict[str, dict[str, float]]:
    """How far Gaussians stand from the place on the mesh that moves them, in millimetres: median
    and 95th percentile, by what they belong to (lips, lids, parts of the head model).

    Left out: what stands so far off the skin (hair, clothes) that it is moved by less than half.
    Empty for an avatar without a rig."""
    if (rig := avatar.rig) is None:
        return {}
    rig, surface = _cpu(rig), RestSurface(shaped_head(capture))
    member = surface.membership(rig)
    distances = 1000 * (surface.place(rig) - avatar.per_gaussian["means"].detach().cpu()).norm(
        dim=-1
    )
    bound = rig.weights.sum(-1) > 0.5
    skin = member.part == surface.model.part_names.index("skin")
    side = torch.where(skin, member.side, NO_SIDE)
    groups = {"lips": (side == 0) | (side == 1), "lids": side >= 2}
    for number, name in enumerate(surface.model.part_names):
        groups[name] = (member.part == number) & (side == NO_SIDE)
    figures = {}
    for name, chosen in groups.items():
        values = distances[chosen & bound]
        if len(values):
            median, high = (round(float(values.quantile(q)), 3) for q in (0.5, 0.95))
            figures[name] = {"median": median, "p95": high}
    return figures
