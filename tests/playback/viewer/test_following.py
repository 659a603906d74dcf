"""A fit in progress is followed by copies, at little cost, and outlives its viewer."""

from __future__ import annotations

import html
import time
import types

import numpy as np
import pytest
import torch

from likeness.fitting import loop
from likeness.fitting.config import FitConfig
from likeness.playback.viewer import following
from likeness.playback.viewer.following import FitFollower
from likeness.renderers import create
from tests import toys
from tests.contract.test_avatars import EXTENDED, make
from tests.fitting.test_loop import SMALL
from tests.playback.viewer.test_server import Client, camera_message, until

INFO = types.SimpleNamespace(
    fraction=0.5, step=7, figures=types.SimpleNamespace(psnr=20.0), num_gaussians=40
)


@pytest.fixture(scope="module")
def capture(tmp_path_factory):
    return toys.make_capture(tmp_path_factory.mktemp("run") / "capture", frames=8, size=32)


class FakeViewer:
    """What a follower needs of a viewer."""

    def __init__(self) -> None:
        self.watched, self.error, self.shown, self.said = True, None, [], []
        bundles = [toys.bundle(make("headgas"))]
        self.display = types.SimpleNamespace(bundles=bundles, replace_avatar=self.shown.append)
        self.panel = types.SimpleNamespace(say=self.said.append)


@pytest.fixture
def follower(capture) -> FitFollower:
    follower = FitFollower(capture, "cpu", "127.0.0.1", 0)
    follower.viewer = FakeViewer()
    return follower


@pytest.mark.parametrize("kind", ["headgas", "gaussianhead"])
def test_what_is_shown_is_a_copy(follower, kind):
    avatar, state, eye = make(kind, EXTENDED), toys.random_states(()), torch.tensor([0.0, 0.0, 0.9])
    # some parameters are of another class from here on
    loop.make_optimizer(avatar, FitConfig().optimizer)
    follower.listener("fitting").on_step(INFO, avatar)
    (bundle,) = follower.viewer.shown
    with torch.no_grad():
        before = avatar(state, eye)
        for parameter in avatar.parameters():
            parameter += 1 if parameter.is_floating_point() else 0
        for name, value in bundle.avatar(state, eye).fields().items():
            torch.testing.assert_close(value, before.fields()[name], atol=0, rtol=0)
    assert not any(parameter.requires_grad for parameter in bundle.avatar.parameters())
    assert avatar.training and follower.viewer.said[0].startswith("fitting: 50 %, step 7, 20.0 dB")


def test_copies_keep_to_their_share_of_the_time_and_nobody_pays_unwatched(follower, monkeypatch):
    now, avatar, fit = [100.0], make("headgas"), follower.listener("fitting")
    monkeypatch.setattr(following.time, "monotonic", lambda: now[0])
    copied = follower.show
    monkeypatch.setattr(
        follower, "show", lambda *a: (copied(*a), now.__setitem__(0, now[0] + 0.05))
    )
    shown = follower.viewer.shown
    fit.on_step(INFO, avatar)
    for _ in range(495):  # 4.95 s
        now[0] += 0.01
        fit.on_step(INFO, avatar)
    assert len(shown) == 1
    now[0] += 0.1
    fit.on_step(INFO, avatar)
    assert len(shown) == 2
    follower.viewer.watched = False
    now[0] += 100
    fit.on_step(INFO, avatar)
    fit.on_end(avatar)
    assert len(shown) == 2


def test_a_broken_viewer_is_said_once_and_the_fit_goes_on(follower, caplog):
    fit, avatar = follower.listener("fitting"), make("headgas")
    follower.viewer.error = ZeroDivisionError("broken")
    for _ in range(3):
        fit.on_step(INFO, avatar)
    fit.on_end(avatar)
    assert follower.viewer.shown == [] and len(caplog.records) == 1
    assert (
        "the fit continues without it" in caplog.text and "ZeroDivisionError: broken" in caplog.text
    )


def test_a_real_fit_is_seen_in_the_browser(capture, monkeypatch):
    pytest.importorskip("viser", reason="viser is not installed (the live viewer's package)")
    monkeypatch.setattr(following, "_MIN_S", 0.0)
    monkeypatch.setattr(following, "_COPY_SHARE", 0.9)
    monkeypatch.setattr(following, "_RENDER_SHARE", 0.9)
    follower = FitFollower(capture, "cpu", "127.0.0.1", 0)
    clients = []

    class FirstLooksOn:
        """Opens a browser after the first step, and gives it time."""

        def on_step(self, info, avatar) -> None:
            if not clients:
                display = follower.viewer.display
                clients.append(Client(follower.viewer.url, camera_message(display, 32)))
                until(lambda: clients[0].pictures)
            time.sleep(0.005)

        def on_end(self, avatar) -> None: ...

    try:
        loop.fit(
            capture,
            create("cpu"),
            SMALL,
            loop.Budget(iterations=60),
            listeners=[follower.listener("fitting"), FirstLooksOn()],
        )
        pictures = clients[0].pictures
        until(lambda: len(pictures) >= 3)
        assert np.abs(pictures[0].astype(int) - pictures[-1]).max() > 10
        assert html.unescape(follower.viewer.panel._text.content) == "fitting: done"
    finally:
        follower.stop()
