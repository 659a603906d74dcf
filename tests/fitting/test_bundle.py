"""Bundles on disk: fewer bits, earlier and newer versions, damage."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
import torch

from likeness.fitting.bundle import FORMAT_VERSION, MANIFEST, AvatarBundle
from likeness.scene.errors import UserError
from likeness.scene.tensor_files import read_tensors, save_tensors
from tests import toys
from tests.contract.test_avatars import EXTENDED, make

INT8 = "avatar.per_gaussian.look_modes"
NARROWED = "avatar.per_gaussian.rig_vertices"
ENCODINGS = {
    INT8: "int8",
    NARROWED: "narrowed",
    "avatar.per_gaussian.means": "int16",
    "avatar.rig_shapes": "float16",
}


@pytest.fixture
def folder(tmp_path) -> Path:
    toys.bundle(make("linear", EXTENDED)).save(tmp_path / "b", ENCODINGS)
    return tmp_path / "b"


def _change(folder: Path, change) -> None:
    manifest = json.loads((folder / MANIFEST).read_text())
    change(manifest)
    (folder / MANIFEST).write_text(json.dumps(manifest))


def test_fewer_bits_come_back_within_their_bounds(folder):
    expected, found = (
        toys.bundle(make("linear", EXTENDED)).tensors(),
        AvatarBundle.load(folder).tensors(),
    )
    assert set(found) == set(expected)
    for name, tensor in expected.items():
        assert found[name].dtype == tensor.dtype, name
        if name not in ENCODINGS or ENCODINGS[name] == "narrowed":
            assert torch.equal(found[name], tensor), name
            continue
        spread = (tensor.amax(0) - tensor.amin(0)).max()
        bound = {
            "int8": spread / 254,
            "int16": spread / 65534,
            "float16": tensor.abs().max() / 1024,
        }
        assert 0 < (found[name] - tensor).abs().max() <= 0.5001 * bound[ENCODINGS[name]] + 1e-8, (
            name
        )


def test_bundles_of_versions_before_are_still_read(folder):
    toys.bundle(make("linear")).save(folder.parent / "old")
    tensors = read_tensors(folder.parent / "old" / "tensors.safetensors", "tensors")
    del tensors["recording.sway"]
    save_tensors(folder.parent / "old" / "tensors.safetensors", tensors)

    def age(manifest):
        manifest["format_version"] = 2
        del manifest["storage"]

    _change(folder.parent / "old", age)
    bundle = AvatarBundle.load(folder.parent / "old")
    assert bundle.avatar.num_gaussians == 40 and not bundle.recording.secondary_motion.any()


BREAKS = [
    (lambda m: m.update(format_version=FORMAT_VERSION + 1), "newer than this program"),
    (lambda m: m.update(format_version=1), "earlier version"),
    (lambda m: m.update(format="capture"), "format: expected 'avatar', got 'capture'"),
    (lambda m: m.update(avatar="nerf"), "unknown kind of avatar 'nerf'"),
    (lambda m: m["storage"].update(x={"encoding": "int8", "dtype": "float32"}), "damaged"),
    (lambda m: m["storage"][INT8].update(encoding="int4"), "storage.*int4.*damaged"),
    (lambda m: m["storage"][INT8].update(encoding="float16"), "damaged"),
    (lambda m: m["storage"].pop(INT8), "damaged"),
    (lambda m: m["storage"][INT8].pop("dtype"), "damaged"),
    (lambda m: m.update(storage=[1, 2]), "damaged"),
    (lambda m: m.pop("width"), "damaged"),
    (
        lambda m: m.update(num_gaussians=10**9),
        "num_gaussians: expected a whole number <= 100000000; it is damaged",
    ),
    (
        lambda m: m.update(avatar="headgas", config={"hidden_size": 30_000}),
        "hidden_size: expected .* 2048, got 30000",
    ),
    (lambda m: m.update(width=1 << 40), "width: expected a whole number <= 16384; it is damaged"),
    (
        lambda m: m.update(head_model=["anny"]),
        "head_model: expected text, got a list; it is damaged",
    ),
    (
        lambda m: m["expression_names"].__setitem__(1, m["expression_names"][0]),
        "expression_names.*damaged",
    ),
]


@pytest.mark.parametrize("change, message", BREAKS)
def test_broken_bundles_are_one_line(folder, change, message):
    _change(folder, change)
    with pytest.raises(UserError, match=message) as error:
        AvatarBundle.load(folder)
    assert str(folder) in str(error.value) and "\n" not in str(error.value)


def test_values_that_are_not_finite_and_corners_beyond_the_rig_are_refused(folder):
    bundle = toys.bundle(make("linear", EXTENDED))
    with torch.no_grad():
        bundle.avatar.per_gaussian["rig_vertices"][0, 0] = toys.RIG_VERTICES
    bundle.save(folder.parent / "beyond")
    with pytest.raises(UserError, match="rig_vertices: expected values from 0 to .*damaged"):
        AvatarBundle.load(folder.parent / "beyond")
    with torch.no_grad():
        bundle.avatar.per_gaussian["rig_vertices"][0, 0] = 0
        bundle.avatar.per_gaussian["means"][0, 0] = float("nan")
    bundle.save(folder.parent / "nan")
    with pytest.raises(UserError, match="means: holds values that are not finite.*damaged"):
        AvatarBundle.load(folder.parent / "nan")


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda b: {"times": b.times.flip(0)}, "recording.times"),
        (lambda b: {"times": b.times[:0], "recording": b.recording[:0]}, "recording.times"),
        (lambda b: {"times": b.times[:-1]}, "recording.expression"),
        (lambda b: {"expression_range": b.expression_range[:1]}, "expression_range"),
        (lambda b: {"recording": b.recording.to(torch.float64)}, "recording.*: expected float32"),
        (
            lambda b: {
                "recording": dataclasses.replace(b.recording, joints=b.recording.joints[:, :1])
            },
            "joints",
        ),
    ],
)
def test_parts_that_do_not_belong_together_are_refused(tmp_path, change, message):
    bundle = toys.bundle(make("linear"))
    dataclasses.replace(bundle, **change(bundle)).save(tmp_path / "avatar")
    with pytest.raises(UserError, match=f"{message}.*damaged"):
        AvatarBundle.load(tmp_path / "avatar")


def test_a_cut_file_and_a_folder_without_avatar_are_one_line(folder, tmp_path):
    file = folder / "tensors.safetensors"
    file.write_bytes(file.read_bytes()[:-50])
    with pytest.raises(UserError, match="tensors.safetensors: cannot be read .*damaged"):
        AvatarBundle.load(folder)
    with pytest.raises(UserError, match="not an avatar"):
        AvatarBundle.load(tmp_path)
