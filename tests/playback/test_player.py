"""The player shows what the fit saw, keeps nothing, and needs neither capture nor head model."""

from __future__ import annotations

import dataclasses
import gc
import itertools
import os
import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

from likeness.playback.player import Player
from likeness.renderers import create
from likeness.renderers.cpu import CpuRenderer
from likeness.scene.head_state import HeadState
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
    code = """
import sys
from likeness.playback.player import Player

player = Player(sys.argv[1])
player.step(player.bundle.default_state)
trainer = "likeness.preprocess", "likeness.fitting.loop", "likeness.fitting.optimizers"
unwanted = (*trainer, "likeness.fitting.subject", "mediapipe", "cv2", "tensorboard")
print([name for name in sys.modules if any(f"{name}.".startswith(f"{u}.") for u in unwanted)])
"""
    result = subprocess.run(
        [sys.executable, "-c", code, str(folder)], cwd=ROOT, capture_output=True, text=True
    )
    assert result.stdout.strip() == "[]", result.stdout + result.stderr[-500:]


@pytest.mark.parametrize("kind", ["headgas", "gaussianhead"])
def test_many_threads_construct_and_play_one_bundle_at_once(kind):
    bundle, states = toys.bundle(make(kind, EXTENDED), 24), toys.random_states((6,), seed=4)
    expected = [output.rgb for output in Player(bundle).stream(states[index] for index in range(6))]

    def play(_: int) -> list[torch.Tensor]:
        player = Player(bundle)
        return [player.step(states[index]).rgb for index in range(6)]

    with ThreadPoolExecutor(6) as pool:
        for pictures in pool.map(play, range(6)):
            for shown, picture in zip(pictures, expected):
                torch.testing.assert_close(shown, picture, atol=0, rtol=0)


def test_playing_leaves_the_bundle_as_it_was():
    bundle = toys.bundle(make("headgas", EXTENDED))
    before = {name: value.clone() for name, value in bundle.avatar.state_dict().items()}
    Player(bundle).step(toys.random_states(()))
    assert bundle.avatar.training and all(
        parameter.requires_grad for parameter in bundle.avatar.mlp.parameters()
    )
    assert bundle.avatar.per_gaussian["basis"].is_contiguous()
    for name, value in bundle.avatar.state_dict().items():
        assert torch.equal(value, before[name]), name


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"base_appearance": True, "sh_degree": 1},
        {"blending": "none"},
        {"blending": "parameters"},
        {"changes": "geometry"},
        {"changes": "all"},
        {"expression_codes": 5},
        {"limited": True},
        {"hidden_layers": 0},
        {"hidden_layers": 1},
    ],
    ids=str,
)
def test_the_frozen_avatar_is_the_same_avatar(changes):
    avatar = make("headgas", EXTENDED, **changes)
    player, eye = Player(toys.bundle(avatar)), torch.tensor([0.0, 0.1, 0.9])
    for seed in range(3):
        state = toys.random_states((), seed=seed)
        with torch.no_grad():
            expected = avatar(state, eye)
        for name, value in player.cloud(state, eye).fields().items():
            torch.testing.assert_close(
                value, expected.fields()[name], atol=1e-5, rtol=1e-5, msg=name
            )


class _Counted:
    """Counts the evaluations of a player's avatar."""

    def __init__(self, player: Player) -> None:
        self.count, self._evaluator = 0, player._evaluator
        player._evaluator = self

    def __call__(self, state, eye):
        self.count += 1
        return self._evaluator(state, eye)


@pytest.mark.parametrize("kind, evaluations", [("headgas", 1), ("gaussianhead", 4)])
def test_a_moving_camera_costs_no_avatar_unless_its_looks_depend_on_it(kind, evaluations):
    bundle = toys.bundle(make(kind, EXTENDED))
    player, state = Player(bundle), toys.random_states(())
    counted, cameras = _Counted(player), []
    for turn in range(4):
        move = toys.head_pose(0.1 * turn) @ torch.linalg.inv(toys.head_pose())
        cameras.append(dataclasses.replace(player.camera, T_cam_world=move))
        for _ in range(2):
            copied = state.map(torch.clone)
            shown = player.step(copied, cameras[-1])
        torch.testing.assert_close(
            shown.rgb, Player(bundle).step(state, cameras[-1]).rgb, atol=0, rtol=0
        )
    assert counted.count == evaluations


@pytest.mark.parametrize("field", [field.name for field in dataclasses.fields(HeadState)])
def test_a_state_that_changes_in_any_part_is_evaluated_again(field):
    player, state = Player(toys.bundle(make("gaussianhead", EXTENDED))), toys.random_states(())
    counted = _Counted(player)
    player.step(state)
    getattr(state, field).view(-1)[0] += 0.01  # in place: the very same tensors
    player.step(state)
    assert counted.count == 2


def test_thousands_of_steps_grow_nothing():
    """Neither the process, nor what Python holds. States differ, so that nothing comes from
    memory."""
    player, states = Player(toys.bundle(make("headgas"), 8)), toys.random_states((50,))
    player.renderer = CpuRenderer(1)
    singles = [states[index] for index in range(50)]
    background = torch.ones(3)

    def play(steps: int) -> None:
        for step in range(steps):
            player.step(singles[step % 50], background=background)

    def least_growth(steps: int, measure: Callable[[], int]) -> int:
        """Of four rounds, since caches fill up once, and what leaks grows in every round."""
        sizes = []
        for _ in range(5):
            play(steps)
            gc.collect()
            sizes.append(measure())
        return min(after - before for before, after in itertools.pairwise(sizes))

    play(500)
    assert least_growth(300, lambda: len(gc.get_objects())) < 12
    assert least_growth(600, _resident_bytes) < 1.2e5  # 200 bytes a step
    tracemalloc.start()
    grown = least_growth(150, lambda: tracemalloc.get_traced_memory()[0])
    tracemalloc.stop()
    assert grown < 15_000  # a hundred bytes a step: less than one tensor each


def _resident_bytes() -> int:
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        pytest.skip("this system has no /proc/self/statm")


def test_a_stream_is_the_pictures_of_its_states_and_is_lazy():
    player, states = Player(toys.bundle(make("headgas"))), toys.random_states((3,))
    taken = []

    def driver():
        for index in range(3):
            taken.append(index)
            yield states[index]

    pictures = player.stream(driver(), background=torch.zeros(3), depth=True)
    first = next(pictures)
    assert taken == [0] and first.depth is not None and (first.alpha == 1).all()
    assert len(list(pictures)) == 2 and taken == [0, 1, 2]
    torch.testing.assert_close(first.rgb, player.step(states[0]).rgb, atol=1e-6, rtol=0)
