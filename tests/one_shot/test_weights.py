"""Files of weights."""

from __future__ import annotations

import json

import pytest
import torch

from likeness.one_shot import weights
from likeness.scene.errors import UserError
from likeness.scene.tensor_files import read_header, read_tensors, save_tensors
from tests.one_shot import tiny


@pytest.fixture
def path(tmp_path):
    net = tiny.network()
    weights.save(tmp_path / "one.safetensors", net.state_dict(), net.config, "anny", {"steps": 3})
    return tmp_path / "one.safetensors"


def test_round_trip(path):
    found, head_model = weights.load(path)
    expected = tiny.network()
    assert head_model == "anny" and found.config == expected.config
    assert all(
        torch.equal(value, found.state_dict()[name])
        for name, value in expected.state_dict().items()
    )
    assert not any(p.requires_grad for p in found.parameters())


def changed(path, edit):
    tensors, header = read_tensors(path, "weights"), read_header(path, "weights").texts
    edit(tensors, header)
    other = path.with_name("other.safetensors")
    save_tensors(other, tensors, header)
    return other


def test_a_changed_number_is_found(path):
    def edit(tensors, header):
        tensors["token_in.bias"][0] += 1

    with pytest.raises(UserError, match="damaged .sha256"):
        weights.load(changed(path, edit))


@pytest.mark.parametrize(
    "key, value, message",
    [
        ("format", "avatar", "not weights of the one-shot"),
        ("format_version", "2", "version 2"),
        ("config", '{"dim": 999}', "dim"),
        ("config", "{", "config: cannot be read"),
        ("config", '{"hidden": 24}', "do not fit"),
    ],
)
def test_foreign_headers(path, key, value, message):
    with pytest.raises(UserError, match=message):
        weights.load(changed(path, lambda _, header: header.update({key: value})))


def test_cut_short_and_missing(path, tmp_path):
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(UserError, match="cannot be read as the weights"):
        weights.load(path)
    with pytest.raises(UserError, match="train"):
        weights.load(tmp_path / "none.safetensors")


def test_a_published_network_inside_is_not_stored(tmp_path):
    tensors = {"a": torch.ones(2), "backbone.vision.cls_token": torch.ones(3)}
    weights.save(tmp_path / "x.safetensors", tensors, tiny.MODEL, "anny", {})
    assert set(read_header(tmp_path / "x.safetensors", "weights").arrays) == {"a"}


def test_files_that_say_nothing_of_their_code_of_places_have_the_first(path):
    def forget(tensors, header):
        config = json.loads(header["config"])
        assert config.pop("place_code") == 2
        header["config"] = json.dumps(config)

    old = changed(path, forget)
    network, _ = weights.load(old)
    assert network.config.place_code == 1 and weights.load(path)[0].config.place_code == 2
    with pytest.raises(UserError, match="model.place_code=1"):
        weights.start_from(old, tiny.network(), "anny")
    weights.start_from(old, tiny.network(place_code=1), "anny")


@pytest.mark.skipif(not weights.SHIPPED.is_file(), reason="no weights are shipped")
def test_the_shipped_file():
    network, head_model = weights.load()
    assert (
        head_model == "anny"
        and weights.SHIPPED.stat().st_size < 30e6
        and network.config.pixel_aligned
    )
    assert network.config.place_code == 1
