"""Where Gaussians are anchored: two frames (head and body), secondary motion, and a learned
correction of the tracked pose. Any avatar can use them; each is switched off alone."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor, nn

from likeness.ops.deform import deform
from likeness.scene.bounds import Count
from likeness.scene.cloud import GaussianCloud
from likeness.scene.head_state import HeadState
from likeness.scene.transforms import (
    make_transform,
    matrices_to_rotvecs,
    quats_to_rotvecs,
    rotvecs_to_matrices,
)


@dataclasses.dataclass(frozen=True)
class AnchoringConfig:
    """How Gaussians follow the head and the body."""

    two_frames: bool = False
    """Each Gaussian has a learned weight between the head's frame and the body's; else all follow
    the head."""
    rigged: bool = False
    """Gaussians move with the head model's expression shapes at the place where they started."""
    swaying: bool = False
    """Gaussians follow the tracked secondary motion of hair, neck and clothes
    (``HeadState.secondary_motion``)."""
    pose_correction: bool = False
    """A learned linear map from expression and head pose to a correction of the tracked head
    pose."""
    correction_components: Count = 10
    """Principal components of the training expressions that the pose correction sees."""


class Anchoring(nn.Module):
    """Moves a canonical cloud with the head's and the body's frames. The result stays in the
    tracked head frame."""

    expression_mean: Tensor
    expression_components: Tensor
    pose_scale: Tensor

    def __init__(self, config: AnchoringConfig, num_expressions: int) -> None:
        super().__init__()
        self.config = config
        if config.pose_correction:
            components = min(config.correction_components, num_expressions)
            self.register_buffer("expression_mean", torch.zeros(num_expressions))
            self.register_buffer("expression_components", torch.zeros(num_expressions, components))
            self.register_buffer("pose_scale", torch.ones(6))
            self.correction = nn.Parameter(torch.zeros(components + 6, 6))

    def observe(self, expressions: Tensor, T_head_body: Tensor) -> None:
        """Learns the inputs' statistics from the training frames' expressions [T, E] and poses
        [T, 4, 4], before the fit."""
        if not self.config.pose_correction:
            return
        count = self.expression_components.shape[1]
        mean = expressions.mean(0)
        _, deviations, directions = torch.linalg.svd(expressions - mean, full_matrices=False)
        spread = deviations[:count] / max(len(expressions), 1) ** 0.5
        whitening = directions[:count].T / spread.clamp_min(0.02)
        self.expression_mean.copy_(mean)
        # Fewer frames than components leave the rest at zero.
        self.expression_components.zero_()
        self.expression_components[:, : whitening.shape[1]] = whitening
        pose = relative_pose(T_head_body)
        self.pose_scale.copy_(pose.std(0, unbiased=False).clamp_min(0.01))

    def pose_delta(self, state: HeadState) -> Tensor:
        """The corrections [*b, 4, 4], in the head frame: a rotation of at most about 15° and a few
        centimetres."""
        codes = (state.expression - self.expression_mean) @ self.expression_components
        inputs = torch.cat([codes, relative_pose(state.T_head_body) / self.pose_scale], -1)
        # Inputs beyond what training showed must not rotate the head without bound.
        delta = torch.tanh((3 * torch.tanh(inputs / 3)) @ self.correction / 2) * 2
        # Units: 0.1 rad and 1 cm for a value of 1.
        return make_transform(rotvecs_to_matrices(delta[..., :3] * 0.1), delta[..., 3:] * 0.01)

    def forward(
        self,
        cloud: GaussianCloud,
        state: HeadState,
        head_weights: Tensor | None,
        displacement: Tensor | None = None,
    ) -> GaussianCloud:
        """The clouds [*b, N] of states [*b]. head_weights: [N], None without two frames.
        displacement: [*b, N, 3] by the expression; see ``likeness.ops.deform``."""
        config = self.config
        return deform(
            cloud,
            displacement=displacement,
            secondary_motion=state.secondary_motion if config.swaying else None,
            T_head=self.pose_delta(state) if config.pose_correction else None,
            T_body=state.T_head_body if config.two_frames else None,
            head_weights=head_weights,
        )


def bent_pose(state: HeadState) -> Tensor:
    """Joints and the body's pose [*b, 3 J + 6] as a network's input, in units of 0.1 rad and 1 cm.

    Bent to at most five units: what training never showed must not throw Gaussians about.
    """
    rotation, translation = relative_pose(state.T_head_body).split(3, -1)
    joints = quats_to_rotvecs(state.joints).flatten(-2)
    pose = torch.cat([joints / 0.1, rotation / 0.1, translation / 0.01], -1)
    return 5 * torch.tanh(pose / 5)


def relative_pose(T_head_body: Tensor) -> Tensor:
    """Rotation vector and translation [*b, 6] (radians, metres) of the body in the head frame."""
    return torch.cat([matrices_to_rotvecs(T_head_body[..., :3, :3]), T_head_body[..., :3, 3]], -1)
