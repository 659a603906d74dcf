"""Displacements that seeds take from the head model."""

from __future__ import annotations

import torch
from torch import Tensor

from likeness.head_models.base import ShapedHead
from likeness.scene.gaze import EYES, GAZE_FULL_RAD, looks


def expression_shapes(head: ShapedHead) -> Tensor:
    """[E, V, 3] metres at coefficient 1: the model's expressions, and eyeballs that turn, to first
    order, with the coefficients of gaze (which in the model itself move the lids alone)."""
    model = head.model
    shapes = model.expression_basis.clone()
    axes = torch.tensor([[0.0, 1.0, 0.0], [-1.0, 0.0, 0.0]])  # yaw to the subject's left, pitch up
    for eye in EYES:
        if f"eye_{eye}" not in model.joint_names:
            continue
        joint = model.joint_names.index(f"eye_{eye}")
        vertices = model.joint_vertices[joint]
        arms = head.vertices[vertices] - head.joint_centers[joint]
        for name, (axis, sign) in looks(eye).items():
            if name in model.expression_names:
                turn = torch.linalg.cross(axes[axis].to(arms).expand_as(arms), arms)
                shapes[model.expression_names.index(name), vertices] += sign * GAZE_FULL_RAD * turn
    return shapes
