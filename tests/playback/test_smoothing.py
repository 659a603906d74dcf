"""Smoothing: without lag for files, causal when live; both leave blinks alone and rotations on the
sphere."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from likeness.playback.transfer.lips import opening
from likeness.playback.transfer.smoothing import CausalSmoother, zero_phase
from likeness.scene.head_state import HeadState
from likeness.scene.transforms import make_transform, rotation_angles, rotvecs_to_matrices
from tests import toys

NAMES = toys.arkit_bundle().expression_names


def noisy(frames: int = 60, seed: int = 0):
    """Clean and noisy states, and times."""
    clean, times = toys.performance(frames)
    generator = torch.Generator().manual_seed(seed)
    turn = rotvecs_to_matrices(0.02 * torch.randn(frames, 3, generator=generator))
    shift = 0.002 * torch.randn(frames, 3, generator=generator)
    expression = (
        clean.expression + 0.04 * torch.randn(clean.expression.shape, generator=generator)
    ).clamp(0, 1)
    poses = clean.T_world_head @ make_transform(turn, shift)
    return clean, dataclasses.replace(clean, expression=expression, T_world_head=poses), times


def error(a: HeadState, b: HeadState) -> float:
    return float(
        rotation_angles(
            a.T_world_head[:, :3, :3].transpose(1, 2) @ b.T_world_head[:, :3, :3]
        ).mean()
    )


def test_zero_phase_calms_noise_and_keeps_blinks():
    clean, rough, times = noisy()
    smooth = zero_phase(rough, times, NAMES, 0.3)
    brow = NAMES.index("browInnerUp")
    assert (smooth.expression - clean.expression)[:, brow].abs().mean() < 0.7 * (
        rough.expression - clean.expression
    )[:, brow].abs().mean()
    assert error(smooth, clean) < 0.7 * error(rough, clean)
    blinks = [NAMES.index("eyeBlinkLeft"), NAMES.index("eyeBlinkRight")]
    assert torch.equal(smooth.expression[:, blinks], rough.expression[:, blinks])
    torch.testing.assert_close(smooth.joints.norm(dim=-1), torch.ones(60, 2))


def test_zero_phase_keeps_what_is_sudden():
    """Lips that meet for two frames meet afterwards, too."""
    _, rough, times = noisy()
    jaw = NAMES.index("jawOpen")
    generator = torch.Generator().manual_seed(1)
    rough.expression[:, jaw] = 0.4 + 0.01 * torch.randn(60, generator=generator)
    rough.expression[30:32, jaw] = 0.0
    smooth = zero_phase(rough, times, NAMES, 0.3).expression[:, jaw]
    assert float(smooth[30:32].max()) < 0.03
    quiet = torch.cat([smooth[:20], smooth[40:]]).diff(n=2).square().mean()
    before = torch.cat([rough.expression[:20, jaw], rough.expression[40:, jaw]]).diff(n=2)
    assert float(quiet) < 0.5 * float(before.square().mean())


def test_live_lips_meet_at_once():
    states, times = toys.performance()
    speaking = torch.full_like(states.expression, 0.0)
    jaw = NAMES.index("jawOpen")
    generator = torch.Generator().manual_seed(1)
    speaking[:, jaw] = 0.3 + 0.004 * torch.randn(40, generator=generator)
    speaking[20:22, jaw] = 0.0
    smoother = CausalSmoother(NAMES)
    states = dataclasses.replace(states, expression=speaking)
    smooth = torch.stack([smoother(states[i], float(times[i])).expression for i in range(40)])
    lips, raw = opening(smooth, NAMES), opening(speaking, NAMES)
    assert float(lips[20:22].max()) < 0.5 and float((lips - raw)[22:].abs().max()) < 0.7
    assert float(lips[5:20].diff(n=2).std()) < 0.5 * float(raw[5:20].diff(n=2).std())


def test_zero_phase_has_no_lag():
    """Backwards in time it does the very same, and a symmetric peak stays where it is."""
    _, rough, times = noisy()
    forward = zero_phase(rough, times, NAMES, 0.3)
    backward = zero_phase(rough.map(lambda x: x.flip(0)), times, NAMES, 0.3).map(
        lambda x: x.flip(0)
    )
    for field in dataclasses.fields(HeadState):
        torch.testing.assert_close(
            getattr(forward, field.name), getattr(backward, field.name), atol=1e-5, rtol=0
        )
    peak = dataclasses.replace(rough, expression=torch.zeros_like(rough.expression))
    peak.expression[30, :] = 1
    assert (
        int(zero_phase(peak, times, NAMES, 0.3).expression[:, NAMES.index("jawOpen")].argmax())
        == 30
    )


def test_a_gap_divides_a_clip():
    _, rough, times = noisy(40)
    times = times.clone()
    times[20:] += 2.0
    whole = zero_phase(rough, times, NAMES, 0.3)
    first = zero_phase(rough[:20], times[:20], NAMES, 0.3)
    torch.testing.assert_close(whole.expression[:20], first.expression)


def test_short_windows_and_clips_stay_as_they_are():
    _, rough, times = noisy(4)
    assert zero_phase(rough, times, NAMES, 0.3).expression is not None
    for window in (0.0, 0.05):
        assert zero_phase(rough, times, NAMES, window) is rough


def live(states: HeadState, times) -> HeadState:
    smoother = CausalSmoother(NAMES)
    return HeadState.stack([smoother(states[i], float(times[i])) for i in range(len(times))])


def test_one_euro_is_causal():
    _, rough, times = noisy()
    other = dataclasses.replace(rough, expression=rough.expression.clone())
    other.expression[30:] = 0.9
    a, b = live(rough, times), live(other, times)
    assert torch.equal(a.expression[:30], b.expression[:30])
    assert not torch.equal(a.expression[31], b.expression[31])


def test_one_euro_calms_stillness_and_follows_speed():
    _, rough, times = noisy()
    still = rough.map(lambda x: x[:1].expand_as(x).clone())
    jitter = dataclasses.replace(
        still, expression=rough.expression - toys.performance(60)[0].expression + 0.3
    )
    brow = NAMES.index("browInnerUp")
    assert (
        live(jitter, times).expression[20:, brow].std() < 0.6 * jitter.expression[20:, brow].std()
    )
    jump = dataclasses.replace(still, expression=torch.zeros_like(still.expression))
    jump.expression[30:] = 0.8
    followed = live(jump, times).expression[:, brow]
    assert float(followed[33]) > 0.6 and float(followed[29]) == 0
    assert float(live(jump, times).expression[30, NAMES.index("eyeBlinkLeft")]) == pytest.approx(
        0.8
    )
