"""The reference itself: its gradients against finite differences, its projection against gsplat's
in PyTorch."""

from __future__ import annotations

import pytest
import torch

from likeness.ops import harmonics
from likeness.renderers import create
from likeness.renderers.reference import project
from likeness.scene.camera import Camera
from likeness.scene.cloud import GaussianCloud
from tests.contract.test_renderers import smooth_scene
from tests.renderers.scenes import SCENES


def gsplat_in_torch():
    """gsplat's own slow twin of its CUDA code, as far as it runs without CUDA."""
    return pytest.importorskip(
        "gsplat.cuda._torch_impl", reason="gsplat is not installed: nothing to compare with"
    )


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_gradients_against_finite_differences(seed: int) -> None:
    """Where no decision is made by comparison (every Gaussian reaches every pixel, none is
    finished)."""
    cloud, camera = smooth_scene(seed)
    cloud = cloud.map(lambda tensor: tensor[:4])
    cloud = GaussianCloud(**{**cloud.fields(), "sh": cloud.sh[:, : 4 ** (seed % 2 + 1)]})
    inputs = [
        tensor.double().requires_grad_()
        for tensor in (*cloud.fields().values(), camera.T_cam_world)
    ]

    def images(*tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
        view = Camera(camera.K.double(), tensors[5], camera.width, camera.height)
        output = create("reference").render(GaussianCloud(*tensors[:5]), view, depth=True)
        return output.rgb, output.alpha, output.depth

    assert torch.autograd.gradcheck(images, inputs, eps=1e-6, atol=1e-5, rtol=1e-4)


def test_screen_gradient_is_that_of_moving_the_picture() -> None:
    """Moving all means by a pixel to the right is what a principal point one pixel farther does."""
    cloud, camera = smooth_scene(5)
    cloud = cloud.map(lambda tensor: tensor.double().requires_grad_())

    def value(shift: float) -> tuple[torch.Tensor, torch.Tensor]:
        # Only the means move: the linearisation's clamp, which also depends on the principal point,
        # is not reached.
        K = camera.K.double().clone()
        K[0, 2] += shift
        view = Camera(K, camera.T_cam_world.double(), camera.width, camera.height)
        output = create("reference").render(cloud, view, screen="absolute")
        weights = torch.linspace(-1, 1, 9, dtype=torch.float64)[:, None]
        return (output.rgb * weights).sum(), output.screen

    loss, screen = value(0.0)
    loss.backward()
    numeric = (value(1e-4)[0] - value(-1e-4)[0]) / 2e-4
    gradient = screen.means2d.grad
    torch.testing.assert_close(gradient[:, 0].sum(), numeric.detach(), atol=1e-7, rtol=1e-6)
    assert (screen.absgrad >= gradient.abs()).all()


@pytest.mark.parametrize("scene", ["ordinary", "image border", "needles", "degenerate scales"])
@pytest.mark.parametrize("seed", [0, 1])
def test_projection_against_gsplat(scene: str, seed: int) -> None:
    oracle = gsplat_in_torch()
    cloud, camera = (part.to(torch.float64) for part in SCENES[scene](seed))
    covariances, _ = oracle._quat_scale_to_covar_preci(cloud.quats, cloud.scales, True, False)
    radii, means2d, depths, conics, _ = oracle._fully_fused_projection(
        cloud.means,
        covariances,
        camera.T_cam_world[None],
        camera.K[None],
        camera.width,
        camera.height,
    )
    ours, covariances2d, z = project(cloud, camera)
    drawn = (radii[0] > 0).all(-1)
    assert drawn.sum() > 10
    torch.testing.assert_close(ours[drawn], means2d[0, drawn])
    torch.testing.assert_close(z, depths[0])
    inverse = torch.linalg.inv(covariances2d[drawn])
    entries = torch.stack([inverse[:, 0, 0], inverse[:, 0, 1], inverse[:, 1, 1]], -1)
    torch.testing.assert_close(entries, conics[0, drawn], atol=1e-7, rtol=1e-5)
    # With full opacity the reach is 3.3290 standard deviations, gsplat's without opacity 3.33.
    solid = GaussianCloud(**{**cloud.fields(), "opacities": torch.ones_like(cloud.opacities)})
    stats = create("reference").render(solid, camera, screen=True).screen
    assert (radii[0].amax(-1) - stats.radii)[
        drawn & stats.visible
    ].abs().max() <= 1 + 1e-3 * radii.max()
    assert (drawn | ~stats.visible).all()


@pytest.mark.parametrize("degree", [0, 1, 2, 3])
def test_harmonics_against_gsplat(degree: int) -> None:
    oracle = gsplat_in_torch()
    directions = torch.nn.functional.normalize(torch.randn(50, 3, dtype=torch.float64), dim=-1)
    coefficients = torch.randn(50, (degree + 1) ** 2, 3, dtype=torch.float64)
    wanted = (oracle._spherical_harmonics(degree, directions, coefficients) + 0.5).clamp_min(0)
    torch.testing.assert_close(
        harmonics.evaluate(coefficients, directions), wanted, atol=1e-6, rtol=1e-6
    )
