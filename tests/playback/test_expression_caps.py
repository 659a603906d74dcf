"""Expressions that undo a part of another one act alike in the head model and in avatars."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from likeness.fitting.bundle import AvatarBundle
from likeness.head_models import HEAD_MODELS
from likeness.ops.deform import displacement
from likeness.playback.player import Player
from likeness.scene.expression_caps import CAPS, capped, capped_state
from likeness.scene.expression_tuning import ExpressionTuning
from likeness.scene.rig_binding import RigBinding
from tests import toys

CLOSE, JAW = CAPS[0]


def states_of(bundle: AvatarBundle, expressions: torch.Tensor):
    rest = bundle.default_state
    many = rest.map(lambda tensor: tensor.expand(len(expressions), *tensor.shape))
    return dataclasses.replace(many, expression=expressions)


@pytest.mark.parametrize("name", HEAD_MODELS)
def test_every_expression_alone_moves_an_avatar_as_its_head_model(name):
    model, bundle = HEAD_MODELS[name](), toys.arkit_bundle()
    assert set(model.caps) == set(CAPS) and model.expression_names == bundle.expression_names
    head = model.shaped(model.neutral_identity())
    skin = model.skin_faces.unique()
    rig = RigBinding(
        head.expression_shapes(), skin[:, None].expand(-1, 3), torch.eye(3)[0].expand(len(skin), 3)
    )
    states = states_of(bundle, torch.eye(len(model.expression_names)))
    moved = displacement(bundle.tuned(states).expression, rig)
    expected = (head.posed(states).vertices - head.vertices)[:, skin]
    torch.testing.assert_close(moved, expected, atol=1e-6, rtol=0)
    assert (expected.abs().amax((1, 2)) > 1e-4).sum() > 40


def test_players_show_what_acts():
    """After a tuning, whose neutral face may open the jaw."""
    bundle = toys.arkit_bundle()
    names = bundle.expression_names
    expressions = torch.zeros(3, len(names))
    expressions[1:, names.index(CLOSE)] = torch.tensor([1.0, 0.3])
    none, close, less = (Player(bundle).step(s).rgb for s in states_of(bundle, expressions))
    assert torch.equal(none, close) and torch.equal(none, less)
    neutral = torch.zeros(len(names))
    neutral[names.index(JAW)] = 0.5
    tuning = ExpressionTuning(neutral, torch.ones(len(names)))
    tuned = dataclasses.replace(bundle, tuning=tuning)
    half = expressions[0].index_fill(0, torch.tensor([names.index(CLOSE)]), 0.5)
    none, close, less, expected = (
        Player(tuned).step(s).rgb for s in states_of(bundle, torch.stack([*expressions, half]))
    )
    assert torch.equal(close, expected)
    assert not torch.equal(less, expected) and not torch.equal(less, none)


def test_names_without_caps_stay_as_they_are():
    state = toys.random_states((2,))
    assert capped_state(state, tuple(f"e{i}" for i in range(52))) is state
    negative = torch.tensor([[0.5, -0.2]])
    assert torch.equal(capped(negative, (CLOSE, JAW)), torch.tensor([[0.0, -0.2]]))
