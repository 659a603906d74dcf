"""The references and what runs in their place give the numbers of conformance.json, as the page's
modules do (tests/playback/test_web.py)."""

from __future__ import annotations

import json

import pytest
import torch

from likeness.fitting.avatars.anchoring import bent_pose
from likeness.ops import harmonics
from likeness.ops.deform import deform, displacement
from likeness.ops.fused_deform import CanonicalGaussians, FusedDeformer
from likeness.scene.cloud import GaussianCloud
from likeness.scene.rig_binding import RigBinding
from likeness.scene.transforms import matrices_to_quats, rotvecs_to_matrices, rotvecs_to_quats
from tests.ops.conformance import FILE, state_of, vectors

CASES = json.loads(FILE.read_text(encoding="utf-8"))


def close(found, wanted, tolerance=2e-6):
    wanted = torch.tensor(wanted, dtype=found.dtype).view_as(found)
    torch.testing.assert_close(found, wanted, atol=tolerance, rtol=tolerance)


def leaves(value):
    if isinstance(value, list):
        return [leaf for item in value for leaf in leaves(item)]
    if isinstance(value, dict):
        return [leaf for item in value.values() for leaf in leaves(item)]
    return [value]


def test_the_references_give_what_the_file_says():
    for name, case in vectors().items():
        assert leaves(case) == pytest.approx(leaves(CASES[name]), abs=2e-8), name


def test_rotations():
    case = CASES["rotations"]
    rotvecs = torch.tensor(case["rotvecs"])
    close(rotvecs_to_quats(rotvecs), case["quats"])
    close(rotvecs_to_matrices(rotvecs).flatten(1), case["matrices"])
    close(matrices_to_quats(torch.tensor(case["matrices"]).view(-1, 3, 3)), case["quats"])


def test_harmonics():
    case = CASES["harmonics"]
    close(harmonics.basis(torch.tensor(case["directions"]), 3), case["values"])
    case = CASES["harmonics_rotation"]
    rotation = torch.tensor(case["rotation"]).view(3, 3)
    close(harmonics.rotation_matrices(rotation, 2), case["matrix"])


@pytest.mark.parametrize("fused", [False, True])
def test_deformed_clouds(fused):
    case = CASES["deform"]
    names = "means", "quats", "scales", "opacities", "sh"
    cloud = GaussianCloud(*(torch.tensor(case[name]) for name in names))
    rig = RigBinding(*(torch.tensor(case[name]) for name in ("shapes", "vertices", "weights")))
    state, weights = state_of(case), torch.tensor(case["head_weights"])
    if fused:
        canonical = CanonicalGaussians(
            cloud.means, cloud.quats, cloud.scales, torch.logit(cloud.opacities), cloud.sh
        )
        moved = FusedDeformer(canonical, head_weights=weights, rig=rig, swaying=True)(None, state)
    else:
        moved = deform(
            cloud,
            displacement=displacement(state.expression, rig),
            secondary_motion=state.secondary_motion,
            T_body=state.T_head_body,
            head_weights=weights,
        )
    for name in ("means", "quats", "sh"):
        close(moved.fields()[name], case[f"moved_{name}"])


def test_codes_of_linear_avatars():
    case = CASES["codes"]
    state = state_of(case)
    values = torch.cat([state.expression, bent_pose(state)])
    weight, bias, last_weight, last_bias = (torch.tensor(part) for part in case["layers"])
    close(last_weight @ (weight @ values + bias).relu() + last_bias, case["codes"], 2e-5)
