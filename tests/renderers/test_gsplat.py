"""How gsplat is called, without CUDA: a stand-in of the two functions that we call, which insists
on gsplat's shapes.

It follows gsplat 1.5.3's ``rendering.py``, the inverted pose of harmonics included. The numbers of
its kernels are held by the contract tests where CUDA is; here it is what we hand over and what we
make of the answer.
"""

from __future__ import annotations

import contextlib
import dataclasses
import gc
import inspect
import types
import warnings
import weakref

import pytest
import torch

from likeness.ops import harmonics
from likeness.renderers import create, cuda_toolchain
from likeness.renderers import gsplat as module
from likeness.renderers.reference import project
from likeness.scene.camera import Camera
from likeness.scene.cloud import GaussianCloud
from tests.renderers.scenes import SCENES, random_camera, random_cloud


class _Composite(torch.autograd.Function):
    """Like gsplat's compositing: saves the screen means and puts ``absgrad``, where it is asked
    for, on them in its backward pass."""

    @staticmethod
    def forward(ctx, images, means2d, absgrad):
        ctx.save_for_backward(means2d)
        ctx.absgrad = absgrad
        return images + 3 * means2d.nan_to_num().sum(dim=(-1, -2))[..., None, None, None]

    @staticmethod
    def backward(ctx, gradient):
        (means2d,) = ctx.saved_tensors
        g_means2d = 3 * gradient.sum(dim=(-1, -2, -3))[..., None, None].expand(means2d.shape)
        if ctx.absgrad:
            means2d.absgrad = 2 * g_means2d.abs()
        return gradient, g_means2d, None


def spherical_harmonics(degrees_to_use, dirs, coeffs, masks=None):
    assert masks is None and coeffs.shape == (*dirs.shape[:-1], (degrees_to_use + 1) ** 2, 3)
    values = harmonics.basis(torch.nn.functional.normalize(dirs, dim=-1), degrees_to_use)
    return (values[..., None] * coeffs).sum(-2)


def rasterization(**arguments):
    """gsplat's answer [*g, C, ...] from the reference, one picture at a time."""
    means, poses, K = arguments["means"], arguments["viewmats"], arguments["Ks"]
    groups, cameras, count = tuple(means.shape[:-2]), poses.shape[-3], means.shape[-2]
    colours = arguments["colors"]
    if arguments["sh_degree"] is not None:
        directions = means[..., None, :, :] - torch.inverse(poses)[..., None, :3, 3]
        coefficients = colours[..., None, :, :, :].expand(
            *directions.shape[:-1], *colours.shape[-2:]
        )
        colours = torch.clamp_min(
            spherical_harmonics(arguments["sh_degree"], directions, coefficients) + 0.5, 0.0
        )
    elif colours.ndim == means.ndim:
        colours = colours[..., None, :, :].expand(*groups, cameras, *colours.shape[-2:])
    arguments["colors"] = colours
    shapes = {
        "quats": (count, 4),
        "scales": (count, 3),
        "opacities": (count,),
        "colors": (cameras, count, colours.shape[-1]),
        "viewmats": (cameras, 4, 4),
        "Ks": (cameras, 3, 3),
    }
    for name, shape in shapes.items():
        assert arguments[name].shape == (*groups, *shape), name
    assert arguments["packed"] is False and arguments["rasterize_mode"] == "classic"
    assert (arguments["near_plane"], arguments["far_plane"], arguments["eps2d"]) == (
        0.01,
        1e10,
        0.3,
    )

    images, alphas, means2d, radii = [], [], [], []
    for group in range(max(1, int(torch.Size(groups).numel()))):
        fields = {
            name: arguments[name] for name in ("means", "quats", "scales", "opacities", "colors")
        }
        fields = {k: v.reshape(-1, *v.shape[len(groups) :])[group] for k, v in fields.items()}
        shown = fields.pop("colors")
        for index in range(cameras):
            pose, k = (
                poses.reshape(-1, cameras, 4, 4)[group, index],
                K.reshape(-1, cameras, 3, 3)[group, index],
            )
            camera = Camera(k, pose, arguments["width"], arguments["height"])
            channels = []
            for three in shown[index].split(3, -1):
                padded = torch.nn.functional.pad(three, (0, 3 - three.shape[-1]))
                cloud = GaussianCloud(**fields, sh=harmonics.from_rgb(padded)[:, None])
                output = create("reference").render(cloud, camera, depth=True, screen=True)
                channels.append(output.rgb[..., : three.shape[-1]])
            images.append(torch.cat([*channels, output.depth], -1))
            alphas.append(output.alpha)
            means2d.append(
                torch.where(output.screen.visible[:, None], project(cloud, camera)[0], float("nan"))
            )
            radii.append(output.screen.radii[:, None].expand(-1, 2).int())

    def stack(parts: list[torch.Tensor]) -> torch.Tensor:
        return torch.stack(parts).reshape(*groups, cameras, *parts[0].shape)

    source = stack(means2d)
    shown = _Composite.apply(stack(images), source, arguments["absgrad"])
    if arguments["render_mode"] == "RGB":
        shown = shown[..., :-1]
    return shown, stack(alphas), {"means2d": source, "radii": stack(radii)}


STAND_IN = types.SimpleNamespace(
    rasterization=rasterization, spherical_harmonics=spherical_harmonics
)


@pytest.fixture
def renderer(monkeypatch):
    monkeypatch.setattr(module, "_check_inputs", lambda *_: None)
    made = object.__new__(module.GsplatRenderer)
    made._gsplat = STAND_IN
    monkeypatch.setattr(module.GsplatRenderer, "_compiled", True)
    return made


@pytest.mark.parametrize("batched", [False, True])
def test_gradients_are_those_of_the_reference(renderer, monkeypatch, batched: bool) -> None:
    """Those of the pose too, which gsplat would invert for its directions of view."""
    # without a gradient of its own
    monkeypatch.setattr(_Composite, "apply", lambda images, *_: images)
    found = []
    for drawn_by in (renderer, create("reference")):
        cloud, camera = random_cloud(25, 0), random_camera(12, 10, 0)
        if batched:
            camera = Camera.stack([camera, random_camera(12, 10, 1)])
        cloud = cloud.map(lambda tensor: tensor.clone().requires_grad_())
        camera = dataclasses.replace(
            camera, T_cam_world=camera.T_cam_world.clone().requires_grad_()
        )
        images = drawn_by.render(cloud, camera).rgb
        (
            torch.rand(images.shape, generator=torch.Generator().manual_seed(1)) * images
        ).sum().backward()
        found.append(
            [*(tensor.grad for tensor in cloud.fields().values()), camera.T_cam_world.grad]
        )
    for got, wanted in zip(*found):
        assert wanted.norm() > 0
        torch.testing.assert_close(got, wanted, atol=1e-5 * float(wanted.abs().max()), rtol=1e-4)


def test_all_features_are_splatted_in_one_pass(renderer, monkeypatch) -> None:
    monkeypatch.setattr(_Composite, "apply", lambda images, *_: images)
    calls = []
    counted = types.SimpleNamespace(
        rasterization=lambda **given: (calls.append(given), rasterization(**given))[1]
    )
    renderer._gsplat = counted
    cloud, camera, features = random_cloud(15, 0), random_camera(12, 10, 0), torch.rand(15, 7)
    maps = renderer.splat(cloud, camera, features)
    assert len(calls) == 1 and calls[0]["sh_degree"] is None and maps.shape == (10, 12, 7)
    torch.testing.assert_close(maps, create("reference").splat(cloud, camera, features))
    assert renderer.splat(random_cloud(0, 0), camera, features[:0]).shape == (10, 12, 7)


def test_what_cannot_be_compiled_is_one_line(renderer, monkeypatch) -> None:
    def refuse(*_):
        raise cuda_toolchain.UserError("renderer 'gsplat': no compiler")

    monkeypatch.setattr(module.GsplatRenderer, "_compiled", False)
    monkeypatch.setattr(torch, "ones", lambda *shape, device: torch.full(shape, 1.0))
    monkeypatch.setattr(cuda_toolchain, "building", refuse)
    for act in (renderer.warm_up, lambda: renderer.render(*SCENES["ordinary"](0))):
        with pytest.raises(module.UserError, match="no compiler"):
            act()
    built = []
    monkeypatch.setattr(
        cuda_toolchain,
        "building",
        lambda *given: (built.append(given), contextlib.nullcontext())[1],
    )
    renderer.render(*SCENES["ordinary"](0))
    renderer.warm_up()
    assert [package for package, _ in built] == ["gsplat"]  # once


@pytest.mark.parametrize("batched", ["neither", "camera", "cloud", "both", "two dimensions"])
def test_shapes_of_batches(renderer, batched: str) -> None:
    batch = {"neither": (), "two dimensions": (2, 3)}.get(batched, (3,))
    cloud, camera = random_cloud(15, 0), random_camera(12, 10, 0)
    if batched in ("cloud", "both", "two dimensions"):
        cloud = cloud.expand(*batch)
    if batched in ("camera", "both", "two dimensions"):
        camera = Camera(
            camera.K.expand(*batch, 3, 3), camera.T_cam_world.expand(*batch, 4, 4), 12, 10
        )
    output = renderer.render(cloud, camera, depth=True, screen=True)
    assert output.rgb.shape == (*batch, 10, 12, 3)
    assert output.alpha.shape == output.depth.shape == (*batch, 10, 12, 1)
    assert output.screen.means2d.shape == (*batch, 15, 2)
    assert output.screen.radii.shape == output.screen.visible.shape == (*batch, 15)
    wanted = create("reference").render(random_cloud(15, 0), random_camera(12, 10, 0), depth=True)
    got = output.depth.reshape(-1, 10, 12, 1)[-1] - _shift(output)
    torch.testing.assert_close(got, wanted.depth, atol=1e-3, rtol=1e-5)


def _shift(output) -> float:
    """What the stand-in adds to its images."""
    return 3 * float(output.screen.means2d.detach().reshape(-1, 15, 2)[-1].sum())


@pytest.mark.parametrize("absolute", [False, True])
def test_gradients_of_the_screen_means(renderer, absolute: bool) -> None:
    cloud, camera = SCENES["behind the camera"](0)
    cloud = cloud.map(lambda tensor: tensor.requires_grad_())
    output = renderer.render(cloud, camera, screen=True if not absolute else "absolute")
    visible = output.screen.visible
    assert 10 < visible.sum() < visible.numel()
    assert (
        torch.isfinite(output.screen.means2d).all() and (output.screen.means2d[~visible] == 0).all()
    )
    output.rgb[0, 0, 0].backward()
    means2d = output.screen.means2d
    assert torch.equal(means2d.grad, torch.full_like(means2d, 3.0))
    assert (output.screen.absgrad is not None) == absolute
    if absolute:
        assert torch.equal(output.screen.absgrad, torch.full_like(means2d, 6.0))


def test_nothing_keeps_a_graph_alive(renderer) -> None:
    """Statistics that are dropped before, or kept without, a backward pass leave no tensor
    behind."""
    cloud, camera = SCENES["ordinary"](0)
    cloud = cloud.map(lambda tensor: tensor.requires_grad_())
    gone = []
    for drop_first in (True, False):
        output = renderer.render(cloud, camera, screen=True)
        gone.append(weakref.ref(output.screen.source))
        rgb = output.rgb
        if drop_first:
            del output
            rgb.sum().backward()
        del rgb
    del output
    gc.collect()
    assert [reference() for reference in gone] == [None, None]


def test_no_gaussians(renderer) -> None:
    cloud = random_cloud(0, 0).expand(2).map(lambda tensor: tensor.requires_grad_())
    output = renderer.render(cloud, random_camera(12, 10, 0), depth=True, screen=True)
    assert output.rgb.shape == (2, 10, 12, 3) and output.depth.shape == (2, 10, 12, 1)
    assert (output.rgb == 0).all() and output.screen.visible.shape == (2, 0)
    (output.rgb.sum() + output.depth.sum()).backward()


def test_arguments_are_those_of_gsplat(renderer) -> None:
    gsplat = pytest.importorskip(
        "gsplat", reason="gsplat is not installed: its signature cannot be read"
    )

    def checked(name: str):
        signature, function = inspect.signature(getattr(gsplat, name)), getattr(STAND_IN, name)

        def record(*arguments, **named):
            signature.bind(*arguments, **named)
            return function(*arguments, **named)

        return record

    renderer._gsplat = types.SimpleNamespace(**{name: checked(name) for name in vars(STAND_IN)})
    renderer.render(*SCENES["ordinary"](0), depth=True, screen=True)


@pytest.mark.gpu
@pytest.mark.parametrize("gradients", [False, True])
def test_a_picture_waits_once(gradients: bool) -> None:
    """As the simulated device counts it (``tests.simulated_gsplat``); the backward pass does
    not."""
    cloud, camera = (part.to("cuda") for part in SCENES["ordinary"](0))
    if gradients:
        cloud = cloud.map(lambda tensor: tensor.requires_grad_())
    real = create("gsplat", "cuda")
    real.render(cloud, camera).rgb.sum()
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            output = real.render(cloud, camera, screen=gradients)
            if gradients:
                output.rgb.sum().backward()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert len([warning for warning in caught if "synchroniz" in str(warning.message)]) == 1


@pytest.mark.skipif(torch.cuda.is_available(), reason="a CUDA device is present")
def test_absent_cuda_is_said_in_one_line() -> None:
    with pytest.raises(module.UserError, match="no CUDA device") as caught:
        module.GsplatRenderer()
    assert "\n" not in str(caught.value)
