"""What every renderer must do: agree with the reference on picture, alpha, depth and all gradients.

Where the tolerances come from: float32 keeps about 1e-6 of a picture and 1e-5 of a gradient. Two
decisions are made by comparison (a contribution below 1/255 is dropped; a pixel is finished at a
transmittance of 1e-4), and there the
last digit may decide otherwise: such a pixel may differ by one contribution at the threshold, times
    its colour.
"""

from __future__ import annotations

import dataclasses

import pytest
import torch

from likeness.ops import harmonics as sh
from likeness.renderers import RENDERERS, RenderOutput, create
from likeness.scene.camera import Camera
from likeness.scene.cloud import GaussianCloud
from likeness.scene.errors import UserError
from tests.renderers.scenes import SCENES, random_camera, random_cloud

ROUNDING = 5e-5  # of colours of about 1
DECISION = 0.02  # one contribution of 1/255, times a colour of at most 5
GRADIENTS = (*GaussianCloud.__dataclass_fields__, "T_cam_world")


#: gsplat is run where CUDA is.
MARKED = [
    pytest.param(name, marks=pytest.mark.gpu) if name == "gsplat" else name for name in RENDERERS
]


@pytest.fixture(scope="module", params=[name for name in MARKED if name != "reference"])
def renderer(request):
    return make(request.param)


@pytest.fixture(scope="module", params=MARKED)
def any_renderer(request):
    return make(request.param)


def make(name: str):
    try:
        renderer = create(name, device_of(name))
        renderer.warm_up()
    except UserError as error:
        pytest.skip(str(error))
    return renderer


def device_of(name: str) -> str:
    return "cuda" if name == "gsplat" else "cpu"


def rendered(renderer, cloud: GaussianCloud, camera: Camera, seed: int = 0):
    """The output, and the gradients (all float32 on the CPU) of a random weighting of colour, alpha
    and depth."""
    device = device_of(renderer.name)
    cloud = cloud.map(lambda tensor: tensor.to(device).detach().clone().requires_grad_())
    pose = camera.T_cam_world.to(device).detach().clone().requires_grad_()
    camera = Camera(camera.K.to(device), pose, camera.width, camera.height)
    output = renderer.render(cloud, camera, depth=True, screen="absolute")
    weighting(output, seed).backward()
    gradients = {
        name: tensor.grad.cpu() for name, tensor in {**cloud.fields(), "T_cam_world": pose}.items()
    }
    screen = output.screen
    gradients["means2d"], gradients["absgrad"] = (screen.means2d.grad.cpu(), screen.absgrad.cpu())
    images = RenderOutput(
        output.rgb.detach().cpu(), output.alpha.detach().cpu(), output.depth.detach().cpu(), screen
    )
    return images, gradients


def weighting(output: RenderOutput, seed: int) -> torch.Tensor:
    """A random scalar of a picture. Depth counts where something is: its gradient grows as alpha
    shrinks."""
    g = torch.Generator().manual_seed(seed)
    images = output.rgb, output.alpha, output.depth * output.alpha.detach()
    return sum((torch.randn(image.shape, generator=g).to(image) * image).sum() for image in images)


def assert_same_image(got: torch.Tensor, wanted: torch.Tensor, scale: float = 1.0) -> None:
    difference = (got - wanted).abs() / scale
    assert torch.isfinite(got).all()
    assert difference.max() <= DECISION
    decided_otherwise = (difference > ROUNDING).any(-1).sum().item()
    assert decided_otherwise <= 1 + 0.004 * difference[..., 0].numel()


def assert_same_gradient(
    name: str, got: torch.Tensor, wanted: torch.Tensor, cosine: float, ratio: float
) -> None:
    assert torch.isfinite(got).all(), name
    got, wanted = got.double().flatten(), wanted.double().flatten()
    if wanted.norm() < 1e-5:
        assert got.norm() < 1e-4, name
        return
    assert torch.nn.functional.cosine_similarity(got, wanted, dim=0) >= cosine, name
    assert abs(got.norm() / wanted.norm() - 1) <= ratio, name


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("scene", list(SCENES))
def test_agrees_with_the_reference(renderer, scene: str, seed: int) -> None:
    cloud, camera = SCENES[scene](seed)
    wanted, wanted_gradients = rendered(create("reference"), cloud, camera, seed)
    got, gradients = rendered(renderer, cloud, camera, seed)
    assert_same_image(got.rgb, wanted.rgb)
    assert_same_image(got.alpha, wanted.alpha)
    assert_same_image(got.depth * wanted.alpha, wanted.depth * wanted.alpha, scale=3.0)
    assert torch.equal(got.screen.visible.cpu(), wanted.screen.visible)
    torch.testing.assert_close(got.screen.radii.cpu(), wanted.screen.radii, atol=1.0, rtol=1e-3)
    visible = wanted.screen.visible
    torch.testing.assert_close(
        got.screen.means2d.detach().cpu()[visible],
        wanted.screen.means2d.detach()[visible],
        atol=1e-3,
        rtol=1e-5,
    )
    for name in (*GRADIENTS, "means2d", "absgrad"):
        assert_same_gradient(
            name, gradients[name], wanted_gradients[name], cosine=0.9995, ratio=0.01
        )


@pytest.mark.parametrize("seed", [3, 4])
def test_gradients_are_exact_away_from_decisions(renderer, seed: int) -> None:
    """Broad, faint Gaussians: every one reaches every pixel, none is finished, so that only
    rounding differs."""
    cloud, camera = smooth_scene(seed)
    wanted, wanted_gradients = rendered(create("reference"), cloud, camera, seed)
    got, gradients = rendered(renderer, cloud, camera, seed)
    torch.testing.assert_close(got.rgb, wanted.rgb, atol=5e-6, rtol=0)
    torch.testing.assert_close(got.depth, wanted.depth, atol=5e-5, rtol=0)
    for name in (*GRADIENTS, "means2d", "absgrad"):
        assert_same_gradient(
            name, gradients[name], wanted_gradients[name], cosine=1 - 1e-7, ratio=1e-4
        )


def smooth_scene(seed: int) -> tuple[GaussianCloud, Camera]:
    cloud = random_cloud(6, seed)
    means = cloud.means * torch.tensor([0.2, 0.2, 0.5]) + torch.tensor([0.0, 0.0, 1.0])
    opacities, harmonics = cloud.opacities * 0.3 + 0.2, cloud.sh * 0.2
    cloud = dataclasses.replace(
        cloud, means=means, scales=cloud.scales + 0.5, opacities=opacities, sh=harmonics
    )
    return cloud, random_camera(9, 7, seed)


@pytest.mark.parametrize("part", ["rgb", "alpha", "depth"])
def test_each_image_has_its_own_gradient(renderer, part: str) -> None:
    """Colour alone, alpha alone, depth alone: what the others would have contributed is absent."""

    def gradients(name: str) -> dict[str, torch.Tensor]:
        cloud, camera = SCENES["ordinary"](7)
        device = device_of(name)
        cloud = cloud.map(lambda tensor: tensor.to(device).requires_grad_())
        renderer = make(name)
        output = renderer.render(cloud, camera.to(device), depth=part == "depth")
        weights = torch.randn(
            getattr(output, part).shape, generator=torch.Generator().manual_seed(5)
        ).to(device)
        weights = weights * output.alpha.detach()
        (getattr(output, part) * weights).sum().backward()
        zero = torch.zeros(())
        return {
            k: (zero.expand(v.shape) if v.grad is None else v.grad.cpu())
            for k, v in cloud.fields().items()
        }

    wanted, got = gradients("reference"), gradients(renderer.name)
    for name in wanted:
        assert_same_gradient(name, got[name], wanted[name], cosine=0.9995, ratio=0.01)
    if part != "rgb":
        assert got["sh"].abs().max() == 0


def test_depth_of_one_gaussian_is_its_depth(any_renderer) -> None:
    cloud, camera = SCENES["one Gaussian"](0)
    device = device_of(any_renderer.name)
    cloud = cloud.map(lambda tensor: tensor.to(device).requires_grad_())
    output = any_renderer.render(cloud, camera.to(device), depth=True)
    z = camera.project(cloud.means.detach().cpu())[1]
    covered = output.alpha > 0
    assert 10 < covered.sum() < covered.numel()
    torch.testing.assert_close(
        output.depth[covered].detach().cpu(), z.expand(int(covered.sum())), atol=0, rtol=2e-5
    )
    assert (output.depth[~covered] == 0).all()
    output.depth[covered].mean().backward()
    # moving along the viewing axis changes the depth, nothing else does
    forward = camera.T_cam_world[2, :3]
    torch.testing.assert_close(cloud.means.grad[0].cpu(), forward, atol=2e-3, rtol=0)


def test_alpha_follows_the_formula(any_renderer) -> None:
    """An isotropic Gaussian on the axis: alpha = opacity exp(-d² / 2 (f² s² / z² + 0.3)), cut off
    below 1/255."""
    focal, scale, z, opacity = 30.0, 0.1, 1.5, 0.8
    device = device_of(any_renderer.name)
    cloud = GaussianCloud(
        torch.tensor([[0.0, 0.0, z]]),
        torch.tensor([[2.0, 0.0, 0.0, 0.0]]),
        torch.full((1, 3), scale),
        torch.tensor([opacity]),
        torch.zeros(1, 1, 3),
    ).to(device)
    K = torch.tensor([[focal, 0.0, 10.5], [0.0, focal, 8.5], [0.0, 0.0, 1.0]])
    output = any_renderer.render(cloud, Camera(K, torch.eye(4), 21, 17).to(device))
    y, x = torch.meshgrid(torch.arange(17) - 8.0, torch.arange(21) - 10.0, indexing="ij")
    expected = opacity * torch.exp(-(x**2 + y**2) / 2 / ((focal * scale / z) ** 2 + 0.3))
    expected = torch.where(expected >= 1 / 255, expected, 0.0)
    torch.testing.assert_close(output.alpha[..., 0].cpu(), expected, atol=1e-6, rtol=0)
    torch.testing.assert_close(
        output.rgb.cpu(), 0.5 * expected[..., None].expand(-1, -1, 3), atol=1e-6, rtol=0
    )


def test_nearer_gaussians_hide_farther_ones(any_renderer) -> None:
    device = device_of(any_renderer.name)
    cloud = random_cloud(2, 0, degree=0)
    colors = sh.from_rgb(torch.tensor([[[1.0, 0.0, 0.0]], [[0.0, 1.0, 0.0]]]))
    means, opacities = torch.tensor([[0.0, 0.0, 2.0], [0.0, 0.0, 1.0]]), torch.tensor([1.0, 0.75])
    cloud = GaussianCloud(means, cloud.quats, torch.full((2, 3), 0.5), opacities, colors).to(device)
    K = torch.tensor([[30.0, 0.0, 2.5], [0.0, 30.0, 2.5], [0.0, 0.0, 1.0]])
    output = any_renderer.render(cloud, Camera(K, torch.eye(4), 5, 5).to(device))
    torch.testing.assert_close(
        output.rgb[2, 2].cpu(), torch.tensor([0.25 * 0.999, 0.75, 0.0]), atol=1e-4, rtol=0
    )
    torch.testing.assert_close(
        output.alpha[2, 2].cpu(), torch.tensor([1 - 0.25 * 0.001]), atol=1e-5, rtol=0
    )


@pytest.mark.parametrize("requires_grad", [False, True])
def test_no_gaussians(any_renderer, requires_grad: bool) -> None:
    device = device_of(any_renderer.name)
    cloud = random_cloud(0, 0).map(lambda tensor: tensor.to(device).requires_grad_(requires_grad))
    output = any_renderer.render(
        cloud, random_camera(20, 10, 0).to(device), depth=True, screen=True
    )
    assert (
        output.rgb.shape == (10, 20, 3)
        and output.alpha.shape == (10, 20, 1)
        and output.depth.shape == (10, 20, 1)
    )
    assert all((image == 0).all() for image in (output.rgb, output.alpha, output.depth))
    assert output.screen.means2d.shape == (0, 2) and output.screen.visible.shape == (0,)
    if requires_grad:
        (output.rgb.sum() + output.alpha.sum() + output.depth.sum()).backward()
        assert cloud.means.grad.shape == (0, 3)


@pytest.mark.parametrize("batched", ["camera", "cloud", "both", "two dimensions"])
def test_batches_equal_single_pictures(any_renderer, batched: str) -> None:
    device = device_of(any_renderer.name)
    batch = (2, 2) if batched == "two dimensions" else (3,)
    count = 4 if batched == "two dimensions" else 3
    clouds = [random_cloud(20, seed).to(device) for seed in range(count)]
    cameras = [random_camera(18, 14, seed).to(device) for seed in range(count)]
    cloud, camera = clouds[0], cameras[0]
    if batched != "camera":
        fields = {name: torch.stack([c.fields()[name] for c in clouds]) for name in cloud.fields()}
        cloud = GaussianCloud(**fields).map(
            lambda tensor: tensor.reshape(*batch, *tensor.shape[1:])
        )
    if batched != "cloud":
        stack = Camera.stack(cameras)
        camera = Camera(
            stack.K.reshape(*batch, 3, 3), stack.T_cam_world.reshape(*batch, 4, 4), 18, 14
        )
    cloud = cloud.map(lambda tensor: tensor.clone().requires_grad_())
    output = any_renderer.render(cloud, camera, depth=True, screen="absolute")
    (output.rgb.square().sum() + output.depth.sum()).backward()
    assert output.rgb.shape == (*batch, 14, 18, 3) and output.screen.means2d.shape == (
        *batch,
        20,
        2,
    )
    assert output.screen.radii.shape == output.screen.visible.shape == (*batch, 20)

    total = torch.zeros_like(clouds[0].means)
    for index in range(count):
        one = (clouds[0] if batched == "camera" else clouds[index]).map(
            lambda t: t.clone().requires_grad_()
        )
        own = cameras[0] if batched == "cloud" else cameras[index]
        single = any_renderer.render(one, own, depth=True, screen="absolute")
        (single.rgb.square().sum() + single.depth.sum()).backward()
        torch.testing.assert_close(
            output.rgb.reshape(count, 14, 18, 3)[index], single.rgb, atol=1e-6, rtol=0
        )
        torch.testing.assert_close(
            output.depth.reshape(count, 14, 18, 1)[index], single.depth, atol=1e-6, rtol=0
        )
        for together, alone in (
            (output.screen.means2d.grad, single.screen.means2d.grad),
            (output.screen.absgrad, single.screen.absgrad),
        ):
            gradient = together.reshape(count, 20, 2)[index]
            torch.testing.assert_close(gradient, alone, atol=1e-5, rtol=1e-4)
        if batched != "camera":
            gradient = cloud.means.grad.reshape(count, 20, 3)[index]
            torch.testing.assert_close(gradient, one.means.grad, atol=1e-4, rtol=1e-4)
        total += one.means.grad
    if batched == "camera":
        torch.testing.assert_close(cloud.means.grad, total, atol=1e-3, rtol=1e-4)


def test_absolute_gradients_come_where_they_are_asked_for(any_renderer) -> None:
    device = device_of(any_renderer.name)
    cloud, camera = (part.to(device) for part in SCENES["ordinary"](0))
    found = []
    for screen in (True, "absolute"):
        output = any_renderer.render(
            cloud.map(lambda t: t.clone().requires_grad_()), camera, screen=screen
        )
        output.rgb.square().sum().backward()
        found.append(output.screen)
    assert found[0].absgrad is None and found[1].absgrad.shape == found[1].means2d.shape
    torch.testing.assert_close(found[0].means2d.grad, found[1].means2d.grad)
    assert (found[1].absgrad >= found[1].means2d.grad.abs() - 1e-4).all()


def test_features_are_blended_as_colours_are(any_renderer) -> None:
    device = device_of(any_renderer.name)
    cloud, camera = (part.to(device) for part in SCENES["ordinary"](0))
    features = torch.rand(cloud.num_gaussians, 5, device=device)
    maps = any_renderer.splat(cloud, camera, features)
    assert maps.shape == (camera.height, camera.width, 5)
    for channel in (0, 4):
        grey = features[:, channel, None].expand(-1, 3)
        shown = any_renderer.render(
            dataclasses.replace(cloud, sh=sh.from_rgb(grey)[:, None]), camera
        )
        torch.testing.assert_close(maps[..., channel], shown.rgb[..., 0], atol=1e-5, rtol=0)


def test_batches_that_differ_are_refused(any_renderer) -> None:
    device = device_of(any_renderer.name)
    camera = random_camera(8, 8, 0)
    three = Camera(camera.K.expand(3, 3, 3), camera.T_cam_world.expand(3, 4, 4), 8, 8).to(device)
    with pytest.raises(ValueError, match="batch"):
        any_renderer.render(random_cloud(4, 0).expand(2).to(device), three)


def test_inputs_are_not_changed(any_renderer) -> None:
    device = device_of(any_renderer.name)
    cloud, camera = SCENES["ordinary"](1)
    cloud, camera = cloud.map(lambda tensor: tensor.to(device).requires_grad_()), camera.to(device)
    before = [
        tensor.detach().clone()
        for tensor in (*cloud.fields().values(), camera.K, camera.T_cam_world)
    ]
    output = any_renderer.render(cloud, camera, depth=True, screen=True)
    output.rgb.sum().backward()
    after = [*cloud.fields().values(), camera.K, camera.T_cam_world]
    assert all(torch.equal(a, b) for a, b in zip(before, after))


def test_colour_and_alpha_do_not_depend_on_what_else_is_asked_for(any_renderer) -> None:
    device = device_of(any_renderer.name)
    cloud, camera = (part.to(device) for part in SCENES["saturated"](1))
    plain = any_renderer.render(cloud, camera)
    full = any_renderer.render(
        cloud.map(lambda t: t.clone().requires_grad_()), camera, depth=True, screen=True
    )
    assert plain.depth is None and plain.screen is None
    torch.testing.assert_close(plain.rgb, full.rgb, atol=1e-6, rtol=0)
    torch.testing.assert_close(plain.alpha, full.alpha, atol=1e-6, rtol=0)
