"""The thread that renders: only what changed, for those who look, no more than it may; errors come
to light."""

from __future__ import annotations

import dataclasses
import time

import numpy as np
import pytest
import torch

from likeness.playback.viewer.display import Display
from likeness.playback.viewer.orbit import Viewpoint, initial_view
from likeness.playback.viewer.rendering import Rendering
from tests import toys
from tests.contract.test_avatars import make
from tests.playback.viewer.test_logic import seen_from


class FakeScreen:
    def __init__(self, key: int, view: Viewpoint) -> None:
        self.key, self._view, self.pictures = key, view, []

    def move(self, aspect: float) -> None:
        self._view = dataclasses.replace(self._view, aspect=aspect)

    def view(self) -> Viewpoint:
        return self._view

    def put(self, picture: np.ndarray) -> None:
        self.pictures.append(picture)


@pytest.fixture
def display() -> Display:
    return Display([toys.bundle(make("headgas"))], size=16, clock=lambda: show_time[0])


show_time = [0.0]


@pytest.fixture(autouse=True)
def _at_the_start() -> None:
    show_time[0] = 0.0


@pytest.fixture
def screen(display) -> FakeScreen:
    return FakeScreen(1, seen_from(initial_view(display.bundles[0])))


def test_a_picture_is_made_when_something_changed_and_not_again(display, screen):
    frames = []
    rendering = Rendering(display, lambda: [screen], on_frame=frames.append)
    assert rendering.round() and not rendering.round()
    changes = [
        lambda: screen.move(1.5),
        lambda: display.set_slider(4, 0.5),
        lambda: display.update(background=(0.0, 0.0, 0.0)),
        lambda: display.update(size=20),
        lambda: display.control(lambda t, now: t.scrub(3, now)),
        lambda: display.replace_avatar(toys.bundle(make("headgas", seed=2))),
        lambda: display.set_tuning(0, display.with_this_face_at_rest(0)),
    ]
    for count, change in enumerate(changes, 2):
        change()
        assert rendering.round() and not rendering.round()
        assert len(screen.pictures) == count and rendering.latest[1] is screen.pictures[-1]
    assert [picture.shape for picture in screen.pictures[:2]] == [
        (16, 16, 3),
        (16, 24, 3),
    ] and frames == [0, 3]


def test_a_running_recording_is_followed_unless_it_is_not_shown(display, screen):
    rendering = Rendering(display, lambda: [screen])
    display.control(lambda t, now: t.play(now))
    rendering.round()
    show_time[0] = 0.05
    assert rendering.round()
    display.update(recording=False)
    assert rendering.round()
    show_time[0] = 0.1
    assert not rendering.round()


def test_each_screen_has_its_own_view_and_who_left_is_forgotten(display, screen):
    other = FakeScreen(2, dataclasses.replace(screen.view(), aspect=0.5))
    here = [screen, other]
    rendering = Rendering(display, lambda: list(here))
    rendering.round()
    # 16 pixels are the least
    assert [s.pictures[0].shape for s in here] == [(16, 16, 3), (16, 16, 3)]
    here.remove(screen)
    rendering.round()
    assert set(rendering.latest) == {2}
    here.insert(0, screen)
    assert rendering.round() and len(screen.pictures) == 2 and len(other.pictures) == 1


def _until(condition, seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "nothing happened"
        time.sleep(0.005)


def test_the_thread_wakes_on_changes_and_ends(display, screen):
    rendering = Rendering(display, lambda: [screen])
    rendering.start()
    _until(lambda: len(screen.pictures) == 1)
    begun = time.monotonic()
    display.set_slider(0, 1.0)
    _until(lambda: len(screen.pictures) == 2)
    assert time.monotonic() - begun < 10
    rendering.stop()
    rendering.wait()
    display.set_slider(0, 0.0)
    assert len(screen.pictures) == 2


def test_it_takes_no_more_than_its_share_of_the_time(display, screen):
    spent = []

    def slowly(picture: np.ndarray) -> None:
        begun = time.monotonic()
        time.sleep(0.01)
        spent.append(time.monotonic() - begun)
        display.update(background=(len(spent) % 2, 0.0, 0.0))  # there is always something to do

    screen.put = slowly
    rendering = Rendering(display, lambda: [screen], share=0.2)
    begun = time.monotonic()
    rendering.start()
    _until(lambda: len(spent) >= 6)
    rendering.stop()
    # Of all rounds but the last, whose pause was cut short.
    assert sum(spent[:-1]) < 0.25 * (time.monotonic() - begun)


def test_no_more_pictures_a_second_than_asked_for(display, screen):
    def put(picture: np.ndarray) -> None:
        screen.pictures.append(picture)
        display.set_slider(0, len(screen.pictures) % 2)

    screen.put = put
    rendering = Rendering(display, lambda: [screen], fps=20)
    begun = time.monotonic()
    rendering.start()
    _until(lambda: len(screen.pictures) >= 6)
    assert time.monotonic() - begun > 5 / 20 - 0.02
    rendering.stop()


def test_what_goes_wrong_is_raised_where_somebody_waits(display, screen):
    def broken(picture: np.ndarray) -> None:
        raise ZeroDivisionError("broken screen")

    screen.put = broken
    rendering = Rendering(display, lambda: [screen])
    rendering.start()
    with pytest.raises(ZeroDivisionError, match="broken screen"):
        rendering.wait(20)
    rendering.stop()


def test_pictures_build_no_gradients(display, screen):
    with torch.enable_grad():
        assert Rendering(display, lambda: [screen]).round()
