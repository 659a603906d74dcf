"""Fits on a simulated CUDA device: they run, find what they find on the CPU, and leave the device
alone in between."""

from __future__ import annotations

import dataclasses
import functools

import pytest
import torch

from benchmarks.common.training_step import TrainingStep
from likeness.fitting import loop
from likeness.fitting.avatars import AVATARS
from likeness.fitting.config import FitConfig
from likeness.fitting.finetune import finetune
from likeness.fitting.listeners import JsonLog, ProgressBar
from likeness.fitting.loop import Budget, FitDivergedError, FitInterrupted
from likeness.fitting.perceptual import VGG16, VGGLoss
from likeness.fitting.recolouring import recolour
from likeness.fitting.recolouring.alignment import align
from likeness.fitting.recolouring.colours import RecolourConfig
from likeness.fitting.run_directory import RunDirectory
from likeness.fitting.subject import FitOptions, fit_run
from likeness.playback.evaluation import measure_run
from likeness.playback.tracking_gain import tracking_gain
from likeness.renderers import create
from likeness.renderers.screen_refiner import RefinerConfig
from likeness.scene.config_files import load_preset
from likeness.scene.frame_images import FrameStore
from likeness.training.listeners import averaged_mosaic
from likeness.training.trainer import Trainer
from tests import toys
from tests.contract.test_batches import check_batch
from tests.fitting.test_loop import SMALL, SMALL_OF, Recorder
from tests.one_shot import tiny
from tests.simulated_gsplat import WAIT

PRESETS = ("default", "headgas", "gaussianhead", "headgas-plus", "gaussianhead-plus")
TINY = (
    "initializer=picture",
    "seeds.num_gaussians=100",
    "densify.start=100000",
    "objective.perceptual=0.0",
    "gaussianhead.resolution=8",
    "gaussianhead.scales=[1, 2]",
    "gaussianhead.channels=8",
    "gaussianhead.deform_width=16",
    "gaussianhead.deform_skip=1",
    "gaussianhead.deform_layers=2",
    "gaussianhead.deform_from=0",
)


@pytest.fixture(scope="module")
def capture(tmp_path_factory):
    return toys.make_capture(tmp_path_factory.mktemp("capture"), frames=6, size=32, test=2)


def run(capture, device, config=SMALL, iterations=9, **kwargs):
    recorder = Recorder()
    avatar = loop.fit(
        capture,
        create("auto", device),
        config,
        Budget(iterations=iterations),
        device=device,
        listeners=[recorder, *kwargs.pop("listeners", ())],
        **kwargs,
    )
    return avatar, recorder.infos


class LeftAlone:
    """Refuses waits in all steps but every tenth and the last, which are read; not gsplat's own,
    one a rendering."""

    def __init__(self, device) -> None:
        self._device = device
        self._begun = len(device.waits)
        self.waits: list[list[str]] = []
        """Of each step."""

    def on_step(self, info, avatar) -> None:
        self.waits.append(self._device.waits[self._begun :])
        self._begun = len(self._device.waits)
        self._device.refuses_waits = info.step % 10 != 9 and info.fraction < 0.9

    def on_end(self, avatar) -> None:
        self._device.refuses_waits = False


def check_waits(alone: LeftAlone) -> None:
    """Steps wait once, inside gsplat; the tenth once more, where the figures of ten steps are
    read."""
    for index in range(2, 10):
        inside, *others = alone.waits[index]
        assert inside.startswith(WAIT) and len(others) == (index == 9), alone.waits[index]


@pytest.mark.parametrize("preset", PRESETS)
def test_steps_wait_only_where_figures_are_read(cuda, capture, preset, tmp_path):
    config = load_preset(preset, FitConfig, TINY)
    alone = LeftAlone(cuda)
    listeners = [alone, JsonLog(tmp_path / "log.jsonl"), ProgressBar(preset)]
    run(capture, "cuda", config, 12, listeners=listeners)
    check_waits(alone)


@pytest.mark.parametrize("preset", PRESETS)
def test_steps_of_several_frames_wait_no_more(cuda, capture, preset):
    alone = LeftAlone(cuda)
    run(
        capture,
        "cuda",
        load_preset(preset, FitConfig, [*TINY, "schedule.batch=3"]),
        12,
        listeners=[alone],
    )
    check_waits(alone)


@pytest.mark.parametrize("preset", ["default", "headgas", "gaussianhead"])
def test_a_step_of_several_frames_asks_for_hardly_more_operations(cuda, preset):
    """What the host can launch bounds the steps a second: frames beyond the first of a step are
    nearly free."""
    counts = []
    for batch in (1, 4):
        step = TrainingStep(preset, 16, 30, 1, densifying=True, device="cuda", batch=batch)
        step.go_on()  # constants are copied once
        before = cuda.operations
        step.go_on()
        counts.append(cuda.operations - before)
    assert 200 < counts[0] < counts[1] < 1.1 * counts[0]


@pytest.mark.parametrize("kind", AVATARS)
def test_batches_have_the_mean_gradient(cuda, kind):
    check_batch(kind, True, "cuda")


def test_steps_with_the_perceptual_loss_wait_no_more(cuda, capture):
    changes = [
        *TINY,
        "objective.perceptual=0.1",
        "objective.perceptual_from=0",
        "objective.perceptual_region=frame",
    ]
    loss, alone = VGGLoss(VGG16()).requires_grad_(False).to("cuda"), LeftAlone(cuda)
    _, infos = run(
        capture,
        "cuda",
        load_preset("headgas", FitConfig, changes),
        4,
        listeners=[alone],
        perceptual=loss,
    )
    assert infos[-1].figures.terms["perceptual"] > 0


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("kind", SMALL_OF)
def test_a_fit_finds_what_it_finds_on_the_cpu(cuda, capture, kind, batch):
    config = dataclasses.replace(
        SMALL_OF[kind],
        densify=dataclasses.replace(SMALL.densify, start=2, every=20, min_observations=3),
        schedule=dataclasses.replace(SMALL.schedule, batch=batch),
    )
    (_, here), (_, there) = (run(capture, device, config) for device in ("cpu", "cuda"))
    assert len({info.num_gaussians for info in there}) > 1  # it was densified
    assert there[-1].num_gaussians == pytest.approx(here[-1].num_gaussians, rel=0.1)
    for step, (one, other) in enumerate(zip(here, there)):
        # Adam's first steps are as large for the smallest gradients
        near = 1e-3 if step < 4 else 0.1
        assert other.figures.loss == pytest.approx(one.figures.loss, rel=near)
        assert other.figures.psnr == pytest.approx(one.figures.psnr, rel=near)
        assert other.figures.terms == pytest.approx(one.figures.terms, rel=near)


@pytest.mark.parametrize("kind", SMALL_OF)
def test_a_resumed_fit_equals_an_uninterrupted_one(cuda, capture, kind, tmp_path):
    config = dataclasses.replace(
        SMALL_OF[kind],
        densify=dataclasses.replace(SMALL.densify, start=0, every=20, min_observations=4),
    )
    whole, infos = run(capture, "cuda", config, 6)
    path, seen = tmp_path / "checkpoint.safetensors", Recorder()
    with pytest.raises(FitInterrupted):
        run(
            capture,
            "cuda",
            config,
            6,
            checkpoint_path=path,
            listeners=[seen],
            should_stop=lambda: len(seen.infos) == 3,
        )
    resumed, rest = run(capture, "cuda", config, 6, checkpoint_path=path)
    assert [info.figures.loss for info in rest] == [info.figures.loss for info in infos[3:]]
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name


def test_a_loss_that_is_not_finite_is_found_before_anything_is_saved(cuda, capture, tmp_path):
    path, renderer = tmp_path / "checkpoint.safetensors", create("auto", "cuda")
    run(capture, "cuda", iterations=3, checkpoint_path=path)
    good = path.read_bytes()

    class Poisoned:
        def render(self, cloud, camera, **kwargs):
            output = renderer.render(cloud, camera, **kwargs)
            return dataclasses.replace(output, rgb=output.rgb * float("nan"))

    for iterations in (5, 80):  # ended before the figures are read, and after
        with pytest.raises(FitDivergedError, match="iteration 3: the loss is nan"):
            loop.fit(
                capture,
                Poisoned(),
                SMALL,
                Budget(iterations=iterations),
                device="cuda",
                checkpoint_path=path,
            )
        assert path.read_bytes() == good


def test_a_whole_run_is_fitted_and_measured(cuda, capture, tmp_path, monkeypatch):
    monkeypatch.setattr("likeness.playback.evaluators.milliseconds", lambda *_: 1.0)
    capture = dataclasses.replace(capture, train=capture.train[:2], test=capture.test[:1])
    directory = RunDirectory(tmp_path)
    directory.config.write_text("avatar: headgas\n")
    options = FitOptions(Budget(iterations=4), "cuda", download=False)
    result = fit_run(directory, capture, SMALL, options)
    assert next(result.bundle.avatar.parameters()).device.type == "cuda"
    metrics = measure_run(directory, result, capture, device="cuda")
    assert (
        metrics["heldout"]["psnr"] > 10 and "evaluation by torch" in metrics["notes"]["evaluation"]
    )
    again = fit_run(directory, capture, SMALL, options)  # all is there: loads, and takes no step
    assert torch.equal(
        again.bundle.avatar.state_dict()["per_gaussian.means"].cpu(),
        result.bundle.avatar.state_dict()["per_gaussian.means"].cpu(),
    )
    gains = tracking_gain(result.bundle, capture, capture.test[:1], device="cuda", steps=1)
    assert gains[0].poses >= gains[0].tracked


def test_avatars_of_pictures(cuda, capture, monkeypatch):
    monkeypatch.setattr(
        "likeness.fitting.recolouring.colours.align", functools.partial(align, steps=2)
    )
    config = load_preset(
        "one-picture", FitConfig, ["initializer=picture", "seeds.num_gaussians=150"]
    )
    frames = FrameStore(capture, capture.train, "cuda")
    avatar = loop.create_avatar(config, capture, frames, 0).to("cuda").eval()
    before = avatar.per_gaussian["colors"].clone()
    assert finetune(avatar, capture, frames, create("auto", "cuda"), 1.0, progress=False) > 0
    assert not torch.equal(before, avatar.per_gaussian["colors"])
    bundle = toys.bundle(avatar, 32, capture.frames[0].state)
    bundle = dataclasses.replace(
        bundle, default_camera=capture.frames[0].camera, recording=capture.states
    )
    one = dataclasses.replace(capture, train=capture.train[:1])
    found = recolour(bundle, one, device="cuda", config=RecolourConfig(steps=3))
    assert found.bundle.avatar.per_gaussian["colors"].device.type == "cuda"


def test_the_one_shot_network_trains_and_resumes(cuda, capture, tmp_path):
    model = dataclasses.replace(
        tiny.MODEL, refiner=RefinerConfig(enabled=True, features=3, width=2, size=32)
    )
    config = dataclasses.replace(tiny.TRAIN, model=model)

    def trained(iterations: int, path=None) -> Trainer:
        trainer = Trainer(config, [capture.root], create("auto", "cuda"), "cuda")
        trainer.train(Budget(iterations=iterations), path)
        return trainer

    path = tmp_path / "c.safetensors"
    trained(1, path)
    trainer = trained(2, path)
    assert trainer.progress.step == 2
    assert averaged_mosaic(trainer, 1).device.type == "cpu"
