"""Gaussian clouds, head states, harmonics, files."""

from __future__ import annotations

import errno

import numpy as np
import pytest
import torch

from likeness.ops import harmonics
from likeness.scene.cloud import GaussianCloud
from likeness.scene.errors import UserError
from likeness.scene.files import atomic_path, write_json
from likeness.scene.head_state import HeadState
from likeness.scene.reading import read_json
from likeness.scene.transforms import normalize_quats, quats_to_matrices
from tests import toys


def test_cloud_checks_name_what_is_wrong():
    fields = toys.blob(5).fields()
    with pytest.raises(ValueError, match="GaussianCloud.quats"):
        GaussianCloud(**{**fields, "quats": torch.zeros(5, 3)})
    with pytest.raises(ValueError, match="different numbers"):
        GaussianCloud(**{**fields, "opacities": torch.zeros(4)})
    with pytest.raises(ValueError, match="1, 4, 9 or 16"):
        GaussianCloud(**{**fields, "sh": torch.zeros(5, 2, 3)})


def test_states_stack_index_and_relate_body_to_head():
    states = toys.random_states((4,))
    again = HeadState.stack([states[i] for i in range(4)])
    torch.testing.assert_close(again.T_world_head, states.T_world_head)
    torch.testing.assert_close(states.T_world_head @ states.T_head_body, states.T_world_body)
    with pytest.raises(ValueError, match=r"HeadState.joints"):
        HeadState(torch.zeros(3), torch.zeros(2, 3), torch.eye(4), torch.eye(4))


def test_harmonics_are_orthonormal():
    """Against the definition: the integral over the sphere of Y_i Y_j is the identity."""
    count = 4000
    index = torch.arange(count, dtype=torch.float64) + 0.5
    z = 1 - 2 * index / count
    azimuth = torch.pi * (1 + 5**0.5) * index
    radius = (1 - z * z).sqrt()
    directions = torch.stack([radius * azimuth.cos(), radius * azimuth.sin(), z], -1)
    values = harmonics.basis(directions, 3)
    gram = values.T @ values * (4 * np.pi / count)
    torch.testing.assert_close(gram, torch.eye(16, dtype=torch.float64), atol=2e-3, rtol=0)


@pytest.mark.parametrize("degree", [0, 1, 2, 3])
def test_turned_harmonics_show_the_turned_function(degree):
    rotation = quats_to_matrices(normalize_quats(torch.randn(4, dtype=torch.float64)))
    coefficients = torch.randn(harmonics.num_coefficients(degree), 3, dtype=torch.float64)
    directions = torch.nn.functional.normalize(torch.randn(50, 3, dtype=torch.float64), dim=-1)
    turned = harmonics.rotation_matrices(rotation, degree) @ coefficients
    torch.testing.assert_close(
        harmonics.basis(directions, degree) @ turned,
        harmonics.basis(directions @ rotation, degree) @ coefficients,
    )


def test_files_are_whole_or_absent(tmp_path):
    path = tmp_path / "a" / "b.json"
    write_json(path, {"x": 1})
    with pytest.raises(RuntimeError):
        with atomic_path(path) as temporary:
            temporary.write_text("half")
            raise RuntimeError
    assert read_json(path, dict, "file") == {"x": 1}
    assert [p.name for p in path.parent.iterdir()] == ["b.json"]


def test_a_full_disk_is_said_clearly(tmp_path):
    with pytest.raises(UserError, match="no space left"):
        with atomic_path(tmp_path / "x"):
            raise OSError(errno.ENOSPC, "No space left on device")


def test_json_never_holds_nan(tmp_path):
    with pytest.raises(ValueError):
        write_json(tmp_path / "x.json", {"psnr": float("nan")})
    with pytest.raises(UserError, match="damaged"):
        (tmp_path / "y.json").write_text("{")
        read_json(tmp_path / "y.json", dict, "metrics")
