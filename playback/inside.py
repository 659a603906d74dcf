"""Images of what an avatar is made of: depth, its Gaussians as points at rest and in motion, its
learned planes."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import torch

from likeness.fitting.bundle import AvatarBundle
from likeness.fitting.images import depth_map, to_uint8
from likeness.playback.player import Player
from likeness.scene.camera import Camera
from likeness.scene.cloud import GaussianCloud
from likeness.scene.head_state import HeadState
from likeness.scene.image_files import save_rgb
from likeness.scene.transforms import make_transform, rotvecs_to_matrices

FOLDER = "inside"
_POINT_M = 8e-4  # radius at which a Gaussian is drawn as a point
_SIDE = 0.9  # radians of yaw of the second view


def write_inside(
    bundle: AvatarBundle,
    states: list[HeadState],
    cameras: list[Camera],
    root: Path,
    device: str = "cpu",
) -> None:
    """Writes ``inside/*.png`` into ``root``: the expected depth of some states, the canonical
    points, the points of the state with the strongest expression, and the avatar's own images,
    where it has any."""
    player = Player(bundle, device)
    images: dict[str, np.ndarray] = {}
    for number, (state, camera) in enumerate(zip(states, cameras)):
        output = player.step(state, camera, depth=True)
        assert output.depth is not None  # asked for
        depth, alpha = (values[..., 0].cpu().numpy() for values in (output.depth, output.alpha))
        images[f"depth_{number}"] = depth_map(depth, alpha)
    strongest = max(states, key=lambda state: float(state.expression.sum()))
    still = dataclasses.replace(strongest, T_world_body=strongest.T_world_head)
    still = still.without_secondary_motion().expressionless()
    for name, state in (("points_canonical", still), ("points_deformed", strongest)):
        images[name] = np.concatenate([_points(player, state, yaw) for yaw in (0.0, _SIDE)], 1)
    images |= {name: to_uint8(image) for name, image in bundle.avatar.images().items()}
    for name, image in images.items():
        save_rgb(root / FOLDER / f"{name}.png", image)


@torch.no_grad()
def _points(player: Player, state: HeadState, yaw: float) -> np.ndarray:
    """The Gaussians of a state as points on white, seen from ``yaw`` radians to the side of the
    player's camera."""
    state = state.to(player.device)
    rotation = rotvecs_to_matrices(torch.tensor([0.0, yaw, 0.0], device=player.device))
    T_turned = state.T_world_head @ make_transform(rotation, torch.zeros(3, device=player.device))
    camera = player.camera.in_frame(T_turned)
    cloud = player.cloud(state, player.camera.in_frame(state.T_world_head).center)
    seen = cloud.opacities > 0.05
    points = GaussianCloud(
        cloud.means[seen],
        cloud.quats[seen],
        torch.full_like(cloud.scales[seen], _POINT_M),
        torch.full_like(cloud.opacities[seen], 0.9),
        cloud.sh[seen][:, :1],
    )
    output = player.renderer.render(points, camera)
    return to_uint8(output.over(torch.ones(3, device=player.device)))
