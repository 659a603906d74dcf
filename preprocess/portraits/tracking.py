"""The head in single images: one identity for all of them, and pose, expression and gaze of each.

In one image a person's own mouth and an expression look the same. The priors here say that shape
is near the mean of people and offsets are small, which leaves to expressions what they explain;
then the surface, at these expressions, is drawn to the landmarks. The weights are those that came
nearest to what whole clips say of single frames of theirs.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from likeness.preprocess.tracking.config import TrackerConfig
from likeness.preprocess.tracking.tracker import Tracking, track
from likeness.scene.camera import Camera
from likeness.scene.capture import Identity

if TYPE_CHECKING:
    from likeness.head_models.base import HeadModel

CONFIG = TrackerConfig(
    iterations=20,
    identity_prior=0.03,
    offset_prior=0.1,
    offset_depth_prior=0.3,
    open_eye=0.22,
    min_frames=1,
    snap_steps=3,
    snap_relief=1e-2,
)
_APART_S = 10.0  # images that have nothing to do with each other in time
_HELD = 1e6  # a prior that lets nothing move


def track_images(
    landmarks: Tensor, cameras: Camera, model: HeadModel, identity: Identity | None = None
) -> Tracking:
    """Fits the head model to landmarks [T, 478, 2] in pixels of the images' own cameras [T].

    identity: of a person who is known already; then only poses, expressions and gaze are found.
    """
    K = cameras.K[0].double()
    rays = torch.cat([landmarks.double(), torch.ones_like(landmarks[..., :1]).double()], -1)
    points = (rays @ torch.linalg.inv(cameras.K.double()).transpose(-1, -2) @ K.T)[..., :2]
    times = torch.arange(len(points), dtype=torch.float64) * _APART_S
    config, shaped = CONFIG, model
    if identity is not None:
        config = dataclasses.replace(
            CONFIG, identity_prior=_HELD, offset_prior=_HELD, offset_depth_prior=_HELD, snap_steps=0
        )
        head = model.shaped(identity)
        shaped = dataclasses.replace(
            model, template=head.vertices, expression_basis=head.expression_basis
        )
    tracking = track(
        points, torch.ones(points.shape[:2]), K, shaped, 1 / _APART_S, config, times=times
    )
    states = dataclasses.replace(tracking.states, T_world_body=tracking.states.T_world_head.clone())
    # Residuals are those of the common camera: back to each image's own pixels.
    residual = tracking.residual_px * (cameras.K[:, 0, 0] / K[0, 0]).float()
    return dataclasses.replace(
        tracking,
        states=states,
        identity=tracking.identity if identity is None else identity,
        residual_px=residual,
    )
