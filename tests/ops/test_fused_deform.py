"""Frozen clouds in one sweep, against the operations that it stands for, one after the other."""

import pytest
import torch

from likeness.ops.deform import deform, displacement
from likeness.ops.fused_deform import CanonicalGaussians, FusedDeformer, NetworkOffsets
from likeness.ops.mlp import BlockedNetwork
from likeness.ops.rig_changes import changed
from likeness.scene.cloud import GaussianCloud
from likeness.scene.head_state import HeadState
from likeness.scene.lattice import NUM_POINTS
from likeness.scene.rig_binding import RigBinding
from likeness.scene.transforms import (
    make_transform,
    multiply_quats,
    normalize_quats,
    rotvecs_to_matrices,
    rotvecs_to_quats,
)

COUNT, CODES, UNITS, LIMITS = 77, 5, (0.02, 0.3), (-5.0, -3.0)


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def pose(seed: int) -> torch.Tensor:
    return make_transform(
        rotvecs_to_matrices(0.4 * random(3, seed=seed)), 0.1 * random(3, seed=seed + 1)
    )


STATE = HeadState(
    random(6).abs(), torch.empty(0, 4), pose(3), pose(5), 0.01 * random(NUM_POINTS, 2)
)
RIG = RigBinding(
    0.02 * random(6, 40, 3),
    torch.arange(3 * COUNT).view(COUNT, 3) % 40,
    random(COUNT, 3).abs() / 3,
    0.2 * random(6, 40, 12, seed=12),
)


def rest(coefficients: int, own_looks: bool = True) -> CanonicalGaussians:
    quats = normalize_quats(random(COUNT, 4, seed=2))
    looks = (random(COUNT, seed=8), random(COUNT, coefficients, 3, seed=9)) if own_looks else ()
    return CanonicalGaussians(0.1 * random(COUNT, 3), quats, random(COUNT, 3).abs(), *looks)


def expected(
    at: CanonicalGaussians, values: torch.Tensor, looks: int, grown, T_head, weights, rig, swaying
):
    """The same in double precision."""
    at = CanonicalGaussians(*(None if t is None else t.double() for t in vars(at).values()))
    values = values.double()
    means, quats, scales = at.means, at.quats, at.scales
    if values.shape[1] > looks:
        moves = values[:, looks:]
        means = means + UNITS[0] * moves[:, :3]
        quats = multiply_quats(rotvecs_to_quats(UNITS[1] * moves[:, 3:6]), quats)
        if grown is not None:
            scales = (grown.double() + moves[:, 6:]).clamp(*LIMITS).exp()
    logits, colours = at.logits, at.colours
    if looks:
        added = values[:, 0], values[:, 1:looks].unflatten(1, (-1, 3))
        logits, colours = added if logits is None else (logits + added[0], colours + added[1])
    cloud, state = (
        GaussianCloud(means, quats, scales, torch.sigmoid(logits), colours),
        STATE.to(torch.float64),
    )
    if rig is not None:
        assert rig.changes is not None
        shapes, changes = rig.shapes.double(), rig.changes.double()
        rig = RigBinding(shapes, rig.vertices, rig.weights.double(), changes)
        cloud = changed(cloud, state.expression, rig)
    return deform(
        cloud,
        displacement=None if rig is None else displacement(state.expression, rig),
        secondary_motion=state.secondary_motion if swaying else None,
        T_head=None if T_head is None else T_head.double(),
        T_body=state.T_head_body,
        head_weights=None if weights is None else weights.double(),
    )


CASES = {
    "looks": dict(coefficients=4, looks=13),
    "looks of its own": dict(coefficients=4, looks=13, own_looks=False),
    "degree 0": dict(coefficients=1, looks=4, rigged=True),
    "degree 3": dict(coefficients=16, looks=49, weighted=True),
    "motion alone": dict(coefficients=9, looks=0, moving=6, swaying=True),
    "everything": dict(
        coefficients=4, looks=13, moving=9, rigged=True, swaying=True, weighted=True, turned=True
    ),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_equals_the_operations_one_after_the_other(case):
    looks, moving = case["looks"], case.get("moving", 0)
    at = rest(case["coefficients"], case.get("own_looks", True))
    grown = random(COUNT, 3, seed=4) - 4 if moving == 9 else None
    network = BlockedNetwork(
        random(COUNT, CODES, looks + moving, seed=6), random(COUNT, looks + moving, seed=7)
    )
    codes, T_head = random(CODES), pose(11) if "turned" in case else None
    weights = (
        torch.rand(COUNT, generator=torch.Generator().manual_seed(1))
        if "weighted" in case
        else None
    )
    rig, swaying = RIG if "rigged" in case else None, "swaying" in case
    additions = NetworkOffsets(network, looks, UNITS, None if grown is None else (grown, LIMITS))
    placer = FusedDeformer(at, additions, head_weights=weights, rig=rig, swaying=swaying)
    found = placer(codes, STATE, T_head)
    wanted = expected(at, network(codes), looks, grown, T_head, weights, rig, swaying)
    for name, values in found.fields().items():
        torch.testing.assert_close(
            values.double(), wanted.fields()[name], atol=2e-6, rtol=2e-6, msg=f"{name} differ"
        )


def test_gaussians_without_a_network_only_move():
    at = rest(4)
    found = FusedDeformer(at, rig=RIG)(None, STATE)
    wanted = expected(at, torch.empty(COUNT, 0), 0, None, None, None, RIG, False)
    for name, values in found.fields().items():
        torch.testing.assert_close(values.double(), wanted.fields()[name], atol=2e-6, rtol=2e-6)
