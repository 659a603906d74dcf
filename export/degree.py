"""The lowest degree of the spherical harmonics that still shows an avatar as it is."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from likeness.export.fidelity import MAX_LOSS_DB, agreement, images, loss_db, some
from likeness.export.teacher import degree_projection, eyes_of
from likeness.fitting.bundle import AvatarBundle
from likeness.renderers import create
from likeness.scene.head_state import HeadState


def choose_degree(bundle: AvatarBundle, states: HeadState) -> int:
    """The first from 1 up that loses at most MAX_LOSS_DB at ``states``, or the avatar's own degree
    if that is less."""
    few = some(states)
    own = round(_coefficients(bundle) ** 0.5) - 1
    if own <= 1:
        return own
    expected = images(bundle, few)
    for degree in range(1, own):
        if loss_db(agreement(_reduced_images(bundle, few, degree), expected)) <= MAX_LOSS_DB:
            return degree
    return own


@torch.no_grad()
def _coefficients(bundle: AvatarBundle) -> int:
    state = bundle.default_state
    avatar, eye = bundle.avatar, eyes_of(bundle.default_camera, state)
    return avatar.canonical(state, eye, avatar.backend()).sh.shape[-2]


@torch.no_grad()
def _reduced_images(bundle: AvatarBundle, states: HeadState, degree: int) -> Tensor:
    renderer, avatar = create("cpu"), bundle.avatar
    project = degree_projection(bundle, degree, _coefficients(bundle))
    rendered, backend = [], avatar.backend()
    for index in range(len(states)):
        view = bundle.default_camera.in_frame(states[index].T_world_head)
        cloud = avatar.canonical(states[index], view.center, backend)
        cloud = dataclasses.replace(cloud, sh=project @ cloud.sh)
        cloud = avatar.placed(cloud, states[index], backend)
        rendered.append(renderer.render(cloud, view).over(torch.ones(3)).clamp(0, 1))
    return torch.stack(rendered)
