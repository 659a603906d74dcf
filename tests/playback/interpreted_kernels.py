"""The Triton kernels in Triton's interpreter, on tensors of the CPU. ``test_fused`` runs this file
in a process
of its own: what Triton imports it must import as interpreted."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from likeness.fitting.avatars.anchoring import AnchoringConfig
from likeness.playback.fused import FusedLinear, FusedPlacing
from likeness.scene.transforms import make_transform, normalize_quats, rotvecs_to_matrices
from tests import toys
from tests.contract.test_avatars import COUNT, EXTENDED, EYE, make

PLACED = dataclasses.replace(EXTENDED, pose_correction=False)
CASES = {
    "as_exported": (PLACED, {"codes": 24, "hidden_size": 128}),
    "all_harmonics": (PLACED, {"sh_degree": 3, "codes": 5}),
    "looks_alone": (PLACED, {"sh_degree": 2, "motion": False}),
    "bare": (AnchoringConfig(), {"sh_degree": 0, "hidden_layers": 0}),
    "two_frames": (AnchoringConfig(two_frames=True), {"hidden_layers": 1}),
    "rigged": (AnchoringConfig(rigged=True), {"codes": 15, "hidden_size": 16}),
    "swaying": (AnchoringConfig(swaying=True), {"codes": 16}),
}


def moving(anchoring: AnchoringConfig, **changes):
    """A linear avatar whose modes and codes say something, also where rotations are large and
    small."""
    avatar = make("linear", anchoring, **changes)
    with torch.no_grad():
        for name in ("look_modes", "motion_modes"):
            if name in avatar.per_gaussian:
                values = avatar.per_gaussian[name]
                values.copy_(
                    torch.randn(values.shape) * torch.logspace(-4, 0, COUNT)[:, None, None]
                )
        for layer in avatar.coder[::2]:
            layer.weight.mul_(2)
    return avatar


def states():
    """With each component of the body's quaternion the largest in turn."""
    for seed, angle in enumerate((0.0, 0.1, 1.0, 2.0, 3.1)):
        state = toys.random_states((), seed=seed)
        direction = torch.nn.functional.normalize(torch.randn(3), dim=0)
        body = make_transform(rotvecs_to_matrices(angle * direction), 0.03 * torch.randn(3))
        joints = normalize_quats(torch.randn(2, 4)) if angle else state.joints
        yield dataclasses.replace(state, joints=joints, T_world_body=state.T_world_head @ body)


def check(by_kernels, avatar) -> None:
    """Against double precision, to which single precision is as near."""
    exact = avatar.duplicate(
        lambda tensor: tensor.double() if tensor.is_floating_point() else tensor
    )
    evaluate = by_kernels(avatar.compile())
    for state in states():
        found, expected = evaluate(state, EYE), exact(state.to(torch.float64), EYE.double())
        for name, value in expected.fields().items():
            assert found.fields()[name].dtype == torch.float32
            worst = (found.fields()[name] - value).abs().max() / value.abs().max()
            assert worst < 2e-6, f"{name}: {worst:.2g}"


@pytest.mark.parametrize("case", CASES)
def test_linear_avatars_are_those_of_the_operations(case):
    anchoring, changes = CASES[case]
    check(FusedLinear, moving(anchoring, **changes))


@pytest.mark.parametrize(
    "anchoring", [PLACED, AnchoringConfig(rigged=True, swaying=True)], ids=["all", "one_frame"]
)
@pytest.mark.parametrize("kind", ["headgas", "rigged"])
def test_other_avatars_are_placed_as_by_the_operations(kind, anchoring):
    check(lambda avatar: FusedPlacing(avatar, toys.random_states(()), EYE), make(kind, anchoring))


def test_a_cloud_is_the_callers_own():
    avatar = moving(PLACED).compile()
    with torch.inference_mode():
        fused = FusedLinear(avatar)
        first = fused(toys.random_states((), seed=1), EYE)
    before = first.map(torch.clone)
    fused(toys.random_states((), seed=2), EYE)
    assert all(torch.equal(value, before.fields()[name]) for name, value in first.fields().items())
