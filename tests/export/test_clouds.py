"""Files of clouds: read back by other readers or by hand-made bytes, and rendered equal."""

from __future__ import annotations

import gzip
import math
import struct

import numpy as np
import pytest
import torch

from likeness.export import ply, spz
from likeness.export.base import ExportOptions
from likeness.export.formats import export_avatar
from likeness.export.ply import write_ply
from likeness.export.posing import ANCHORS, AXES, T_file_head, moved, posed_cloud
from likeness.renderers import create
from likeness.scene.cloud import GaussianCloud
from likeness.scene.errors import UserError
from likeness.scene.transforms import invert_transform, make_transform, rotvecs_to_matrices
from tests import toys
from tests.contract.test_avatars import EXTENDED, make


def _cloud(degree: int = 3, count: int = 200, seed: int = 0) -> GaussianCloud:
    generator = torch.Generator().manual_seed(seed)
    blob = toys.blob(count, seed)
    sh = 0.2 * torch.randn(count, (degree + 1) ** 2, 3, generator=generator)
    scales = 0.012 * torch.exp(torch.randn(count, 3, generator=generator))
    return GaussianCloud(blob.means, blob.quats, scales, torch.rand(count, generator=generator), sh)


def _from_ply(path) -> GaussianCloud:
    """By plyfile, and by what the layout's readers do with it."""
    from plyfile import PlyData

    rows = PlyData.read(str(path))["vertex"]

    def columns(*names: str) -> torch.Tensor:
        return torch.from_numpy(
            np.stack([np.asarray(rows[name]) for name in names], 1).astype(np.float32)
        )

    rest = columns(*(f"f_rest_{i}" for i in range(45))).reshape(-1, 3, 15)
    dc = columns("f_dc_0", "f_dc_1", "f_dc_2")
    sh = torch.cat([dc[:, None], rest.transpose(1, 2)], 1)
    assert not columns("nx", "ny", "nz").any()
    quats, log_scales = (
        columns(*(f"rot_{i}" for i in range(4))),
        columns(*(f"scale_{i}" for i in range(3))),
    )
    opacities = torch.sigmoid(columns("opacity")[:, 0])
    return GaussianCloud(columns("x", "y", "z"), quats, log_scales.exp(), opacities, sh)


def _picture(cloud: GaussianCloud, view) -> torch.Tensor:
    return create("cpu").render(cloud, view).over(torch.ones(3))


@pytest.mark.parametrize("degree", [0, 1, 3])
def test_a_ply_is_what_another_reader_reads(tmp_path, degree):
    cloud = _cloud(degree)
    write_ply(tmp_path / "a.ply", cloud)
    found = _from_ply(tmp_path / "a.ply")
    for name in ("means", "scales", "opacities"):
        torch.testing.assert_close(found.fields()[name], cloud.fields()[name], atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(
        found.quats, cloud.quats / cloud.quats.norm(dim=-1, keepdim=True), atol=1e-6, rtol=0
    )
    assert (
        torch.equal(found.sh[:, : cloud.sh.shape[1]], cloud.sh)
        and not found.sh[:, cloud.sh.shape[1] :].any()
    )


def test_opacities_of_0_and_1_stay_finite(tmp_path):
    cloud = _cloud(0, 2)
    cloud.opacities[:] = torch.tensor([0.0, 1.0])
    write_ply(tmp_path / "a.ply", cloud)
    torch.testing.assert_close(
        _from_ply(tmp_path / "a.ply").opacities, cloud.opacities, atol=1e-6, rtol=0
    )


@pytest.mark.parametrize("anchor", ANCHORS)
@pytest.mark.parametrize("axes", AXES)
def test_every_frame_shows_the_avatars_own_picture(tmp_path, axes, anchor):
    bundle, state = toys.bundle(make("gaussianhead", EXTENDED), 40), toys.random_states((), seed=4)
    view = toys.camera(40).in_frame(state.T_world_head)
    with torch.no_grad():
        expected = _picture(bundle.avatar(state, view.center), view)
    write_ply(tmp_path / "a.ply", posed_cloud(bundle, state, axes, anchor))
    in_file = view.in_frame(invert_transform(T_file_head(state, axes, anchor)))
    assert (_picture(_from_ply(tmp_path / "a.ply"), in_file) - expected).abs().max() < 2e-5


def test_axes_are_as_documented():
    state = toys.random_states(())
    up, out = torch.tensor([0.0, 1, 0]), torch.tensor([0.0, 0, 1])
    for axes, expected_up, expected_out in (
        ("y-down", [0, -1, 0], [0, 0, -1]),
        ("y-up", [0, 1, 0], [0, 0, 1]),
        ("z-up", [0, 0, 1], [0, -1, 0]),
    ):
        rotation = T_file_head(state, axes, "head")[:3, :3]
        assert (rotation @ up).tolist() == expected_up and (rotation @ out).tolist() == expected_out
        assert torch.linalg.det(rotation) > 0
    body = (
        T_file_head(state, "y-up", "body")
        @ invert_transform(state.T_world_head)
        @ state.T_world_body
    )
    torch.testing.assert_close(body, torch.eye(4), atol=1e-6, rtol=0)


def test_a_moved_cloud_looks_the_same_from_a_moved_camera():
    cloud, view = _cloud(3), toys.camera(40).in_frame(toys.head_pose())
    T = make_transform(
        rotvecs_to_matrices(torch.tensor([0.4, -1.1, 0.7])), torch.tensor([0.3, -0.2, 0.1])
    )
    difference = _picture(moved(cloud, T), view.in_frame(invert_transform(T))) - _picture(
        cloud, view
    )
    assert difference.abs().max() < 2e-5


@pytest.mark.parametrize("degree", [0, 1, 2, 3])
@pytest.mark.parametrize("version", spz.VERSIONS)
def test_spz_comes_back_within_its_steps(tmp_path, version, degree):
    cloud = _cloud(degree)
    spz.write_spz(tmp_path / "a.spz", cloud, version)
    found = spz.read_spz(tmp_path / "a.spz")
    assert (found.means - cloud.means).abs().max() <= 2.0**-20
    assert (found.scales.log() - cloud.scales.log()).abs().max() <= 0.5001 / 16
    assert (found.opacities - cloud.opacities).abs().max() <= 0.5001 / 255
    assert (found.sh[:, 0] - cloud.sh[:, 0]).abs().max() <= 0.5001 / 255 / 0.15
    if degree:
        assert (found.sh[:, 1:] - cloud.sh[:, 1:].clamp(-1, 127 / 128)).abs().max() <= 0.5001 / 128
    # Version 2 leaves w out even where it is small, and then tells it badly.
    told = cloud.quats[:, 0].abs() > (0.3 if version == 2 else -1)
    angle = 2 * torch.arccos((found.quats * cloud.quats).sum(1).abs().clamp(max=1))[told]
    assert angle.max() < (0.06 if version == 2 else 0.005)


def test_spz_bytes_are_those_of_the_published_layout():
    turned = torch.tensor([[0.5**0.5, 0.0, -(0.5**0.5), 0.0], [1.0, 0, 0, 0]])
    cloud = GaussianCloud(
        torch.tensor([[1.0, -0.5, 0.0], [0.0, 0.0, 3.0]]),
        turned,
        torch.full((2, 3), math.exp(-4.0)),
        torch.tensor([1.0, 0.2]),
        torch.tensor([[[1.0, 0, -1]] + [[0.5, 0, -0.5]] * 3] * 2),
    )
    data = spz.encode(cloud, 3)
    magic, version, count, degree, bits, flags, reserved = struct.unpack("<4sIIBBBB", data[:16])
    assert (magic, version, count, degree, flags, reserved) == (b"NGSP", 3, 2, 1, 0, 0)
    one = (1 << bits).to_bytes(3, "little")
    assert data[16:19] == one and data[19:22] == (-(1 << bits) // 2).to_bytes(
        3, "little", signed=True
    )
    assert data[34:36] == bytes([255, 51])  # alphas
    assert data[36:39] == bytes([166, 128, 89])  # 127.5 + 38.25 c, halves to even
    assert data[42:48] == bytes([96] * 6)  # (-4 + 10) * 16
    # xyzw: y = -w; the first largest is left out, so y stays out: w in the lowest bits, negative
    # against y.
    assert int.from_bytes(data[48:52], "little") == 1 << 30 | 1 << 9 | 511
    assert int.from_bytes(data[52:56], "little") == 3 << 30
    assert data[56:65] == bytes([192, 128, 64] * 3) and len(data) == 16 + 2 * (
        9 + 1 + 3 + 3 + 4 + 9
    )
    assert spz.encode(cloud, 2)[48:54] == bytes([128, 37, 128, 128, 128, 128])


BROKEN = {
    "not gzip": b"ply\n",
    "empty": b"",
    "cut gzip": gzip.compress(spz.encode(_cloud(1)))[:-40],
    "other magic": gzip.compress(b"XXXX" + spz.encode(_cloud(1))[4:]),
    "version 9": gzip.compress(
        spz.encode(_cloud(1))[:4] + struct.pack("<I", 9) + spz.encode(_cloud(1))[8:]
    ),
    "too few bytes": gzip.compress(spz.encode(_cloud(1))[:-1]),
    "a billion Gaussians": gzip.compress(
        spz.encode(_cloud(1))[:8] + struct.pack("<I", 10**9) + bytes(40)
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_spz_files_are_one_line(tmp_path, name):
    (tmp_path / "a.spz").write_bytes(BROKEN[name])
    with pytest.raises(UserError, match="a.spz: cannot be read as the compressed cloud"):
        spz.read_spz(tmp_path / "a.spz")


def test_a_gaussian_out_of_reach_is_refused():
    cloud = _cloud(0, 2)
    cloud.means[0, 0] = 1e8
    with pytest.raises(UserError, match="too far"):
        spz.encode(cloud)


def test_a_sequence_is_a_folder_of_numbered_files_or_nothing(tmp_path, monkeypatch):
    bundle = toys.bundle(make("linear", EXTENDED))
    options = ExportOptions(moving=True, anchor="body")
    export_avatar(bundle, tmp_path / "s", "ply", bundle.recording[:3], options)
    assert [path.name for path in sorted((tmp_path / "s").iterdir())] == [
        f"{i:06d}.ply" for i in range(3)
    ]
    second = _from_ply(tmp_path / "s" / "000001.ply")
    expected = posed_cloud(bundle, bundle.recording[1], "y-down", "body")
    torch.testing.assert_close(second.means, expected.means, atol=1e-6, rtol=1e-5)
    calls = []

    def failing(path, cloud):
        calls.append(path)
        if len(calls) == 2:
            raise RuntimeError("stopped")
        write_ply(path, cloud)

    monkeypatch.setattr(ply, "write_ply", failing)
    with pytest.raises(RuntimeError, match="stopped"):
        export_avatar(bundle, tmp_path / "t", "ply", bundle.recording[:3], options)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["s"]
