"""A scene like a head, and avatars of it, for benchmarks of speed.

Gaussians on an ellipsoid that covers about 70 % of the frame, scales 0.5 to 2 times their spacing,
opacities 0.1 to 0.99, harmonics of degree 3; 40 to 50 Gaussians are blended per pixel.
"""

from __future__ import annotations

import dataclasses
import math

import torch

from likeness.fitting.bundle import AvatarBundle
from likeness.scene.camera import Camera
from likeness.scene.cloud import GaussianCloud
from likeness.scene.head_state import HeadState
from likeness.scene.transforms import make_transform, rotvecs_to_matrices

RADII = (0.085, 0.115, 0.1)  # metres: width, height, depth
DISTANCE = 0.46
RIG_VERTICES = 4706  # of the default head model
_CODES = 24  # of most exported avatars


def head_like_scene(count: int, size: int, degree: int = 3) -> tuple[GaussianCloud, Camera]:
    """Gaussians on an ellipsoid and the camera in front of it."""
    g = torch.Generator().manual_seed(0)
    a, b, c = RADII
    power = 1.6075  # Thomsen's formula for the area of an ellipsoid
    area = (
        4 * math.pi * (((a * b) ** power + (a * c) ** power + (b * c) ** power) / 3) ** (1 / power)
    )
    spacing = math.sqrt(area / count)
    cloud = GaussianCloud(
        means=torch.nn.functional.normalize(torch.randn(count, 3, generator=g), dim=-1)
        * torch.tensor(RADII),
        quats=torch.randn(count, 4, generator=g),
        scales=spacing * (0.5 + 1.5 * torch.rand(count, 3, generator=g)),
        opacities=0.1 + 0.89 * torch.rand(count, generator=g),
        sh=torch.randn(count, (degree + 1) ** 2, 3, generator=g) * 0.3,
    )
    focal = 1.9 * size
    K = torch.tensor([[focal, 0.0, size / 2], [0.0, focal, size / 2], [0.0, 0.0, 1.0]])
    pose = make_transform(
        torch.diag(torch.tensor([1.0, -1.0, -1.0])), torch.tensor([0.0, 0.0, DISTANCE])
    )
    return cloud, Camera(K, pose, size, size)


def synthetic_bundle(preset: str, count: int, size: int = 512, frames: int = 60) -> AvatarBundle:
    """A head of ``count`` Gaussians with random bases, as the preset's avatar, and a recording of
    random states."""
    from likeness.fitting.avatars import AVATARS, AvatarShape, TrainingStates
    from likeness.fitting.config import FitConfig
    from likeness.scene.config_files import load_preset
    from likeness.scene.rig_binding import RigBinding
    from likeness.scene.seeds import Seeds

    config = load_preset(preset, FitConfig)
    cloud, camera = head_like_scene(count, size, 0)
    g = torch.Generator().manual_seed(0)
    # from here on the world is the camera's frame
    rest = HeadState.neutral(52, 2, camera.T_cam_world)
    turns = make_transform(
        rotvecs_to_matrices(0.1 * torch.randn(frames, 3, generator=g)), torch.zeros(frames, 3)
    )
    recording = HeadState(
        torch.rand(frames, 52, generator=g),
        rest.joints.expand(frames, -1, -1),
        rest.T_world_head @ turns,
        rest.T_world_body.expand(frames, 4, 4),
    )
    avatar = AVATARS[config.avatar](config.avatar_config(), AvatarShape(count, 52, 2, RIG_VERTICES))
    seeds = Seeds(cloud, torch.full((count,), 0.5), RigBinding.empty(count, 52, RIG_VERTICES))
    avatar.initialize(seeds, TrainingStates(recording.expression, recording.T_head_body))
    avatar.advance(config.schedule.iterations)
    with torch.no_grad():
        if "basis" in avatar.per_gaussian:
            avatar.per_gaussian["basis"].copy_(
                torch.randn(avatar.per_gaussian["basis"].shape, generator=g)
            )
        if hasattr(avatar, "mlp"):
            avatar.mlp[-1].weight.copy_(0.1 * torch.randn(avatar.mlp[-1].weight.shape, generator=g))
    times = torch.arange(frames, dtype=torch.float64) / 25
    ranges = torch.stack([recording.expression.amin(0), recording.expression.amax(0)])
    names = tuple(f"expression_{index}" for index in range(52))
    world = Camera(camera.K, torch.eye(4), size, size)
    return AvatarBundle(
        avatar.eval(),
        "synthetic",
        names,
        ("eye_left", "eye_right"),
        ranges,
        world,
        rest,
        recording,
        times,
        {},
    )


def as_exported(bundle: AvatarBundle) -> AvatarBundle:
    """A synthetic head as a linear avatar with random modes, of the kind and the sizes that are
    exported."""
    from likeness.fitting.avatars import AVATARS, AvatarShape
    from likeness.fitting.avatars.linear import LinearConfig

    avatar, g = bundle.avatar, torch.Generator().manual_seed(0)
    with torch.no_grad():
        cloud = avatar(bundle.default_state, torch.zeros(3))
        coefficients = min(cloud.sh.shape[1], 4)
        config = LinearConfig(
            codes=_CODES,
            hidden_size=128,
            sh_degree=round(coefficients**0.5) - 1,
            anchoring=avatar.anchoring.config,
        )
        vertices = avatar.rig_shapes.shape[1] if config.anchoring.rigged else 0
        linear = AVATARS["linear"](config, AvatarShape(avatar.num_gaussians, 52, 2, vertices))
        linear.load_state_dict(avatar.state_dict(), strict=False)
        p = linear.per_gaussian
        looks = torch.cat(
            [torch.logit(cloud.opacities, 0.01)[:, None], cloud.sh[:, :coefficients].flatten(1)], 1
        )
        p["base_looks"].copy_(looks)
        for name in ("look_modes", "motion_modes"):
            p[name].copy_(0.05 * torch.randn(p[name].shape, generator=g))
    return dataclasses.replace(bundle, avatar=linear.eval())
