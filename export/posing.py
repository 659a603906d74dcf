"""The clouds that files hold: an avatar at a state, in the frame and by the axes that the file's
readers expect."""

from __future__ import annotations

import torch
from torch import Tensor

from likeness.fitting.bundle import AvatarBundle
from likeness.ops import harmonics as spherical_harmonics
from likeness.scene.cloud import GaussianCloud
from likeness.scene.errors import UserError
from likeness.scene.head_state import HeadState
from likeness.scene.transforms import (
    invert_transform,
    make_transform,
    matrices_to_quats,
    multiply_quats,
    normalize_quats,
)

AXES: dict[str, tuple[tuple[float, ...], ...]] = {
    # +x right, +y down, +z away from who looks at the face (what 3DGS trainers write, and
    # SuperSplat, Unity's plug-in and Spark's examples put upright).
    "y-down": ((1, 0, 0), (0, -1, 0), (0, 0, -1)),
    # The head frame: +x to the subject's left (right in the image), +y up, +z out of the face;
    # OpenGL, three.js, SPZ.
    "y-up": ((1, 0, 0), (0, 1, 0), (0, 0, 1)),
    # Blender's: +z up, the face towards -y (numpad 1 looks at it).
    "z-up": ((1, 0, 0), (0, 0, -1), (0, 1, 0)),
}
"""Rotations from the head frame to a file's axes, by name."""

ANCHORS = ("head", "body")
"""What stands still in a file: the head (the shoulders move below it), or the body (the head
moves on it)."""


@torch.no_grad()
def posed_cloud(bundle: AvatarBundle, state: HeadState, axes: str, anchor: str) -> GaussianCloud:
    """The avatar at one state, seen by the bundle's camera where its colours depend on that.

    Raises UserError for unknown axes or anchors.
    """
    eye = bundle.default_camera.in_frame(state.T_world_head).center
    cloud = bundle.avatar(bundle.tuned(state), eye).map(lambda tensor: tensor.float())
    return moved(cloud, T_file_head(state, axes, anchor))


def T_file_head(state: HeadState, axes: str, anchor: str) -> Tensor:
    """[4, 4] from the head frame of a state to a file's frame."""
    if axes not in AXES:
        raise UserError(f"axes {axes}: unknown; expected one of {', '.join(AXES)}")
    if anchor not in ANCHORS:
        raise UserError(f"anchor {anchor}: unknown; expected one of {', '.join(ANCHORS)}")
    rotation = make_transform(torch.tensor(AXES[axes], dtype=torch.float32), torch.zeros(3))
    return rotation if anchor == "head" else rotation @ invert_transform(state.T_head_body)


def moved(cloud: GaussianCloud, T: Tensor) -> GaussianCloud:
    """An unbatched cloud in another frame, by a rigid T [4, 4]: its harmonics rotate with it, so
    that it looks the same from a camera that is moved alike."""
    rotation = T[:3, :3]
    degree = round(cloud.sh.shape[-2] ** 0.5) - 1
    quats = multiply_quats(
        matrices_to_quats(rotation).expand_as(cloud.quats), normalize_quats(cloud.quats)
    )
    return GaussianCloud(
        cloud.means @ rotation.T + T[:3, 3],
        quats,
        cloud.scales,
        cloud.opacities,
        spherical_harmonics.rotation_matrices(rotation, degree) @ cloud.sh,
    )
