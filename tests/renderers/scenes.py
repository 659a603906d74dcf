"""Random scenes for the tests of the renderers, one for each awkward case."""

from __future__ import annotations

from collections.abc import Callable

import torch

from likeness.scene.camera import Camera
from likeness.scene.cloud import GaussianCloud
from likeness.scene.transforms import make_transform, rotvecs_to_matrices


def random_cloud(count: int, seed: int, degree: int = 3) -> GaussianCloud:
    """Gaussians about two metres in front of a camera at the origin; quaternions of many
    lengths."""
    g = torch.Generator().manual_seed(seed)
    return GaussianCloud(
        means=torch.randn(count, 3, generator=g) * torch.tensor([0.6, 0.5, 0.5])
        + torch.tensor([0.0, 0.0, 2.0]),
        quats=torch.randn(count, 4, generator=g) * torch.exp(torch.randn(count, 1, generator=g)),
        scales=torch.exp(torch.randn(count, 3, generator=g) * 0.7 - 2.8),
        opacities=torch.rand(count, generator=g) * 0.9 + 0.05,
        sh=torch.randn(count, (degree + 1) ** 2, 3, generator=g) * 0.4,
    )


def random_camera(
    width: int, height: int, seed: int, center: tuple[float, float] = (0.52, 0.47)
) -> Camera:
    """A slightly turned camera near the origin; the principal point as a share of the image's
    size."""
    g = torch.Generator().manual_seed(1000 + seed)
    rotation = rotvecs_to_matrices(torch.randn(3, generator=g) * 0.1)
    pose = make_transform(rotation, torch.randn(3, generator=g) * 0.05)
    fx, fy = 1.1 * max(width, height), 1.2 * max(width, height)
    K = torch.tensor([[fx, 0.0, center[0] * width], [0.0, fy, center[1] * height], [0.0, 0.0, 1.0]])
    return Camera(K, pose, width, height)


def _changed(cloud: GaussianCloud, **fields: torch.Tensor) -> GaussianCloud:
    return GaussianCloud(**{**cloud.fields(), **fields})


def _behind(seed: int) -> tuple[GaussianCloud, Camera]:
    cloud = random_cloud(80, seed)
    means = cloud.means.clone()
    means[::2, 2] -= 4.0  # behind
    means[1::8, 2] = 0.02  # about the near plane
    return _changed(cloud, means=means), random_camera(40, 32, seed)


def _border(seed: int) -> tuple[GaussianCloud, Camera]:
    """Rows of Gaussians along the image's border and beyond it, some far outside the frustum."""
    cloud, camera = random_cloud(80, seed), random_camera(41, 33, seed)
    share = torch.linspace(-0.6, 1.6, 20)
    edges = [torch.stack([share, torch.full_like(share, edge)], -1) for edge in (-0.02, 1.02)]
    pixels = torch.cat([*edges, *[edge.flip(-1) for edge in edges]]) * torch.tensor([41.0, 33.0])
    rays = torch.cat([pixels, torch.ones(80, 1)], -1) @ torch.linalg.inv(camera.K).T
    in_camera = rays * cloud.means[:, 2:].clamp_min(0.5)
    means = (in_camera - camera.T_cam_world[:3, 3]) @ camera.T_cam_world[:3, :3]
    return _changed(cloud, means=means), camera


def _degenerate(seed: int) -> tuple[GaussianCloud, Camera]:
    cloud = random_cloud(60, seed)
    scales = cloud.scales.clone()
    scales[::4] = 0.0
    scales[1::4] = 1e-9
    scales[2::8] = 5.0
    return _changed(cloud, scales=scales), random_camera(40, 32, seed)


def _needles(seed: int) -> tuple[GaussianCloud, Camera]:
    cloud = random_cloud(60, seed)
    scales = torch.tensor([0.4, 2e-4, 2e-4]).repeat(60, 1)
    scales[::3] = torch.tensor([0.3, 0.3, 1e-4])
    return _changed(cloud, scales=scales), random_camera(40, 32, seed)


def _opacities(seed: int) -> tuple[GaussianCloud, Camera]:
    cloud = random_cloud(80, seed)
    values = torch.tensor([0.0, 0.003, 0.0045, 0.9985, 1.0, 0.5])
    return _changed(cloud, opacities=values.repeat(14)[:80]), random_camera(40, 32, seed)


def _clamped(seed: int) -> tuple[GaussianCloud, Camera]:
    """Broad, fully opaque Gaussians: in much of the picture alpha is clamped."""
    cloud = random_cloud(20, seed)
    opacities = torch.linspace(0.9992, 1.0, 20)
    return _changed(cloud, opacities=opacities, scales=cloud.scales * 8), random_camera(
        40, 32, seed
    )


def _saturated(seed: int) -> tuple[GaussianCloud, Camera]:
    """Many nearly opaque layers: most of them lie behind finished pixels."""
    cloud = random_cloud(300, seed)
    return _changed(
        cloud, opacities=cloud.opacities * 0.3 + 0.65, scales=cloud.scales * 2
    ), random_camera(40, 32, seed)


def _dark(seed: int) -> tuple[GaussianCloud, Camera]:
    """Half of the colours are clamped at 0."""
    cloud = random_cloud(60, seed)
    return _changed(cloud, sh=cloud.sh - torch.tensor([1.5, 2.0, 2.5])), random_camera(40, 32, seed)


SCENES: dict[str, Callable[[int], tuple[GaussianCloud, Camera]]] = {
    "ordinary": lambda seed: (random_cloud(100, seed), random_camera(48, 40, seed)),
    "degree 0": lambda seed: (random_cloud(60, seed, 0), random_camera(40, 32, seed)),
    "degree 1": lambda seed: (random_cloud(60, seed, 1), random_camera(40, 32, seed)),
    "degree 2": lambda seed: (random_cloud(60, seed, 2), random_camera(40, 32, seed)),
    "behind the camera": _behind,
    "image border": _border,
    "degenerate scales": _degenerate,
    "needles": _needles,
    "opacities 0 and 1": _opacities,
    "clamped": _clamped,
    "saturated": _saturated,
    "dark": _dark,
    "principal point outside": lambda seed: (
        random_cloud(60, seed),
        random_camera(40, 32, seed, (-0.2, 1.3)),
    ),
    "odd size": lambda seed: (random_cloud(60, seed), random_camera(37, 23, seed)),
    "one pixel": lambda seed: (random_cloud(30, seed), random_camera(1, 1, seed)),
    "one Gaussian": lambda seed: (
        _changed(random_cloud(1, seed), means=torch.tensor([[0.05, 0.1, 2.0]])),
        random_camera(40, 32, seed),
    ),
}
