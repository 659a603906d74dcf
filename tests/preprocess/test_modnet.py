"""MODNet against the official network's names, shapes and outputs, and its loading."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from likeness.preprocess.matting.modnet import (
    MODNetConfig,
    MODNetMatting,
    load_modnet,
    modnet_from_state_dict,
    network_size,
)
from likeness.preprocess.matting.modnet_network import MODNet
from likeness.scene.errors import UserError
from tests.preprocess.modnet_weights import synthetic_state_dict

REFERENCE = Path(__file__).resolve().parents[3] / "shared" / "reference" / "modnet"


@pytest.fixture(scope="module")
def reference() -> Path:
    if not REFERENCE.is_dir():
        pytest.skip(f"reference values absent: {REFERENCE}")
    return REFERENCE


@pytest.fixture(scope="module")
def network() -> MODNet:
    return modnet_from_state_dict(synthetic_state_dict(), "synthetic")


def test_names_shapes_and_types_are_the_official_ones(reference):
    expected = json.loads((reference / "modnet_state_dict.json").read_text())
    ours = sorted(
        [name, list(tensor.shape), str(tensor.dtype)]
        for name, tensor in MODNet().state_dict().items()
    )
    assert len(expected) == 751
    assert ours == [[name.removeprefix("module."), shape, dtype] for name, shape, dtype in expected]


def test_mattes_are_the_official_ones(reference, network):
    expected = np.load(reference / "modnet_reference.npz")
    image = np.random.default_rng(7).uniform(-1, 1, (1, 3, 256, 320)).astype(np.float32)
    with torch.inference_mode():
        matte = network(torch.from_numpy(image))
    # Measured: 1e-5 to 6e-5, the float32 sums of another build of the convolutions.
    assert np.abs(matte[0, 0].numpy() - expected["matte"]).max() < 1e-4


@pytest.mark.parametrize(
    "size, expected",
    [
        ((512, 512), (512, 512)),
        ((480, 480), (512, 512)),  # long side under 512: short side to 512
        ((1080, 1920), (512, 896)),  # short side over 512: 910 rounded down
        ((1920, 1080), (896, 512)),
        ((400, 700), (384, 672)),  # neither: only rounded down
        ((20, 600), (32, 576)),  # never to nothing
    ],
)
def test_the_official_rule_of_sizes(size, expected):
    assert network_size(*size) == expected


def test_checkpoints_with_and_without_prefix(tmp_path, network):
    state = synthetic_state_dict()
    torch.save(
        {f"module.{name}": tensor for name, tensor in state.items()}, tmp_path / "official.ckpt"
    )
    loaded = load_modnet(tmp_path / "official.ckpt")
    for name, tensor in network.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor)
    torch.save({"other": torch.zeros(3)}, tmp_path / "other.ckpt")
    with pytest.raises(UserError, match="other.ckpt: not a MODNet checkpoint") as caught:
        load_modnet(tmp_path / "other.ckpt")
    assert "\n" not in str(caught.value)


def test_batches_change_nothing(network):
    frames = np.random.default_rng(0).integers(0, 255, (3, 33, 514, 3), dtype=np.uint8)
    one, three = (
        np.stack(
            list(
                MODNetMatting(network, config=MODNetConfig(batch_size=size, alpha_radius=0)).mattes(
                    frames
                )
            )
        )
        for size in (1, 3)
    )
    assert np.abs(one.astype(int) - three.astype(int)).max() <= 1
