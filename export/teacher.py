"""What a teacher shows at many states, in the terms of the linear avatar: per Gaussian a row of
values.

A row is the opacity's logit, the harmonics [K, 3] and, where the teacher's geometry moves, its
translation, rotation and log-scale change from the neutral geometry, in the linear avatar's units.
"""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from likeness.fitting.avatars import AvatarModel
from likeness.fitting.avatars.linear import ROTATION_RAD, TRANSLATION_M
from likeness.fitting.bundle import AvatarBundle
from likeness.ops import harmonics as spherical_harmonics
from likeness.scene.camera import Camera
from likeness.scene.cloud import GaussianCloud
from likeness.scene.head_state import HeadState
from likeness.scene.transforms import (
    conjugate_quats,
    multiply_quats,
    normalize_quats,
    quats_to_rotvecs,
    rotvecs_to_matrices,
)

SCOUTS = 2500
LARGEST_LOGIT = 7.0  # beyond it nothing changes in a image: opacities of 0.001 and 0.999
_STILL = 1e-6  # metres, radians and log-scales below which geometry does not depend on the state
_CONE_RAD = 0.5  # the harmonics are refitted for views up to this far from the recorded ones


@dataclasses.dataclass(frozen=True)
class Lesson:
    """values: [T, N, D] half precision (see the module). rest: the teacher's cloud [N] at the
    neutral state.
    moves: whether values hold the motion. reads_pose: whether they depend on anything
        but expressions."""

    values: Tensor
    rest: GaussianCloud
    moves: bool
    reads_pose: bool


@torch.no_grad()
def ask(bundle: AvatarBundle, states: HeadState, degree: int, moves: bool, progress=None) -> Lesson:
    """The teacher's values at states [T], with harmonics of ``degree`` and, if it moves, its
    motion; ``progress`` is called after each state."""
    avatar, eyes = bundle.avatar, eyes_of(bundle.default_camera, states)
    rest = _cloud(
        avatar, bundle.default_state, eyes_of(bundle.default_camera, bundle.default_state)
    )
    project = degree_projection(bundle, degree, rest.sh.shape[-2])
    width = values_per_gaussian(round(len(project) ** 0.5) - 1, moves)
    values = torch.empty(len(states), rest.num_gaussians, width, dtype=torch.float16)
    for index in range(len(states)):
        values[index] = _row(_cloud(avatar, states[index], eyes[index]), rest, project, moves)
        if progress is not None:
            progress()
    return Lesson(values, rest, moves, _reads_pose(bundle, states))


def values_per_gaussian(degree: int, moves: bool) -> int:
    """The values D of a Gaussian with harmonics of a degree."""
    return 1 + 3 * spherical_harmonics.num_coefficients(degree) + 9 * moves


@torch.no_grad()
def is_moving(bundle: AvatarBundle, states: HeadState) -> bool:
    """Whether the teacher's canonical geometry depends on the state, by some of states [T]."""
    eyes = eyes_of(bundle.default_camera, states)
    rest = _cloud(
        bundle.avatar, bundle.default_state, eyes_of(bundle.default_camera, bundle.default_state)
    )
    probes = range(0, len(states), max(1, len(states) // 8))
    return any(_moved(rest, _cloud(bundle.avatar, states[i], eyes[i])) for i in probes)


def thin(bundle: AvatarBundle, importance: Tensor, seed: int) -> tuple[AvatarBundle, Tensor]:
    """The bundle with some SCOUTS of its Gaussians, drawn by their importance [N, D], and that of
    these, divided by the
    chance of being drawn: [SCOUTS, D]. What they do stands for what all do."""
    chance = importance.sum(-1) / importance.sum()
    generator = torch.Generator().manual_seed(seed)
    chosen = torch.multinomial(chance, min(SCOUTS, len(chance)), generator=generator).sort().values
    thinned = dataclasses.replace(bundle, avatar=bundle.avatar.subset(chosen))
    if len(chosen) == len(chance):
        return thinned, importance
    return thinned, importance[chosen] / chance[chosen, None]


def eyes_of(camera: Camera, states: HeadState) -> Tensor:
    """Where the camera stands in the head frames of states [*b]: [*b, 3]."""
    return camera.in_frame(states.T_world_head).center


def degree_projection(bundle: AvatarBundle, degree: int, coefficients: int) -> Tensor:
    """[K', K] that takes harmonics of K coefficients into those of ``degree`` that look most alike
    from the recorded views and around them (cutting the higher bands off would change the colour
    that is seen from the front)."""
    count = spherical_harmonics.num_coefficients(degree)
    if count >= coefficients:
        return torch.eye(coefficients)
    views = -torch.nn.functional.normalize(
        eyes_of(bundle.default_camera, bundle.recording), dim=-1
    ).double()
    generator = torch.Generator().manual_seed(0)
    rotvecs = (
        _CONE_RAD * torch.randn(4, len(views), 3, generator=generator, dtype=torch.float64) / 2
    )
    around = (rotvecs_to_matrices(rotvecs) @ views[:, :, None])[..., 0].reshape(-1, 3)
    full = spherical_harmonics.basis(around, round(coefficients**0.5) - 1)
    # A little of the whole sphere, so that nothing is left undetermined.
    everywhere = torch.nn.functional.normalize(
        torch.randn(2000, 3, generator=generator, dtype=torch.float64), dim=-1
    )
    weight = (0.01 * len(around) / len(everywhere)) ** 0.5
    full = torch.cat(
        [full, weight * spherical_harmonics.basis(everywhere, round(coefficients**0.5) - 1)]
    )
    return torch.linalg.lstsq(full[:, :count], full).solution.float()


def _cloud(avatar: AvatarModel, state: HeadState, eye: Tensor) -> GaussianCloud:
    return avatar.canonical(state, eye, avatar.backend()).map(lambda tensor: tensor.float())


def _row(cloud: GaussianCloud, rest: GaussianCloud, project: Tensor, moves: bool) -> Tensor:
    """[N, D]; see the module."""
    logits = torch.logit(cloud.opacities.double()).clamp(-LARGEST_LOGIT, LARGEST_LOGIT).float()
    parts = [logits[:, None], (project @ cloud.sh).flatten(1)]
    if moves:
        rotation = multiply_quats(
            normalize_quats(cloud.quats), conjugate_quats(normalize_quats(rest.quats))
        )
        parts += [
            (cloud.means - rest.means) / TRANSLATION_M,
            quats_to_rotvecs(rotation) / ROTATION_RAD,
            (cloud.scales / rest.scales).log(),
        ]
    return torch.cat(parts, -1)


def _moved(rest: GaussianCloud, cloud: GaussianCloud) -> bool:
    same_turn = 1 - (normalize_quats(rest.quats) * normalize_quats(cloud.quats)).sum(-1).abs()
    changes = (
        (cloud.means - rest.means).abs(),
        same_turn,
        (cloud.scales / rest.scales).log().abs(),
    )
    return any(float(change.max()) > _STILL for change in changes)


def _reads_pose(bundle: AvatarBundle, states: HeadState) -> bool:
    """Whether the teacher changes with joints, poses or the eye while the expression stays."""
    rest = bundle.default_state
    still = _cloud(bundle.avatar, rest, eyes_of(bundle.default_camera, rest))
    for index in range(0, len(states), max(1, len(states) // 8)):
        other = dataclasses.replace(states[index], expression=rest.expression)
        posed = _cloud(bundle.avatar, other, eyes_of(bundle.default_camera, other))
        if any(
            float((value - posed.fields()[name]).abs().max()) > _STILL
            for name, value in still.fields().items()
        ):
            return True
    return False
