"""The errors of mattes, on mattes whose errors are known, and the backgrounds."""

from __future__ import annotations

import dataclasses
import types

import numpy as np
import pytest

from benchmarks.common.matte_errors import connectedness, gradient_norm, matte_errors
from likeness.synthetic.appearance import Look
from likeness.synthetic.backgrounds import BACKGROUNDS, Background, make_background

SIZE = 64


def square() -> np.ndarray:
    truth = np.zeros((3, SIZE, SIZE), np.float32)
    truth[:, 16:48, 16:48] = 1
    return truth


def test_a_perfect_matte_has_no_errors():
    assert set(matte_errors(square(), square()).values()) == {0.0}


def test_errors_of_a_constant_offset_are_known():
    truth = square()
    found = np.clip(truth - 0.25, 0, 1)
    figures = matte_errors(found, truth)
    assert figures["sad"] == pytest.approx(32 * 32 * 0.25 / 1000)
    assert figures["mse"] == pytest.approx(1000 * 32 * 32 * 0.25**2 / SIZE**2)
    assert figures["flicker"] == 0 and figures["gradient"] > 0
    inside = truth > 0
    assert matte_errors(found, truth, inside)["mse"] == pytest.approx(1000 * 0.25**2)


def test_flicker_is_the_change_that_the_truth_lacks():
    truth = square()
    found = truth.copy()
    found[1, 20:24, 20:24] -= 0.5
    assert matte_errors(found, truth)["flicker"] == pytest.approx(np.sqrt(16 * 0.25))


def test_the_gradient_of_a_ramp_is_even():
    ramp = np.tile(np.arange(SIZE) / SIZE, (SIZE, 1)).astype(np.float32)
    across, down = gradient_norm(ramp)[8:-8, 8:-8], gradient_norm(ramp.T)[8:-8, 8:-8]
    assert across.std() < 1e-5 and across.mean() == pytest.approx(down.mean(), rel=1e-5)
    assert gradient_norm(2 * ramp)[32, 32] == pytest.approx(2 * across.mean(), rel=1e-4)


def test_what_does_not_hang_together_with_the_person_counts():
    truth = square()[0]
    speck, rim = truth.copy(), truth.copy()
    speck[2:6, 2:6] = 0.8
    rim[48:50, 16:48] = 0.8
    assert connectedness(speck, truth).sum() == pytest.approx(16 * 0.8, rel=1e-3)
    assert connectedness(truth, truth).sum() == 0
    # a rim beside the person exceeds the truth, too, which is connected nowhere there
    assert connectedness(rim, truth).sum() == pytest.approx(64 * 0.8, rel=1e-3)


@pytest.fixture
def subject():
    """All that a background asks of a person."""
    light = types.SimpleNamespace(lamp=(-0.5, -0.6, -0.7))
    person = types.SimpleNamespace(look=Look(), light=light, seed=3)
    return types.SimpleNamespace(
        person=person, wall=lambda width, height: np.full((height, width, 3), 0.6, np.float32)
    )


@pytest.mark.parametrize("name", BACKGROUNDS)
def test_backgrounds_are_what_their_seed_says(name, subject):
    one, same, other = (make_background(name, subject, 64, 48, seed) for seed in (1, 1, 2))
    assert one.colours.shape == (48, 64, 3) and one.colours.dtype == np.float32
    assert 0 <= one.colours.min() and one.colours.max() <= 1
    assert (one.colours == same.colours).all() and one.shadow == same.shadow
    if name not in ("wall", "shadow"):
        assert np.abs(one.colours - other.colours).max() > 0.1
        assert np.abs(one.colours - 0.6).max() > 0.1


def test_a_shadow_goes_with_the_person():
    background = Background(np.ones((SIZE, SIZE, 3), np.float32), 0.4, (0.25, 0.0))
    alpha = square()[0]
    seen = background.behind(alpha)
    assert seen[32, 48].mean() == pytest.approx(0.6, abs=0.02), "16 pixels to the right"
    assert seen[32, 5].mean() == pytest.approx(1.0, abs=0.01)
    assert (dataclasses.replace(background, shadow=0.0).behind(alpha) == 1).all()
