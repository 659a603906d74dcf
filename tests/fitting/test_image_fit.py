"""Avatars of one picture: refining without harm, and the colours of an edited picture."""

from __future__ import annotations

import dataclasses
import itertools
import types

import numpy as np
import pytest
import torch

from likeness.fitting import finetune as finetuning
from likeness.fitting.bundle import AvatarBundle
from likeness.fitting.config import FitConfig
from likeness.fitting.finetune import FinetuneConfig, can_finetune, finetune, visibility
from likeness.fitting.loop import create_avatar
from likeness.fitting.recolouring import check_recolourable, recolour
from likeness.fitting.recolouring.colours import RecolourConfig
from likeness.fitting.seedings import AUTO, SEEDINGS
from likeness.ops.harmonics import C0
from likeness.preprocess.portraits.capture import PortraitOptions, build_capture
from likeness.renderers import create
from likeness.scene.cloud import GaussianCloud
from likeness.scene.config_files import load_preset
from likeness.scene.errors import UserError
from likeness.scene.frame_images import FrameStore
from likeness.scene.head_state import HeadState
from tests import synthetic_images, toys
from tests.contract.test_avatars import make

CONFIG = load_preset("one-picture", FitConfig, ["seeds.num_gaussians=6000"])
OPTIONS = PortraitOptions(224, synthetic_images.FOCAL, "selfie")


@pytest.fixture(scope="module")
def capture(tmp_path_factory):
    folder = tmp_path_factory.mktemp("refining")
    path = synthetic_images.save(folder / "me.png", synthetic_images.picture())
    return build_capture([path], folder / "capture", OPTIONS, download=False)


@pytest.fixture(scope="module")
def lifted(capture):
    return create_avatar(CONFIG, capture, FrameStore(capture, capture.train), 0).eval()


def psnr(avatar, frame, picture) -> float:
    camera = frame.camera.in_frame(frame.state.T_world_head)
    with torch.no_grad():
        shown = (
            create("cpu", "cpu")
            .render(avatar(frame.state, camera.center), camera)
            .over(torch.ones(3))
        )
    return float(-10 * torch.log10((shown - picture).square().mean()))


def test_auto_names_initializers_that_exist():
    assert set(AUTO) == {"video", "pictures"} and set(AUTO.values()) <= set(SEEDINGS)


@pytest.fixture
def ticking(monkeypatch):
    """A clock that goes on by a tenth of a second whenever it is looked at: as many steps on every
    machine."""
    ticks = itertools.count()
    clock = types.SimpleNamespace(monotonic=lambda: 0.1 * next(ticks))
    monkeypatch.setattr(finetuning, "time", clock)


@pytest.mark.usefixtures("ticking")
class TestRefinement:
    def test_comes_nearer_to_the_picture_within_its_limits(self, capture, lifted):
        frames, config = FrameStore(capture, capture.train), FinetuneConfig()
        avatar = lifted.duplicate(torch.clone)
        for parameter in avatar.parameters():
            parameter.requires_grad_(False)
        colour, matte = frames.get(0)
        truth = colour * matte + 1 - matte
        before = psnr(avatar, capture.frames[0], truth)
        steps = finetune(avatar, capture, frames, create("cpu", "cpu"), 2.0, progress=False)
        assert steps == 19 and psnr(avatar, capture.frames[0], truth) > before + 1
        old, new = lifted.per_gaussian, avatar.per_gaussian
        assert (new["means"] - old["means"]).abs().max() <= config.max_translation_m + 1e-6
        assert (new["log_scales"] - old["log_scales"]).abs().max() <= config.max_log_scale + 1e-6
        assert torch.equal(new["quats"], old["quats"])

    def test_what_is_hidden_stays_as_it_is(self, capture, lifted):
        frames, renderer = FrameStore(capture, capture.train), create("cpu", "cpu")
        avatar = lifted.duplicate(torch.clone)
        shown = visibility(avatar, renderer, capture.states, capture.cameras, capture.train)
        finetune(avatar, capture, frames, renderer, 0.5, progress=False)
        hidden = shown <= FinetuneConfig().min_visibility
        assert hidden.sum() > 500
        for name in ("colors", "opacity_logits", "means", "log_scales"):
            assert torch.equal(
                avatar.per_gaussian[name][hidden], lifted.per_gaussian[name][hidden]
            ), name

    def test_share_of_what_is_shown(self):
        """One Gaussian alone, one behind an opaque one, one outside of the picture."""
        means = torch.tensor([[0.05, 0, 0], [-0.05, 0, -0.03], [-0.05, 0, 0.03], [3.0, 0, 0]])
        scales = torch.tensor([0.01, 0.005, 0.03, 0.01])[:, None].repeat(1, 3)

        class Still:
            num_gaussians = 4

            def __call__(self, state, eye):
                quats = torch.tensor([1.0, 0, 0, 0]).repeat(4, 1)
                return GaussianCloud(
                    means, quats, scales, torch.full((4,), 0.99), torch.zeros(4, 1, 3)
                )

        states = HeadState.stack([HeadState.neutral(52, 2, toys.head_pose())])
        camera = toys.camera(128)
        cameras = type(camera).stack([camera])
        share = visibility(Still(), create("cpu", "cpu"), states, cameras, [0])
        assert share[0] > 0.7 and share[2] > 0.7 and share[1] < 0.15 and share[3] == 0

    def test_not_every_avatar_can(self):
        assert can_finetune(make("rigged")) and not can_finetune(make("headgas"))
        with pytest.raises(ValueError, match="headgas"):
            finetune(make("headgas"), None, None, None, 1.0)


class TestRecolouring:
    @pytest.fixture(scope="class")
    @classmethod
    def edited(cls, capture, lifted, tmp_path_factory):
        """The avatar's own picture with green lips and chin, its bundle, and its capture."""
        bundle = AvatarBundle.from_fit(lifted, capture, {})
        frame = capture.frames[0]
        camera = frame.camera.in_frame(frame.state.T_world_head)
        with torch.no_grad():
            shown = (
                create("cpu", "cpu")
                .render(lifted(frame.state, camera.center), camera)
                .over(torch.ones(3))
            )
        picture = shown.numpy().copy()
        x, y = frame.landmarks[[61, 291, 0, 152]].numpy().T
        area = np.zeros(picture.shape[:2], bool)
        area[int(y[2]) : int(y[3]) - 3, int(x[0]) : int(x[1])] = True
        picture[area] = 0.5 * picture[area] + [0.0, 0.5, 0.0]
        folder = tmp_path_factory.mktemp("edited")
        path = synthetic_images.save(
            folder / "e.png", (picture * 255).clip(0, 255).round().astype(np.uint8)
        )
        # The frame's own state stands in for the tracker's, so that the colours alone are tested.
        again = build_capture(
            [path], folder / "capture", OPTIONS, identity=capture.identity, download=False
        )
        return bundle, again, area

    def test_changes_colours_where_the_picture_does_and_nothing_else(self, edited):
        bundle, capture, _ = edited
        before = {name: value.clone() for name, value in bundle.avatar.state_dict().items()}
        found = recolour(bundle, capture, config=RecolourConfig(steps=40))
        for name, value in bundle.avatar.state_dict().items():
            assert torch.equal(value, before[name]), f"{name} of the base changed"
        after = found.bundle.avatar.state_dict()
        changed = {name for name in after if not torch.equal(after[name], before[name])}
        assert changed == {"per_gaussian.colors"}
        change = (after["per_gaussian.colors"] - before["per_gaussian.colors"])[:, 0] * C0
        means = bundle.avatar.per_gaussian["means"]
        chin = (
            (means[:, 1] < -0.07)
            & (means[:, 1] > -0.10)
            & (means[:, 0].abs() < 0.012)
            & (means[:, 2] > 0.0)
        )
        brow = (means[:, 1] > 0.02) & (means[:, 2] > -0.02)
        assert change[chin, 1].mean() > 0.08 and change[chin, 0].mean() < 0
        assert change[brow].abs().mean() < 0.02
        assert 0.01 < found.figures["pictures"][0]["edited_share"] < 0.3
        assert found.figures["gaussians_changed"] > 50

    def test_hidden_ones_that_look_alike_go_along(self):
        from likeness.fitting.recolouring.colours import _propagated

        means = torch.tensor([[0.0, 0, 0], [0.01, 0, 0], [0.02, 0, 0], [0.0, 0, -1.0]])
        colours = torch.tensor([[0.2, 0.1, 0.1], [0.8, 0.6, 0.5], [0.2, 0.1, 0.1], [0.2, 0.1, 0.1]])
        change = torch.tensor([[0.0, 0, 0.5], [0.0, 0, 0], [0.0, 0, 0], [0.0, 0, 0]])
        shown = torch.tensor([True, True, False, False])
        out = _propagated(change, shown, means, colours, RecolourConfig())
        assert torch.equal(out[:2], change[:2])
        # alike and near; alike, but a metre away
        assert out[2, 2] > 0.45 and out[3].abs().max() == 0

    @pytest.mark.parametrize("kind", ["rigged", "linear", "gaussianhead", "headgas"])
    def test_kinds(self, kind):
        bundle = toys.bundle(make(kind))
        if kind in ("rigged", "linear"):
            check_recolourable(bundle, "run")
            view = bundle.avatar.base_colours()
            before = (
                bundle.avatar(bundle.default_state, torch.tensor([0.0, 0.0, 1.0]))
                .sh.detach()
                .clone()
            )
            with torch.no_grad():
                view.add_(0.25)
            moved = bundle.avatar(bundle.default_state, torch.tensor([0.0, 0.0, 1.0]))
            torch.testing.assert_close(moved.sh[:, 0], before[:, 0] + 0.25)
        else:
            with pytest.raises(UserError, match=f"run: its avatar \\({kind}\\)"):
                check_recolourable(bundle, "run")

    def test_headgas_with_colours_of_its_own(self):
        check_recolourable(toys.bundle(make("headgas", base_appearance=True)), "run")


def test_the_preset_needs_no_fit(capture):
    config = dataclasses.replace(
        CONFIG, seeds=dataclasses.replace(CONFIG.seeds, num_gaussians=2000)
    )
    avatar = create_avatar(config, capture, FrameStore(capture, capture.train), 0)
    assert avatar.kind == "rigged" and avatar.config.sh_degree == 0


def test_what_was_guessed_on_purpose_is_not_held_back():
    from likeness.playback.player import Player
    from likeness.playback.view_clamp.gaussians import ClampedGaussians

    bundle = toys.bundle(make("rigged"))
    with torch.no_grad():
        # metres to the side: no picture shows them
        bundle.avatar.per_gaussian["means"][:5, 0] = 5.0
    guessed = dataclasses.replace(bundle, facts={"extrapolates": True})
    assert (ClampedGaussians.of(Player(bundle)).confidence < 1).any()
    assert (ClampedGaussians.of(Player(guessed)).confidence == 1).all()
