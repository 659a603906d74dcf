"""The loss is the weighted sum that its configuration says, over the background that the step
has."""

from __future__ import annotations

import pytest
import torch

from likeness.fitting.objective import ObjectiveConfig, background_colour, compute
from likeness.fitting.run_directory import RunDirectory, default_root
from likeness.ops import ssim
from likeness.renderers.output import RenderOutput
from likeness.scene.errors import UserError
from tests.contract.test_avatars import make


def pictures(seed: int = 0):
    generator = torch.Generator().manual_seed(seed)
    rgb, alpha, colour, matte = (torch.rand(20, 24, c, generator=generator) for c in (3, 1, 3, 1))
    return RenderOutput(rgb * alpha, alpha), (colour, matte)


def test_the_total_is_the_weighted_sum_over_the_background():
    output, (colour, matte) = pictures()
    config = ObjectiveConfig(l1=0.7, dssim=0.3, matte=0.5, basis_penalty=2.0)
    avatar, green = make("headgas"), torch.tensor([0.0, 1.0, 0.0])
    total, terms, squared_error = compute(
        config, output, (colour, matte), green, avatar, None, None
    )
    picture = output.rgb + (1 - output.alpha) * green
    truth = colour * matte + (1 - matte) * green
    expected = 0.7 * torch.nn.functional.l1_loss(picture, truth) + 0.3 * ssim.dssim(picture, truth)
    expected = (
        expected + 0.5 * (output.alpha - matte).abs().mean() + 2.0 * avatar.regularizers()["basis"]
    )
    torch.testing.assert_close(total, expected)
    assert set(terms) == {"l1", "dssim", "matte", "basis"}
    torch.testing.assert_close(squared_error, (picture - truth).square().mean())


def test_a_matte_that_is_right_costs_nothing_on_any_background():
    _, (colour, matte) = pictures()
    output = RenderOutput(colour * matte, matte)
    config = ObjectiveConfig(matte=0.2, background="random")
    generator = torch.Generator().manual_seed(0)
    colours = [background_colour(config, generator) for _ in range(3)]
    assert not torch.equal(colours[0], colours[1])
    for background in colours:
        assert (
            compute(config, output, (colour, matte), background, make("headgas"), None, None)[0]
            < 1e-5
        )


def test_the_perceptual_loss_sees_the_heads_box_only():
    output, target = pictures()
    seen = []

    def perceptual(a, b):
        seen.append((a.shape, b.shape))
        return (a - b).abs().mean()

    compute(
        ObjectiveConfig(),
        output,
        target,
        torch.ones(3),
        make("headgas"),
        perceptual,
        [(2, 3, 12, 15)],
    )
    assert seen == [(torch.Size([12, 10, 3]), torch.Size([12, 10, 3]))]


def test_boxes_of_a_batch_that_are_the_same_are_seen_in_one_go():
    (output, (colour, matte)), seen = pictures(), []
    pair = RenderOutput(
        torch.stack([output.rgb, output.rgb / 2]), torch.stack([output.alpha, output.alpha / 2])
    )
    target = torch.stack([colour, colour]), torch.stack([matte, matte])
    backgrounds = torch.tensor([[1.0, 1.0, 1.0], [0.2, 0.4, 0.6]])

    def perceptual(a, b):
        seen.append(a.shape[:-1])
        return (a - b).square().mean()

    def terms(output, target, background, boxes):
        return compute(
            ObjectiveConfig(), output, target, background, make("headgas"), perceptual, boxes
        )[1]

    whole = (0, 0, 24, 20)
    alone = [
        terms(RenderOutput(pair.rgb[i], pair.alpha[i]), (colour, matte), backgrounds[i], [whole])
        for i in range(2)
    ]
    found = terms(pair, target, backgrounds, [whole, whole])
    assert found["perceptual"] == pytest.approx(
        float(sum(term["perceptual"] for term in alone)) / 2
    )
    terms(pair, target, backgrounds, [whole, (0, 4, 12, 20)])
    assert seen == [(20, 24), (20, 24), (2, 20, 24), (20, 24), (16, 12)]


def test_runs_have_their_own_folders(tmp_path):
    first = default_root(tmp_path, "me")
    first.mkdir()
    assert default_root(tmp_path, "me") != first
    RunDirectory.check_free(first)  # empty: free
    # with the time behind it the name would be too long
    RunDirectory.check_free(default_root(tmp_path, "ü" * 126))
    (first / "x").write_text("")
    with pytest.raises(UserError, match="not overwritten"):
        RunDirectory.check_free(first)
    with pytest.raises(UserError, match="not a run"):
        RunDirectory.open(first)
    (first / "run.json").write_text('{"format": "run", "format_version": 7}')
    with pytest.raises(UserError, match="newer"):
        RunDirectory.open(first)
