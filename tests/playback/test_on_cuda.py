"""Playback on a simulated CUDA device: it shows what the CPU shows, waits for nothing, and chooses
how it evaluates."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from likeness.fitting.avatars import AVATARS
from likeness.playback import evaluators, graphs
from likeness.playback.evaluators import EVALUATION, choose_evaluator
from likeness.playback.inside import write_inside
from likeness.playback.player import Player
from likeness.playback.viewer.display import Display
from likeness.playback.viewer.orbit import Viewpoint
from likeness.playback.views.backgrounds import Background
from likeness.playback.views.rendering import ViewRenderer
from likeness.renderers import cuda_toolchain
from likeness.scene.errors import UserError
from likeness.scene.expression_tuning import ExpressionTuning
from likeness.scene.to_device import to_device
from tests import toys
from tests.contract.test_avatars import EXTENDED, EYE, make
from tests.simulated_gsplat import WAIT


@pytest.fixture
def graphs_win(monkeypatch):
    """Clocks by which the second of two is faster, without running either; kernels are not
    tried."""
    times = iter([2.0, 1.0] * 100)
    monkeypatch.setattr(evaluators, "milliseconds", lambda *_: next(times))
    monkeypatch.setattr(evaluators, "why_not", lambda avatar: "not here")


@pytest.mark.parametrize("kind", AVATARS)
def test_pictures_are_those_of_the_cpu_and_nothing_waits(cuda, kind, graphs_win):
    bundle = toys.refined(toys.bundle(make(kind, EXTENDED)))
    camera, background = bundle.default_camera.resized(24, 24), torch.rand(3)
    players = Player(bundle, "cuda"), Player(bundle)
    assert players[0].choices[EVALUATION].backend == "graph"
    players[0].step(bundle.recording[0], camera, background)
    for index in (1, 2, 2):
        state, before = bundle.recording[index], len(cuda.waits)
        with cuda.refusing_waits():
            output = players[0].step(state, camera, background, depth=True)
        waits = cuda.waits[before:]
        # picture, refiner's features
        assert len(waits) == 2 and all(wait.startswith(WAIT) for wait in waits)
        expected = players[1].step(state, camera, background, depth=True)
        for name in ("rgb", "alpha", "depth"):
            torch.testing.assert_close(
                getattr(output, name).cpu(), getattr(expected, name), atol=1e-4, rtol=1e-4
            )


@pytest.mark.parametrize("kind", ["headgas", "gaussianhead"])
def test_held_views_and_pictures_of_the_inside(cuda, kind, graphs_win, tmp_path):
    bundle = toys.bundle(make(kind, EXTENDED))
    players = Player(bundle, "cuda"), Player(bundle)
    turned = dataclasses.replace(bundle.recording[0], T_world_head=toys.head_pose(1.2))
    shown = [ViewRenderer(p, Background("white"), depth=True, normals=True) for p in players]
    there, here = (views.render(turned, bundle.default_camera) for views in shown)
    assert abs(there["colour"].image.astype(int) - here["colour"].image).max() <= 1
    write_inside(bundle, [bundle.recording[0]], [bundle.default_camera], tmp_path, "cuda")
    assert (tmp_path / "inside" / "depth_0.png").is_file()


class TestChoice:
    def arguments(self, kind="headgas"):
        bundle = toys.bundle(make(kind, EXTENDED))
        avatar = bundle.avatar.compile("cuda")
        states = bundle.recording[:2].to("cuda")
        return avatar, states[0], states[1], EYE.to("cuda")

    def test_the_faster_is_taken(self, cuda, monkeypatch):
        for graph_ms, backend in ((1.0, "graph"), (2.0, "torch"), (3.0, "torch")):
            times = iter([2.0, graph_ms])
            monkeypatch.setattr(evaluators, "milliseconds", lambda *_, times=times: next(times))
            choice, evaluator = choose_evaluator(*self.arguments())
            assert choice.backend == backend and isinstance(evaluator, graphs.GraphedAvatar) == (
                backend == "graph"
            )
            assert (
                choice.milliseconds == {"graph": graph_ms, "torch": 2.0}
                and choice.difference < 1e-6
            )

    def test_compiled_ones_are_tried_where_that_is_asked_for(self, cuda, monkeypatch):
        monkeypatch.setattr(evaluators, "milliseconds", lambda *_: next(times))
        # which is then captured
        monkeypatch.setattr(evaluators, "compiled", lambda avatar, state, eye: avatar)
        bundle = toys.bundle(make("headgas"))
        times = iter([3.0, 2.0, 1.0])
        player = Player(bundle, "cuda", compile=True)
        choice = player.choices[EVALUATION]
        assert choice.backend == "compiled" and set(choice.milliseconds) == {
            "torch",
            "graph",
            "compiled",
        }
        times = iter([3.0, 2.0])
        assert set(choose_evaluator(*self.arguments())[0].milliseconds) == {"torch", "graph"}

    def test_compiled_ones_that_fail_leave_the_others(self, cuda, monkeypatch, caplog):
        def fail(*_):
            raise RuntimeError("no compiler\nhere")

        times = iter([2.0, 1.0])
        monkeypatch.setattr(evaluators, "milliseconds", lambda *_: next(times))
        monkeypatch.setattr(evaluators, "compiled", fail)
        choice, evaluator = choose_evaluator(*self.arguments(), compile=True)
        assert (
            choice.backend == "graph"
            and choice.reason == "the fastest; compiled fails (no compiler here)"
        )
        assert [
            record.message for record in caplog.records if "compiled fails" in record.message
        ] == ["evaluation: compiled fails (no compiler here); playing without it"]

    def test_kernels_are_tried_for_exported_avatars(self, cuda, monkeypatch):
        times = iter([3.0, 2.0, 1.0])
        monkeypatch.setattr(evaluators, "milliseconds", lambda *_: next(times))
        monkeypatch.setattr(evaluators, "why_not", lambda avatar: None)
        monkeypatch.setattr(evaluators, "fused", lambda avatar, state, eye: avatar)
        choice, _ = choose_evaluator(*self.arguments("linear"))
        assert choice.backend == "fused" and set(choice.milliseconds) == {"torch", "graph", "fused"}

    def test_one_that_changes_clouds_is_not(self, cuda, graphs_win, monkeypatch):
        def forgetful(self, state, eye):
            self._graph.replay()
            return self._cloud

        monkeypatch.setattr(graphs.GraphedAvatar, "__call__", forgetful)
        avatar, *others = self.arguments()
        choice, evaluator = choose_evaluator(avatar, *others)
        assert evaluator is avatar and "graph would change it" in choice.reason

    @pytest.mark.parametrize(
        "error", [RuntimeError("no capture\nhere"), AssertionError("x"), MemoryError("full")]
    )
    def test_one_that_fails_is_said_once_and_playing_goes_on(
        self, cuda, monkeypatch, caplog, error
    ):
        def fail(*_, **__):
            raise error

        monkeypatch.setattr(torch.cuda, "graph", fail)
        bundle = toys.bundle(make("headgas"))
        player = Player(bundle, "cuda")
        for index in range(3):
            player.step(bundle.recording[index])
        assert (
            player.choices[EVALUATION].backend == "torch"
            and "fails" in player.choices[EVALUATION].reason
        )
        assert (
            len([record for record in caplog.records if "playing without it" in record.message])
            == 1
        )
        with pytest.raises(type(error)):  # but who asked for it is told
            Player(bundle, "cuda", evaluation="graph")

    def test_none_is_tried_where_that_is_said_or_there_is_no_cuda(self, cuda):
        bundle = toys.bundle(make("headgas"))
        for player in (Player(bundle, "cuda", evaluation="torch"), Player(bundle)):
            assert EVALUATION not in player.choices

    @pytest.mark.parametrize("kind", AVATARS)
    def test_replays_follow_the_state(self, cuda, kind):
        avatar, one, other, eye = self.arguments(kind)
        graphed = graphs.GraphedAvatar(avatar, one, eye)
        with torch.no_grad(), cuda.refusing_waits():
            for state in (other, one):
                found, expected = graphed(state, eye).fields(), avatar(state, eye).fields()
                assert all(torch.equal(found[name].values, expected[name].values) for name in found)


def test_clouds_stay_what_they_are_when_others_are_made(cuda, graphs_win):
    """Replays overwrite theirs: what a caller holds is a copy, and a picture needs none."""
    bundle = toys.bundle(make("headgas", EXTENDED))
    player, plain, held = Player(bundle, "cuda"), Player(bundle, "cuda", evaluation="torch"), []
    for index in (0, 1, 1, 2):
        cloud = player.cloud(bundle.recording[index], EYE)
        player.step(bundle.recording[3])
        held.append((cloud, plain.cloud(bundle.recording[index], EYE)))
    assert player.choices[EVALUATION].backend == "graph"
    for found, expected in held:
        for name, value in found.fields().items():
            torch.testing.assert_close(value.cpu(), expected.fields()[name].cpu(), msg=name)


def test_a_renderer_that_cannot_be_compiled_is_said_before_the_first_picture(cuda, monkeypatch):
    def refuse(*_):
        raise UserError("renderer 'gsplat': it lacks a C++ compiler (c++)")

    monkeypatch.setattr(cuda_toolchain, "building", refuse)
    bundle = toys.arkit_bundle()
    for make_it in (lambda: Player(bundle, "cuda"), lambda: Display([bundle], "cuda", size=32)):
        with pytest.raises(UserError, match="lacks a C"):
            make_it()


def test_a_tuned_avatar_waits_for_nothing(cuda, graphs_win):
    bundle = toys.bundle(make("headgas", EXTENDED))
    tuning = ExpressionTuning(torch.full((52,), 0.1), torch.full((52,), 0.5))
    players = Player(bundle, "cuda"), Player(bundle)
    for player in players:
        player.step(bundle.recording[0])
        player.tune(tuning)
    with cuda.refusing_waits():
        output = players[0].step(bundle.recording[0])
    torch.testing.assert_close(
        output.rgb.cpu(), players[1].step(bundle.recording[0]).rgb, atol=1e-4, rtol=1e-4
    )


def test_the_viewer_shows_what_it_shows_on_the_cpu(cuda, graphs_win):
    bundle = toys.arkit_bundle()
    pictures = []
    for device in ("cuda", "cpu"):
        display = Display([bundle], device, size=32)
        view = Viewpoint((0.0, 1.0, 0.0, 0.0), (0.0, 0.0, 1.0), 0.5, 1.0)
        pictures.append(display.image(view, display.settings, 3))
    assert abs(pictures[0].astype(int) - pictures[1]).max() <= 1


def test_what_is_sent_together_arrives(cuda):
    tensors = torch.rand(2, 3), torch.rand(()), torch.rand(0, 4), torch.rand(5)[::2]
    with cuda.refusing_waits():
        there = to_device(tensors, "cuda")
        mixed = to_device((torch.arange(3), torch.rand(2)), "cuda")
    for one, other in zip(tensors, there):
        assert other.shape == one.shape and torch.equal(other.cpu(), one)
    assert [tensor.dtype for tensor in mixed] == [torch.long, torch.float32]
    assert all(one is other for one, other in zip(tensors, to_device(tensors, "cpu")))
