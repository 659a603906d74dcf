"""Surgery on Gaussians: values and Adam's moments go where they belong."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from likeness.fitting.densify import AdaptiveConfig, AdaptiveDensifier
from likeness.fitting.optimizers import OptimizerConfig, Surgery, make_optimizer, operate, set_rates
from likeness.renderers.output import RenderOutput, ScreenStats
from tests import toys
from tests.contract.test_avatars import COUNT, EYE, make


def stepped(avatar):
    """An optimiser with moments in every parameter."""
    optimizer = make_optimizer(avatar, OptimizerConfig())
    generator = torch.Generator().manual_seed(0)
    cloud = avatar(toys.random_states(()), EYE)
    sum(
        (v * torch.randn(v.shape, generator=generator)).sum() for v in cloud.fields().values()
    ).backward()
    optimizer.step()
    return optimizer


def test_moments_follow_their_gaussians_and_copies_start_fresh():
    avatar = make("headgas")
    optimizer = stepped(avatar)
    before = {
        name: optimizer.state[p]["exp_avg"].clone() for name, p in avatar.per_gaussian.items()
    }
    source, fresh = torch.tensor([5, 5, 7]), torch.tensor([False, True, False])
    operate(avatar, optimizer, Surgery(source, fresh))
    for name, parameter in avatar.per_gaussian.items():
        moment = optimizer.state[parameter]["exp_avg"]
        torch.testing.assert_close(moment[0], before[name][5])
        torch.testing.assert_close(moment[2], before[name][7])
        assert not moment[1].any()
    assert len(optimizer.state) == len(list(avatar.parameters()))


def test_training_goes_on_after_surgery_as_if_the_others_had_never_been():
    """Pruning must not disturb the survivors: they take the very steps that they would have
    taken."""
    pruned, whole = make("headgas"), make("headgas")
    optimizers = stepped(pruned), stepped(whole)
    keep = torch.arange(0, COUNT, 2)
    operate(pruned, optimizers[0], Surgery(keep, torch.zeros(len(keep), dtype=torch.bool)))
    for avatar, optimizer in zip((pruned, whole), optimizers):
        optimizer.zero_grad()
        rows = slice(None) if avatar is pruned else keep
        (avatar.per_gaussian["means"][rows] ** 2).sum().backward()
        optimizer.step()
    torch.testing.assert_close(pruned.per_gaussian["means"], whole.per_gaussian["means"][keep])


def test_the_optimizer_steps_the_new_parameters():
    avatar = make("headgas")
    optimizer = stepped(avatar)
    operate(avatar, optimizer, Surgery(torch.tensor([1, 2]), torch.tensor([True, True])))
    before = avatar.per_gaussian["means"].detach().clone()
    avatar.per_gaussian["means"].sum().backward()
    optimizer.step()
    assert (avatar.per_gaussian["means"] != before).all()


def test_surgery_refuses_nonsense():
    avatar = make("headgas")
    optimizer = stepped(avatar)
    with pytest.raises(ValueError, match="no Gaussians"):
        operate(
            avatar,
            optimizer,
            Surgery(torch.zeros(0, dtype=torch.long), torch.zeros(0, dtype=torch.bool)),
        )
    with pytest.raises(ValueError, match="meanz"):
        operate(
            avatar,
            optimizer,
            Surgery(torch.tensor([0]), torch.tensor([False]), {"meanz": torch.zeros(1, 3)}),
        )


def test_rates_fall_log_linearly():
    optimizer = make_optimizer(make("headgas"), OptimizerConfig())
    group = next(g for g in optimizer.param_groups if g["kind"] == "means")
    rates = []
    for progress in (0.0, 0.5, 1.0):
        set_rates(optimizer, progress)
        rates.append(group["lr"])
    start, end = group["rates"]
    assert rates == pytest.approx([start, (start * end) ** 0.5, end])
    set_rates(optimizer, 0.0, 3.0)
    assert group["lr"] == pytest.approx(3 * start)


def test_view_dependent_harmonics_of_own_colours_take_a_share_of_the_step():
    avatars, moves = [make("headgas", base_appearance=True) for _ in range(2)], []
    slow = dataclasses.replace(avatars[1].config.rates, harmonics=0.05)
    avatars[1].config = dataclasses.replace(avatars[1].config, rates=slow)
    avatars[1].load_state_dict(avatars[0].state_dict())
    for avatar in avatars:
        before = {name: p.detach().clone() for name, p in avatar.per_gaussian.items()}
        optimizer = make_optimizer(avatar, OptimizerConfig())
        optimizer.zero_grad()
        cloud = avatar(toys.random_states(()), EYE)
        sum(value.square().sum() for value in cloud.fields().values()).backward()
        optimizer.step()
        moves.append({name: p.detach() - before[name] for name, p in avatar.per_gaussian.items()})
    plain, shared = moves
    assert plain["base_colors"][:, 1:].abs().max() > 1e-4
    plain["base_colors"][:, 1:] *= 0.05
    for name, move in plain.items():
        torch.testing.assert_close(shared[name], move, rtol=1e-3, atol=1e-6, msg=name)


def observed(densifier, avatar, gradient, opacity=None):
    """Lets a densifier see renderings with a given screen gradient [N, 2] in pixels."""
    cloud = avatar(toys.random_states(()), EYE)
    if opacity is not None:
        cloud = type(cloud)(**{**cloud.fields(), "opacities": opacity})
    means2d = torch.zeros(COUNT, 2, requires_grad=True)
    means2d.grad = gradient
    visible = torch.ones(COUNT, dtype=torch.bool)
    screen = ScreenStats(means2d, torch.ones(COUNT), visible, gradient.abs())
    picture = torch.zeros(4, 4, 3)
    for _ in range(3):
        densifier.observe(
            RenderOutput(picture, picture[..., :1], None, screen), cloud, image_size=100
        )


def test_adaptive_density_control_clones_splits_and_prunes():
    avatar = make("headgas")
    config = AdaptiveConfig(
        start=0, stop=10, every=1, min_observations=2, split_scale=0.01, prune_scale=0.05
    )
    with torch.no_grad():
        avatar.per_gaussian["log_scales"].fill_(-6.0)
        avatar.per_gaussian["log_scales"][1] = torch.tensor(0.02).log()  # large: split
        avatar.per_gaussian["log_scales"][3] = torch.tensor(0.2).log()  # too large: pruned
    gradient = torch.zeros(COUNT, 2)
    gradient[:2] = 1.0
    opacity = torch.full((COUNT,), 0.5)
    opacity[2] = 0.001  # faint: pruned
    densifier = AdaptiveDensifier(config)
    observed(densifier, avatar, gradient, opacity)
    surgery = densifier.plan(5.0, avatar, torch.Generator().manual_seed(0))
    counts = torch.bincount(surgery.source, minlength=COUNT)
    assert (
        counts[0] == 2
        and counts[1] == 2
        and counts[2] == 0
        and counts[3] == 0
        and (counts[4:] == 1).all()
    )
    scales = surgery.overrides["log_scales"].exp()
    assert torch.allclose(scales[surgery.source == 1], torch.tensor(0.02 / 1.6))
    assert torch.allclose(scales[surgery.source == 0], torch.tensor(-6.0).exp())
    halves = surgery.overrides["means"][surgery.source == 1]
    assert (halves[0] - halves[1]).norm() > 0  # each half has its own place
    assert surgery.fresh.sum() == 3  # the clone and both halves


def test_what_a_split_makes_small_enough_is_split_and_not_pruned():
    """As in the original, which prunes after it has split: else Gaussians between both limits never
    grow."""
    avatar = make("headgas")
    config = AdaptiveConfig(
        start=0, stop=10, every=1, min_observations=1, split_scale=0.01, prune_scale=0.01
    )
    with torch.no_grad():
        avatar.per_gaussian["log_scales"].fill_(-6.0)
        avatar.per_gaussian["log_scales"][:4] = torch.tensor([0.015, 0.015, 0.02, 0.009]).log()[
            :, None
        ]
    gradient = torch.zeros(COUNT, 2)
    gradient[[0, 2, 3]] = 1.0
    for limit, counts in ((None, [2, 0, 0, 2]), (COUNT - 3, [0, 0, 0, 1])):
        densifier = AdaptiveDensifier(dataclasses.replace(config, max_gaussians=limit))
        observed(densifier, avatar, gradient, torch.ones(COUNT))
        source = densifier.plan(5.0, avatar, torch.Generator().manual_seed(0)).source
        assert torch.bincount(source, minlength=COUNT)[:4].tolist() == counts


def test_growth_stops_at_the_limit():
    avatar = make("headgas")
    config = AdaptiveConfig(
        start=0, stop=10, every=1, min_observations=1, max_gaussians=COUNT + 3, prune_scale=10.0
    )
    densifier = AdaptiveDensifier(config)
    observed(densifier, avatar, torch.ones(COUNT, 2), torch.ones(COUNT))
    assert len(densifier.plan(5.0, avatar, torch.Generator().manual_seed(0)).source) == COUNT + 3


def test_a_gaussian_that_shows_in_one_expression_is_kept():
    avatar = make("headgas")
    config = AdaptiveConfig(
        start=0, stop=10, every=1, min_observations=1, prune_scale=10.0, gradient_threshold=1e9
    )
    densifier = AdaptiveDensifier(config)
    faint, shown = torch.full((COUNT,), 0.5), torch.full((COUNT,), 0.5)
    faint[0] = 0.0
    for opacity in (faint, shown, faint):
        observed(densifier, avatar, torch.zeros(COUNT, 2), opacity)
    surgery = densifier.plan(5.0, avatar, torch.Generator().manual_seed(0))
    assert 0 in surgery.source
