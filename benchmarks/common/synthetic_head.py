"""A scene like a head, for benchmarks of speed.

Gaussians on an ellipsoid that covers about 70 % of the frame, scales 0.5 to 2 times their spacing,
opacities 0.1 to 0.99, harmonics of degree 3; 40 to 50 Gaussians are blended per pixel.
"""

from __future__ import annotations

import math

import torch

from likeness.scene.camera import Camera
from likeness.scene.cloud import GaussianCloud
from likeness.scene.transforms import make_transform

RADII = (0.085, 0.115, 0.1)  # metres: width, height, depth
DISTANCE = 0.46


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
