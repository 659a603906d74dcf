"""Free-form deformation by the control points of sway."""

from __future__ import annotations

import torch

from likeness.ops.deform.secondary_motion import (
    apply_secondary_motion,
    apply_secondary_motion_torch,
)
from likeness.scene.head_state import HeadState
from likeness.scene.lattice import COLUMNS, HIGH_M, LOW_M, NUM_POINTS


def points(count: int = 50) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    around = torch.nn.functional.normalize(
        torch.randn(count, 3, generator=generator, dtype=torch.float64), dim=-1
    )
    return 0.25 * around  # far outside of the face


def test_still_control_points_move_nothing():
    rest = points()
    torch.testing.assert_close(apply_secondary_motion(rest, rest.new_zeros(NUM_POINTS, 2)), rest)


def test_equal_offsets_move_everything_alike_at_every_depth():
    rest, offset = points(), torch.tensor([0.01, -0.02], dtype=torch.float64)
    moved = apply_secondary_motion(rest, offset.expand(NUM_POINTS, 2))
    torch.testing.assert_close(
        moved - rest, torch.cat([offset, offset.new_zeros(1)]).expand_as(rest)
    )


def test_a_control_point_moves_its_own_place_and_half_of_what_is_half_way():
    column, row = 2, 3
    sway = torch.zeros(NUM_POINTS, 2, dtype=torch.float64)
    sway[row * COLUMNS + column, 0] = 0.004
    spacing = (HIGH_M[0] - LOW_M[0]) / (COLUMNS - 1)
    place = torch.tensor(
        [LOW_M[0] + column * spacing, LOW_M[1] + row * spacing, 0.1], dtype=torch.float64
    )
    rest = place + spacing * torch.tensor(
        [[0.0, 0, 0], [0.5, 0, 0], [0.5, 0.5, 0], [1.0, 0, 0]], dtype=torch.float64
    )
    found = (apply_secondary_motion(rest, sway) - rest)[:, 0]
    torch.testing.assert_close(found, torch.tensor([0.004, 0.002, 0.001, 0.0], dtype=torch.float64))


def test_the_face_stays_and_hair_beside_it_moves():
    sheet = torch.full((NUM_POINTS, 2), 0.01)
    lips, ear, collar = torch.tensor(
        [[0.0, -0.064, 0.026], [0.074, -0.02, -0.08], [0.0, -0.2, 0.0]]
    )
    for place, share in ((lips, 0.0), (ear, 1.0), (collar, 1.0)):
        torch.testing.assert_close(
            apply_secondary_motion(place[None], sheet)[0] - place,
            share * torch.tensor([0.01, 0.01, 0.0]),
        )


def test_batches_are_states_one_by_one():
    generator = torch.Generator().manual_seed(1)
    rest, sway = (
        points(),
        0.01 * torch.randn(2, 3, NUM_POINTS, 2, generator=generator, dtype=torch.float64),
    )
    together = apply_secondary_motion(rest, sway)
    assert together.shape == (2, 3, *rest.shape)
    torch.testing.assert_close(together[1, 2], apply_secondary_motion(rest, sway[1, 2]))
    torch.testing.assert_close(
        apply_secondary_motion(together, sway)[0, 1],
        apply_secondary_motion(together[0, 1], sway[0, 1]),
    )


def test_gradients_match_finite_differences():
    generator = torch.Generator().manual_seed(2)
    rest = points(6).requires_grad_()
    sway = (
        0.01 * torch.randn(NUM_POINTS, 2, generator=generator, dtype=torch.float64)
    ).requires_grad_()
    torch.autograd.gradcheck(apply_secondary_motion, (rest, sway), eps=1e-7)


def test_the_kernels_are_their_twin_in_plain_pytorch_also_beyond_the_sheet_and_by_shares():
    g = torch.Generator().manual_seed(3)
    # in the face, around it and beyond the sheet
    rest = (0.2 * torch.randn(1001, 3, generator=g)).requires_grad_()
    sway = 0.02 * torch.randn(NUM_POINTS, 2, generator=g)
    upstream = torch.randn(rest.shape, generator=g)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        found = apply_secondary_motion(rest, sway)
        (by_kernels,) = torch.autograd.grad((found * upstream).sum(), rest)
    finally:
        torch.set_num_threads(before)
    double = rest.detach().double().requires_grad_()
    expected = apply_secondary_motion_torch(double, sway.double())
    (by_twin,) = torch.autograd.grad((expected * upstream.double()).sum(), double)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected.float(), atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(by_kernels, by_twin.float(), atol=2e-5, rtol=1e-5)


def test_single_precision_still_has_gradients_by_the_offsets():
    rest, sway = points().float(), torch.zeros(NUM_POINTS, 2, requires_grad=True)
    apply_secondary_motion(rest, sway).sum().backward()
    assert sway.grad.abs().max() > 0


def test_a_state_without_sway_is_at_rest_in_its_batch_shape():
    poses = torch.eye(4).expand(4, 4, 4)
    state = HeadState(torch.zeros(4, 52), torch.zeros(4, 2, 4), poses, poses)
    assert state.sway.shape == (4, NUM_POINTS, 2) and not state.sway.any()
    assert state[1].sway.shape == (NUM_POINTS, 2)
