"""A neutral face and gains, set after the fit: applied by the player, kept by the bundle."""

from __future__ import annotations

import dataclasses
import json

import pytest
import torch

from likeness.fitting.bundle import MANIFEST, AvatarBundle
from likeness.playback.player import Player
from likeness.scene.errors import UserError
from likeness.scene.expression_tuning import ExpressionTuning, bend
from tests import toys
from tests.contract.test_avatars import EXTENDED, make


@pytest.fixture
def bundle() -> AvatarBundle:
    return toys.bundle(make("headgas", EXTENDED))


def _tuning() -> ExpressionTuning:
    generator = torch.Generator().manual_seed(5)
    return ExpressionTuning(
        torch.rand(52, generator=generator) * 0.3, torch.rand(52, generator=generator) * 2
    )


def test_the_player_shows_neutral_plus_gain_times_expression(bundle):
    tuning, state = _tuning(), toys.random_states(())
    shown = Player(dataclasses.replace(bundle, tuning=tuning)).step(state)
    by_hand = dataclasses.replace(
        state, expression=tuning.neutral + tuning.gains * state.expression * 0.4
    )
    # far from where anything is bent
    weak = dataclasses.replace(state, expression=state.expression * 0.4)
    expected = Player(bundle).step(by_hand)
    torch.testing.assert_close(
        Player(dataclasses.replace(bundle, tuning=tuning)).step(weak).rgb,
        expected.rgb,
        atol=1e-6,
        rtol=0,
    )
    assert (shown.rgb - Player(bundle).step(state).rgb).abs().max() > 1e-3


def test_the_identity_changes_not_a_bit(bundle):
    state = toys.random_states(())
    tuned = dataclasses.replace(bundle, tuning=ExpressionTuning.identity(52))
    assert torch.equal(Player(tuned).step(state).rgb, Player(bundle).step(state).rgb)


def test_round_trip_to_the_last_bit(bundle, tmp_path):
    tuning = _tuning()
    dataclasses.replace(bundle, tuning=tuning).save(tmp_path)
    loaded = AvatarBundle.load(tmp_path)
    assert torch.equal(loaded.tuning.neutral, tuning.neutral) and torch.equal(
        loaded.tuning.gains, tuning.gains
    )
    assert "tuning" not in loaded.facts
    player = Player(loaded)  # a player's own bundle is as good as the one that it was given
    player.bundle.save(tmp_path / "again")
    state = toys.random_states(())
    assert torch.equal(Player(tmp_path / "again").step(state).rgb, player.step(state).rgb)


def test_a_bundle_without_one_is_as_it_was_fitted(bundle, tmp_path):
    bundle.save(tmp_path / "old")
    dataclasses.replace(bundle, tuning=ExpressionTuning.identity(52)).save(tmp_path / "same")
    for name in ("old", "same"):
        assert "tuning" not in json.loads((tmp_path / name / MANIFEST).read_text())
        loaded = AvatarBundle.load(tmp_path / name)
        assert loaded.tuning is None and loaded.tuned(loaded.default_state) is loaded.default_state


def test_values_are_bent_before_they_leave_what_is_sane():
    values = torch.tensor([-float("inf"), -9.0, -1.5, 0.0, 0.7, 1.5, 1.6, 9.0, float("inf")])
    bent = bend(values)
    assert torch.isfinite(bent).all() and bent.abs().max() <= 2
    assert torch.equal(bent[2:6], values[2:6]) and (bent.diff() >= 0).all()
    assert 1.59 < bent[6] < 1.6


@pytest.mark.parametrize(
    "entry, message",
    [
        ([1, 2], "tuning: expected an object, got a list"),
        ({"gain": {}}, "tuning: object contains unknown field gain"),
        ({"gains": [1]}, "tuning: gains: expected an object, got a list"),
        ({"gains": {"smirk": 1}}, "tuning.gains: this avatar has no expression 'smirk'"),
        ({"neutral": {"e0": "much"}}, "tuning.neutral.e0: expected a number, got text"),
        ({"neutral": {"e0": 1e300}}, "tuning.neutral.e0: expected a number"),
        ({"neutral": {"e0": True}}, "tuning.neutral.e0: expected a number, got true or false"),
    ],
)
def test_a_damaged_tuning_is_named(bundle, tmp_path, entry, message):
    bundle.save(tmp_path)
    manifest = json.loads((tmp_path / MANIFEST).read_text())
    (tmp_path / MANIFEST).write_text(json.dumps(manifest | {"tuning": entry}))
    with pytest.raises(UserError, match=message.replace("[", r"\[")) as error:
        AvatarBundle.load(tmp_path)
    assert str(tmp_path / MANIFEST) in str(error.value)


def test_wrong_shapes_and_numbers_are_refused():
    with pytest.raises(ValueError, match="expected neutral"):
        ExpressionTuning(torch.zeros(3), torch.ones(4))
    with pytest.raises(ValueError, match="gains: expected finite"):
        ExpressionTuning(torch.zeros(2), torch.tensor([1.0, float("nan")]))
