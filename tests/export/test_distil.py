"""Distillation: what is linear is found again, other avatars agree with their teachers, and its
parts do their sums."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from likeness.export import codes, degree, sampling, storage, teacher
from likeness.export.distil import distil
from likeness.export.fidelity import agreement, images, loss_db
from likeness.fitting.avatars import AVATARS, AvatarShape
from likeness.fitting.avatars.linear import LinearConfig
from likeness.ops import harmonics as spherical_harmonics
from tests import toys
from tests.contract.test_avatars import EXTENDED, make


def _linear_teacher(motion: bool):
    """A teacher of three codes that are linear in the state, with visible modes."""
    config = LinearConfig(codes=3, hidden_layers=0, motion=motion, anchoring=EXTENDED)
    avatar = make("linear", EXTENDED)
    teacher = AVATARS["linear"](config, AvatarShape(40, 52, 2, toys.RIG_VERTICES))
    kept = {k: v for k, v in avatar.state_dict().items() if "modes" not in k and "coder" not in k}
    teacher.load_state_dict({**teacher.state_dict(), **kept})
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        teacher.coder[0].weight.copy_(
            0.3 * torch.randn(teacher.coder[0].weight.shape, generator=generator)
        )
        for name in ("look_modes", "motion_modes")[: 1 + motion]:
            modes = teacher.per_gaussian[name]
            modes.copy_(0.3 * torch.randn(modes.shape, generator=generator))
    return teacher


def _acted(bundle):
    """The bundle with a recording as people make them: a few motions of many coefficients, smooth
    in time."""
    phase = 2 * torch.pi * torch.arange(len(bundle.recording)) / len(bundle.recording)
    motions = torch.stack([torch.sin(phase), torch.cos(2 * phase), torch.sin(3 * phase + 1)], 1)
    mix = torch.rand(3, 52, generator=torch.Generator().manual_seed(5)) * (torch.rand(3, 52) < 0.3)
    expression = 0.4 * (1 + motions) @ mix
    rest = bundle.default_state.map(lambda tensor: tensor.expand(len(phase), *tensor.shape))
    recording = dataclasses.replace(rest, expression=expression)
    ranges = torch.stack([expression.amin(0), expression.amax(0)])
    return dataclasses.replace(bundle, recording=recording, expression_range=ranges)


@pytest.fixture
def few_steps(monkeypatch) -> None:
    """As many as these small networks need."""
    for name in ("codes", "distil"):
        monkeypatch.setattr(f"likeness.export.{name}.CODER_STEPS", 600)


@pytest.mark.usefixtures("few_steps")
@pytest.mark.parametrize("motion", [False, True])
def test_a_linear_avatar_is_found_again(motion):
    bundle = _acted(toys.bundle(_linear_teacher(motion), frames=120))
    distilled, report = distil(bundle, 3, states=240)
    assert report.psnr > 40 and report.motion is motion and not report.reads_pose
    assert not distilled.avatar.coder[0].weight[:, 52:].any()  # what the teacher does not read
    # The parts that all avatars share are the teacher's own.
    for name in (
        "rig_shapes",
        "rig_changes",
        "per_gaussian.rig_vertices",
        "per_gaussian.head_logits",
        "anchoring.correction",
    ):
        assert torch.equal(distilled.avatar.state_dict()[name], bundle.avatar.state_dict()[name]), (
            name
        )
    assert distilled.facts["distilled"]["from"] == "linear" and "distilled" not in bundle.facts


@pytest.mark.usefixtures("few_steps")
@pytest.mark.parametrize("kind", ["headgas", "gaussianhead"])
def test_other_avatars_agree_with_their_teachers(kind):
    bundle = toys.bundle(make(kind, EXTENDED))
    distilled, report = distil(bundle, 4, states=60)
    still = dataclasses.replace(
        bundle.recording, expression=torch.zeros_like(bundle.recording.expression)
    )
    without = agreement(images(distilled, still), images(bundle, bundle.recording))
    assert report.psnr > 36 and report.psnr > without + 3
    assert report.sh_degree == 1 and report.reads_pose is (kind == "gaussianhead")
    # leaves out reading a pose that counts for nothing, and only then
    played = distilled.avatar.compile().model
    for index in (0, 5):
        codes = (avatar.codes(bundle.recording[index]) for avatar in (played, distilled.avatar))
        torch.testing.assert_close(*codes, rtol=0, atol=1e-6)
    again, _ = distil(bundle, 4, states=60)
    assert torch.equal(
        again.avatar.per_gaussian["look_modes"], distilled.avatar.per_gaussian["look_modes"]
    )


def test_states_are_the_same_each_time_and_keep_frames_out():
    bundle = toys.bundle(make("linear"), frames=40)
    states = sampling.teaching_states(bundle, 200, 60)
    assert len(states.whole) == len(states.whole.unique()) <= 60
    assert len(states.taught) == len(states.weights) == 200 and len(states.test) == 5
    recorded = states.taught[states.weights == 1]
    for index in range(len(states.test)):
        assert not (recorded.expression == states.test.expression[index]).all(-1).any()
    assert torch.equal(
        sampling.teaching_states(bundle, 200, 60).taught.expression, states.taught.expression
    )
    alone = (states.taught.expression > 0).sum(-1) == 1
    assert alone.sum() > 60 and (states.taught.expression == 0).all(-1).any()


def test_one_recorded_frame_is_enough_to_go_on():
    bundle = toys.bundle(make("linear"), frames=1)
    states = sampling.teaching_states(bundle, 30)
    assert len(states.test) == 1 and len(states.taught) <= 30


def test_principal_codes_are_those_of_the_weighted_svd():
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(12, 30, 5, generator=generator).half()
    importance, weights = (
        torch.rand(30, 5, generator=generator),
        torch.rand(12, generator=generator) + 0.5,
    )
    found, variances = codes.principal_codes(values, importance, weights, 4)
    share = (weights / weights.sum()).double()
    rows = (
        values.double() - (values.double() * share[:, None, None]).sum(0)
    ) * importance.double().sqrt()
    u, s, _ = torch.linalg.svd(rows.flatten(1) * share.sqrt()[:, None], full_matrices=False)
    torch.testing.assert_close(variances.double(), s[:4] ** 2, rtol=1e-4, atol=0)
    torch.testing.assert_close(
        (found * share.sqrt()[:, None]).abs().double(), u[:, :4].abs(), rtol=0, atol=1e-3
    )


def test_modes_are_weighted_by_what_shows():
    generator = torch.Generator().manual_seed(0)
    given = torch.randn(60, 2, generator=generator)
    values = torch.randn(60, 3, 7, generator=generator)
    base, modes = codes.solve_modes(values.half(), given, torch.ones(60), ridge=0.0)
    design = torch.cat([torch.ones(60, 1), given], 1)
    for n in range(3):
        opacity = torch.sigmoid(values[:, n, 0].half().float())
        weight = (opacity + 0.02)[:, None]
        expected = torch.linalg.lstsq(
            design * weight, values[:, n, 1:].half().float() * weight
        ).solution
        torch.testing.assert_close(
            torch.cat([base[n, None, 1:], modes[n, :, 1:]]), expected, rtol=1e-3, atol=1e-3
        )


def test_the_coder_takes_the_inputs_scales_into_itself():
    generator = torch.Generator().manual_seed(0)
    inputs = torch.rand(80, 6, generator=generator) * torch.tensor([1, 0.01, 5, 1, 0, 1]) + 3
    wanted = (inputs[:, :3] - 3) @ torch.randn(3, 2, generator=generator)
    coder = torch.nn.Sequential(torch.nn.Linear(6, 16), torch.nn.ReLU(), torch.nn.Linear(16, 2))
    codes.fit_coder(coder, inputs, wanted, torch.ones(2), torch.ones(80))
    assert (coder(inputs) - wanted).square().mean() < 1e-3 * wanted.var()
    assert not coder[0].weight[:, 4].any()  # what never changed is not read


def test_a_lower_degree_keeps_the_colours_that_are_seen():
    bundle = toys.bundle(make("headgas"), frames=30)
    project = teacher.degree_projection(bundle, 1, 16)
    sh = torch.randn(20, 16, 3, generator=torch.Generator().manual_seed(0))
    eyes = teacher.eyes_of(bundle.default_camera, bundle.recording)
    views = -torch.nn.functional.normalize(eyes, dim=-1)[:, None]
    full = spherical_harmonics.evaluate(sh, views)
    refitted = (spherical_harmonics.evaluate(project @ sh, views) - full).square().mean()
    cut = (spherical_harmonics.evaluate(sh[:, :4], views) - full).square().mean()
    assert refitted < 0.2 * cut
    assert torch.equal(teacher.degree_projection(bundle, 3, 16), torch.eye(16))


def test_the_degree_is_the_lowest_that_shows_no_loss(monkeypatch):
    bundle = toys.bundle(make("headgas"))
    avatar = bundle.avatar
    with torch.no_grad():
        avatar.mlp[-1].weight.zero_()
        avatar.mlp[-1].bias.zero_()
        avatar.mlp[-1].bias[:4] = 0.5
    assert degree.choose_degree(bundle, bundle.recording) == 1
    with torch.no_grad():
        avatar.mlp[-1].bias[13:] = 3.0
    assert degree.choose_degree(bundle, bundle.recording) > 1


def test_quantising_stays_within_its_loss():
    bundle = toys.bundle(make("linear", EXTENDED))
    encodings = storage.quantised(bundle, bundle.recording)
    stored = storage.as_stored(bundle, encodings)
    found = agreement(images(stored, bundle.recording), images(bundle, bundle.recording))
    assert loss_db(found) <= 0.1
    assert encodings["avatar.per_gaussian.look_modes"] == "int8"


def test_the_loss_is_that_of_independent_errors():
    generator = torch.Generator().manual_seed(0)
    truth = torch.full((1, 200, 200, 3), 0.5)
    avatar = truth + 10 ** (-30 / 20) * torch.randn(truth.shape, generator=generator)
    export = avatar + 10 ** (-36 / 20) * torch.randn(truth.shape, generator=generator)
    fall = agreement(avatar, truth) - agreement(export, truth)
    assert abs(fall - loss_db(agreement(export, avatar), agreement(avatar, truth))) < 0.03
