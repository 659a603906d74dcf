from __future__ import annotations

import math
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch

from likeness.fitting import perceptual
from likeness.fitting.perceptual import LPIPS, VGG16, AlexNet, VGGLoss
from likeness.scene.errors import UserError

REFERENCE = (
    Path(__file__).resolve().parents[3] / "shared" / "reference" / "lpips" / "lpips_reference.npz"
)
NETWORKS = {"vgg": VGG16, "alex": AlexNet}


def _synthetic(net: str) -> torch.nn.Module:
    """A backbone with the formula's weights: see ../shared/reference/README.md."""
    network = NETWORKS[net]()
    convolutions = [layer for layer in network.features if isinstance(layer, torch.nn.Conv2d)]
    for index, layer in enumerate(convolutions):
        generator = np.random.default_rng(zlib.crc32(f"{net}.conv{index}".encode()))
        shape = tuple(layer.weight.shape)
        weight = generator.normal(0, math.sqrt(2 / np.prod(shape[1:])), shape).astype(np.float32)
        layer.weight.data = torch.from_numpy(weight)
        layer.bias.data = torch.from_numpy(generator.normal(0, 0.05, shape[0]).astype(np.float32))
    return network


@pytest.fixture(scope="module")
def vgg() -> VGG16:
    return _synthetic("vgg")


def _inputs() -> tuple[torch.Tensor, torch.Tensor]:
    generator = np.random.default_rng(3)
    a = generator.uniform(0, 1, (2, 3, 96, 128)).astype(np.float32)
    b = np.clip(a + generator.normal(0, 0.1, a.shape), 0, 1).astype(np.float32)
    return torch.from_numpy(a).movedim(1, -1), torch.from_numpy(b).movedim(1, -1)


@pytest.mark.parametrize("net", ["vgg", "alex"])
def test_lpips_equals_the_published_program(net):
    if not REFERENCE.is_file():
        pytest.skip(f"no reference values at {REFERENCE}")
    metric = LPIPS(net, _synthetic(net), perceptual.load_heads(net))
    with torch.no_grad():
        found = metric(*_inputs()).numpy()
    np.testing.assert_allclose(found, np.load(REFERENCE)[net], atol=1e-4, rtol=1e-4)


def test_lpips_shapes_and_zero():
    metric = LPIPS("alex", _synthetic("alex"), perceptual.load_heads("alex"))
    a, b = _inputs()
    assert metric(a[0], b[0]).shape == ()
    assert metric(a, b)[0].item() == pytest.approx(metric(a[0], b[0]).item(), rel=1e-5)
    assert metric(a, a).abs().max() < 1e-7
    assert metric(a[0], b[0]) < metric(a[0], 1 - a[0])


def test_torchvision_names_and_activation_indices():
    names = set(VGG16().state_dict())
    # torchvision.models.vgg16().features
    indices = [0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28]
    assert names == {f"features.{i}.{kind}" for i in indices for kind in ("weight", "bias")}
    wanted = {"relu1_2": 3, "relu2_2": 8, "relu3_3": 15, "relu4_3": 22, "relu5_3": 29}
    assert {name: VGG16().activations[name] for name in wanted} == wanted
    assert set(AlexNet().state_dict()) == {
        f"features.{i}.{k}" for i in (0, 3, 6, 8, 10) for k in ("weight", "bias")
    }


def test_vgg_loss_is_zero_at_the_target_and_points_downhill(vgg):
    loss = VGGLoss(vgg, ("relu1_2", "relu2_2"))
    _, target = _inputs()
    target = target[0, :32, :40]
    image = torch.full_like(target, 0.5, requires_grad=True)
    assert loss(target, target).item() == 0
    before = loss(image, target)
    before.backward()
    assert image.grad.abs().max() > 0
    assert loss((image - 5 * image.grad).detach(), target) < before
    assert all(parameter.grad is None for parameter in vgg.parameters())


def test_vgg_loss_value_is_mean_l1_of_normalised_features(vgg):
    a, b = _inputs()
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    x, y = (((image[:1, :16, :16] - mean) / std).permute(0, 3, 1, 2) for image in (a, b))
    expected = (vgg.features[:4](x) - vgg.features[:4](y)).abs().mean()
    found = VGGLoss(vgg, ("relu1_2",))(a[:1, :16, :16], b[:1, :16, :16])
    assert found.item() == pytest.approx(expected.item(), rel=1e-5)


def test_unknown_layer_and_network_are_named(vgg):
    with pytest.raises(ValueError, match="relu9_9"):
        VGGLoss(vgg, ("relu9_9",))
    with pytest.raises(UserError, match="squeeze"):
        LPIPS.create("squeeze", download=False)


def test_absent_weights_give_none(monkeypatch):
    monkeypatch.setattr(perceptual.weights, "find", lambda name, folder, download: None)
    assert VGGLoss.create(download=False) is None
    assert LPIPS.create("vgg", download=False) is None


def test_create_loads_a_checkpoint_with_a_classifier(tmp_path, monkeypatch):
    state = _synthetic("alex").state_dict()
    path = tmp_path / "alexnet.pth"
    torch.save({**state, "classifier.1.weight": torch.zeros(2, 2)}, path)
    monkeypatch.setattr(perceptual.weights, "find", lambda name, folder, download: path)
    metric = LPIPS.create("alex", tmp_path, download=False)
    assert torch.equal(metric.network.features[0].weight, state["features.0.weight"])
    with pytest.raises(UserError, match="not the weights of vgg16"):
        VGGLoss.create(folder=tmp_path, download=False)
