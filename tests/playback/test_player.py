"""The player shows what the fit saw, keeps nothing, and needs neither capture nor head model."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from playback.player import Player
from renderers import create
from tests import toys
from tests.contract.test_avatars import EXTENDED, make

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def folder(tmp_path) -> Path:
    toys.bundle(make("headgas", EXTENDED), 40).save(tmp_path)
    return tmp_path


def test_it_shows_the_very_picture_of_the_fit(folder):
    player, state = Player(folder), toys.random_states(())
    avatar = make("headgas", EXTENDED)
    view = toys.camera(40).in_frame(state.T_world_head)
    with torch.no_grad():
        expected = create("cpu", "cpu").render(avatar(state, view.center), view)
    shown = player.step(state)
    torch.testing.assert_close(shown.rgb, expected.rgb, atol=1e-5, rtol=0)
    assert not shown.rgb.requires_grad


def test_backgrounds_other_cameras_and_order_do_not_leave_traces(folder):
    player = Player(folder)
    a, b = toys.random_states((), seed=1), toys.random_states((), seed=2)
    first = player.step(a).rgb
    small = player.step(b, toys.camera(24), torch.tensor([0.0, 1.0, 0.0]))
    assert small.rgb.shape == (24, 24, 3) and (small.alpha == 1).all()
    torch.testing.assert_close(player.step(a).rgb, first, atol=0, rtol=0)
    corner = small.rgb[0, 0]
    torch.testing.assert_close(corner, torch.tensor([0.0, 1.0, 0.0]), atol=1e-3, rtol=0)


def test_playing_imports_no_trainer_no_preprocessing(folder):
    code = (
        "import sys; from playback.player import Player; p = Player(sys.argv[1]); p.step(p.bundle.default_state);"
        "print([m for m in sys.modules if m.split('.')[0] in ('preprocess', 'mediapipe', 'cv2', 'tensorboard')"
        " or m in ('fitting.loop', 'fitting.optimizers', 'fitting.subject')])"
    )
    result = subprocess.run([sys.executable, "-c", code, str(folder)], cwd=ROOT, capture_output=True, text=True)
    assert result.stdout.strip() == "[]", result.stdout + result.stderr[-500:]
