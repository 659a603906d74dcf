"""The refiner of rendered pictures: where it starts, what it may change, its gradients, and bundles
that have one."""

from __future__ import annotations

import dataclasses
import json
import math

import pytest
import torch

from likeness.fitting.bundle import MANIFEST, AvatarBundle
from likeness.playback.player import Player
from likeness.renderers import create
from likeness.renderers.output import RenderOutput
from likeness.renderers.screen_refiner import Refinement, RefinerConfig, ScreenRefiner
from likeness.scene.errors import UserError
from likeness.scene.tensor_files import read_tensors, save_tensors
from tests import toys
from tests.contract.test_avatars import EXTENDED, make

TINY = RefinerConfig(enabled=True, features=4, width=2, size=32)


def refiner(seed: int = 0, trained: bool = True, **changes) -> ScreenRefiner:
    torch.manual_seed(seed)
    network = ScreenRefiner(dataclasses.replace(TINY, **changes))
    if trained:
        torch.nn.init.normal_(network.exit.weight, std=0.3)
        torch.nn.init.normal_(network.exit.bias, std=0.1)
    return network.requires_grad_(False)


def refinement(count: int, **changes) -> Refinement:
    network = refiner(**changes)
    return Refinement(network, torch.rand(count, network.config.features))


def rendered(size: int = 40) -> tuple:
    """A renderer, a cloud, a camera in its head frame, and the picture."""
    renderer, cloud, camera = (
        create("cpu"),
        toys.blob(),
        toys.camera(size).in_frame(toys.head_pose()),
    )
    return renderer, cloud, camera, renderer.render(cloud, camera, depth=True)


@pytest.mark.parametrize("features", [0, 1, 6])
def test_it_starts_as_the_identity(features):
    renderer, cloud, camera, output = rendered()
    refined = refinement(cloud.num_gaussians, trained=False, features=features)(
        output, renderer, cloud, camera
    )
    assert torch.equal(refined.rgb, output.rgb)
    assert torch.equal(refined.alpha, output.alpha) and refined.depth is output.depth


@pytest.mark.parametrize("features", [0, 4])
def test_backgrounds_stay_as_they_are_where_nothing_is_drawn(features):
    renderer, cloud, camera, output = rendered()
    refined = refinement(cloud.num_gaussians, features=features)(output, renderer, cloud, camera)
    nothing, wall = output.alpha[..., 0] == 0, torch.rand(40, 40, 3)
    assert nothing.sum() > 100 and torch.equal(refined.over(wall)[nothing], wall[nothing])
    assert (refined.alpha[~nothing] > 0).all() and refined.alpha.max() <= 1
    # of straight colours
    change = (refined.rgb / refined.alpha - output.rgb / output.alpha).abs()[~nothing]
    assert 0.01 < change.max() <= 0.5 + 1e-4 and (refined.alpha - output.alpha).abs().max() > 0.01


@pytest.mark.parametrize("width, height", [(40, 40), (33, 20), (64, 64), (9, 31)])
def test_every_size_is_corrected_alike(width, height):
    """A network that always says the same does the same, whatever the size and shape: colours
    become brighter by 0.2, the odds of alpha three times as large."""
    network = refiner(trained=False)
    network.exit.bias[:12], network.exit.bias[12:] = 0.2, math.log(3)
    columns, rows = network.working_size(width, height)
    assert columns % 8 == rows % 8 == 0 and max(columns, rows) == 32
    rgb, alpha = torch.rand(height, width, 3), torch.rand(height, width, 1)
    rgb = rgb * alpha
    found, opaque = network(rgb, alpha, torch.rand(rows // 2, columns // 2, 4))
    torch.testing.assert_close(opaque / (1 - opaque), 3 * alpha / (1 - alpha), rtol=1e-3, atol=1e-5)
    torch.testing.assert_close(found / opaque, rgb / alpha + 0.2, rtol=1e-4, atol=1e-4)


def test_it_reads_its_inputs_where_they_are():
    """A change of the features in one corner of what it sees leaves the far corner alone, and moves
    the near one."""
    network = refiner(size=128)
    rgb, alpha, features = (
        torch.full((128, 128, 3), 0.5),
        torch.ones(128, 128, 1),
        torch.zeros(64, 64, 4),
    )
    changed = features.clone()
    changed[:8, :8] = 1
    moved = (network(rgb, alpha, changed)[0] - network(rgb, alpha, features)[0]).abs().amax(-1)
    assert moved[:16, :16].max() > 1e-3 and moved[-32:, -32:].max() == 0


def test_gradients_of_the_network():
    network = refiner(size=16).double()
    inputs = [torch.rand(16, 16, 3), torch.rand(16, 16, 1), torch.rand(8, 8, 4)]
    names, weights = zip(*network.named_parameters())
    tensors = [
        tensor.double().requires_grad_()
        for tensor in (*inputs, *(0.5 * w.detach() for w in weights))
    ]

    def run(*values):
        named = dict(zip(names, values[3:]))
        return torch.func.functional_call(network, named, values[:3])

    assert torch.autograd.gradcheck(run, tensors, atol=1e-6, rtol=1e-3, fast_mode=True)


def test_features_are_splatted_as_colours_are():
    renderer, cloud, camera, output = rendered()
    colours = (cloud.sh[:, 0] * 0.28209479177387814 + 0.5).clamp(0, 1)
    features = torch.cat([torch.ones(len(colours), 1), colours], 1)
    maps = renderer.splat(cloud, camera, features)
    assert maps.shape == (40, 40, 4)
    torch.testing.assert_close(maps[..., :1], output.alpha, atol=1e-5, rtol=0)
    torch.testing.assert_close(maps[..., 1:], output.rgb, atol=1e-5, rtol=0)


def test_the_gradient_reaches_features_and_gaussians():
    """By the splatted features alone, too: along a direction, against finite differences."""
    renderer, cloud, camera, output = rendered()
    still = RenderOutput(output.rgb, output.alpha)
    network, target = refiner(), torch.rand(40, 40, 3)

    def loss(features, opacities):
        moved = dataclasses.replace(cloud, opacities=opacities)
        return (
            (Refinement(network, features)(still, renderer, moved, camera).rgb - target)
            .square()
            .sum()
        )

    given = [
        torch.rand(cloud.num_gaussians, 4).requires_grad_(),
        cloud.opacities.clone().mul_(0.5).requires_grad_(),
    ]
    found = torch.autograd.grad(loss(*given), given)
    for index, step in ((0, 3e-2), (1, 1e-2)):
        direction = (
            torch.nn.functional.normalize(found[index], dim=-1)
            if index == 0
            else found[index].sign()
        )
        both = []
        for sign in (1, -1):
            moved = [value.detach() for value in given]
            moved[index] = moved[index] + sign * step * direction
            both.append(float(loss(*moved)))
        expected = (both[0] - both[1]) / (2 * step)
        assert (
            float((found[index] * direction).sum()) == pytest.approx(expected, rel=0.05)
            and expected > 0.01
        )


def test_errors():
    renderer, cloud, camera, output = rendered()
    with pytest.raises(ValueError, match=r"features: expected \[N, 4\], got \[300, 3\]"):
        Refinement(refiner(), torch.rand(300, 3))
    with pytest.raises(ValueError, match="of 299 Gaussians, the cloud has 300"):
        refinement(299)(output, renderer, cloud, camera)


@pytest.fixture
def bundle() -> AvatarBundle:
    avatar = make("linear", EXTENDED)
    return dataclasses.replace(toys.bundle(avatar, 40), refinement=refinement(avatar.num_gaussians))


@pytest.mark.parametrize("features", [0, 4])
def test_a_bundle_keeps_it(bundle, tmp_path, features):
    expected = refinement(bundle.avatar.num_gaussians, features=features)
    dataclasses.replace(bundle, refinement=expected).save(tmp_path)
    found = AvatarBundle.load(tmp_path).refinement
    assert found.network.config == expected.network.config and torch.equal(
        found.features, expected.features
    )
    for name, value in expected.network.state_dict().items():
        assert torch.equal(found.network.state_dict()[name], value), name
    assert "screen_refiner" not in AvatarBundle.load(tmp_path).facts


def test_a_bundle_without_one_is_as_before(bundle, tmp_path):
    """Programs that know of no refiner read it; those that do not run one refuse the other, by its
    version."""
    bundle.coarse().save(tmp_path / "coarse")
    bundle.save(tmp_path / "refined")
    manifests = [
        json.loads((tmp_path / name / MANIFEST).read_text()) for name in ("coarse", "refined")
    ]
    assert [manifest["format_version"] for manifest in manifests] == [4, 5]
    assert AvatarBundle.load(tmp_path / "coarse").refinement is None
    stored = read_tensors(tmp_path / "coarse" / "tensors.safetensors", "tensors")
    assert not any(name.startswith("refiner") for name in stored)


def cut(tensors):
    tensors["refiner.features"] = tensors["refiner.features"][:-1]


@pytest.mark.parametrize(
    "change, message",
    [
        (cut, r"refiner.features: expected the shape \[40, 4\], got \[39, 4\]"),
        (lambda t: t.pop("refiner.features"), "refiner.features"),
        (lambda t: t.pop("refiner.network.exit.bias"), "exit.bias"),
        (lambda t: t["refiner.network.exit.bias"].fill_(float("nan")), "not finite"),
    ],
)
def test_damaged_bundles(bundle, tmp_path, change, message):
    bundle.save(tmp_path)
    tensors = dict(read_tensors(tmp_path / "tensors.safetensors", "tensors"))
    change(tensors)
    save_tensors(tmp_path / "tensors.safetensors", tensors)
    with pytest.raises(UserError, match=f"{message}.*damaged"):
        AvatarBundle.load(tmp_path)


def test_the_player_shows_what_it_makes_of_the_picture(bundle):
    state, wall = bundle.default_state, torch.rand(40, 40, 3)
    refined, coarse = Player(bundle).step(state), Player(bundle, refine=False).step(state)
    camera = bundle.default_camera.in_frame(state.T_world_head)
    cloud = bundle.avatar(state, camera.center)
    expected = bundle.refinement(coarse, create("cpu"), cloud, camera)
    torch.testing.assert_close(refined.rgb, expected.rgb, atol=1e-5, rtol=0)
    torch.testing.assert_close(refined.alpha, expected.alpha, atol=1e-5, rtol=0)
    assert (refined.rgb - coarse.rgb).abs().max() > 0.01
    torch.testing.assert_close(Player(bundle).step(state, background=wall).rgb, refined.over(wall))
    assert torch.equal(Player(bundle.coarse()).step(state).rgb, coarse.rgb)
    assert not refined.rgb.requires_grad
