"""The training loop on a toy capture: it learns, resumes exactly, and stops when it must."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import subprocess
import sys
from pathlib import Path
from unittest import mock

import pytest
import torch

from likeness.fitting import loop
from likeness.fitting.avatars import AVATARS
from likeness.fitting.avatars.anchoring import AnchoringConfig
from likeness.fitting.avatars.gaussianhead import GaussianHeadConfig
from likeness.fitting.avatars.headgas import HeadGaSConfig
from likeness.fitting.config import FitConfig, ScheduleConfig
from likeness.fitting.densify import AdaptiveConfig
from likeness.fitting.figures import Unread
from likeness.fitting.listeners import JsonLog
from likeness.fitting.loop import Budget, FitDivergedError, FitInterrupted
from likeness.fitting.objective import ObjectiveConfig
from likeness.renderers import create
from likeness.scene.capture import Capture, TrackedFrames
from likeness.scene.errors import UserError
from likeness.scene.tensor_files import read_header, read_tensors, save_tensors
from likeness.seeding.config import SeedingConfig
from tests import toys

SMALL = FitConfig(
    headgas=HeadGaSConfig(
        feature_size=4,
        hidden_size=16,
        sh_degree=1,
        base_appearance=True,
        anchoring=AnchoringConfig(two_frames=True, rigged=True, pose_correction=True),
    ),
    initializer="picture",
    seeds=SeedingConfig(num_gaussians=250, frames=4),
    densify=AdaptiveConfig(start=10, stop=60, every=10, min_observations=5, max_gaussians=400),
    objective=ObjectiveConfig(perceptual=0.0, matte=0.2, background="random"),
    schedule=ScheduleConfig(iterations=80, half_resolution_until=30, short_fit_exponent=0.3),
)


ANCHORING = SMALL.headgas.anchoring
SMALL_OF = {
    "headgas": SMALL,
    "gaussianhead": dataclasses.replace(
        SMALL,
        avatar="gaussianhead",
        gaussianhead=GaussianHeadConfig(
            deform_width=16,
            deform_from=20,
            resolution=8,
            scales=(1, 2),
            channels=8,
            hidden_size=16,
            sh_degree=1,
            anchoring=ANCHORING,
        ),
    ),
}


@pytest.fixture(scope="module")
def capture(tmp_path_factory):
    return toys.make_capture(tmp_path_factory.mktemp("capture"))


@pytest.fixture(scope="module")
def renderer():
    return create("cpu", "cpu")


class Recorder:
    def __init__(self):
        self.infos = []

    def on_step(self, info, avatar):
        self.infos.append(info)

    def on_end(self, avatar):
        pass


def run(capture, renderer, iterations=80, config=SMALL, **kwargs):
    torch.set_num_threads(1)
    recorder = Recorder()
    avatar = loop.fit(
        capture,
        renderer,
        config,
        Budget(iterations=iterations),
        listeners=[recorder, *kwargs.pop("listeners", [])],
        **kwargs,
    )
    return avatar, recorder.infos


def test_it_learns_densifies_and_sees_every_frame(capture, renderer):
    _, infos = run(capture, renderer)
    first, last = infos[:10], infos[-10:]
    assert sum(i.figures.psnr for i in last) / 10 > sum(i.figures.psnr for i in first) / 10 + 3
    assert infos[-1].num_gaussians != infos[0].num_gaussians
    epoch = [frame for i in infos[: len(capture.train)] for frame in i.frames]
    assert sorted(epoch) == sorted(capture.train)


def in_batches(config, batch):
    return dataclasses.replace(config, schedule=dataclasses.replace(config.schedule, batch=batch))


@pytest.mark.parametrize("batch, last, stop", [(1, 80, 37), (3, 24, 11)], ids=["single", "batch"])
@pytest.mark.parametrize("kind", AVATARS)
def test_a_resumed_fit_equals_an_uninterrupted_one(
    capture, renderer, tmp_path, kind, batch, last, stop
):
    config = in_batches(SMALL_OF.get(kind) or dataclasses.replace(SMALL, avatar=kind), batch)
    whole, infos = run(capture, renderer, last, config)
    assert infos[-1].num_gaussians != infos[0].num_gaussians
    path = tmp_path / "checkpoint.safetensors"
    seen = Recorder()
    with pytest.raises(FitInterrupted):
        run(
            capture,
            renderer,
            last,
            config,
            checkpoint_path=path,
            listeners=[seen],
            should_stop=lambda: len(seen.infos) == stop,
        )
    resumed, rest = run(capture, renderer, last, config, checkpoint_path=path)
    assert [i.step for i in rest] == list(range(stop + 1, last + 1))
    assert [(i.figures.loss, i.frames) for i in rest] == [
        (i.figures.loss, i.frames) for i in infos[stop:]
    ]
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name


def test_fits_of_one_seed_are_equal_and_of_two_seeds_differ(capture, renderer):
    a, b, c = (run(capture, renderer, iterations=5, seed=seed)[0] for seed in (1, 1, 2))
    assert torch.equal(a.per_gaussian["means"], b.per_gaussian["means"])
    assert not torch.equal(a.per_gaussian["means"], c.per_gaussian["means"])


def fingerprint(root: str) -> dict[str, str]:
    """SHA-256 of what a few steps make of each kind of avatar."""
    capture, renderer, digests = Capture.load(Path(root)), create("cpu", "cpu"), {}
    for kind in AVATARS:
        avatar, _ = run(
            capture, renderer, 4, SMALL_OF.get(kind) or dataclasses.replace(SMALL, avatar=kind)
        )
        tensors = b"".join(
            value.contiguous().numpy().tobytes() for value in avatar.state_dict().values()
        )
        digests[kind] = hashlib.sha256(tensors).hexdigest()
    return digests


def test_a_later_process_fits_the_same_bits(capture):
    """Of a fresh clone this process has compiled kernels that the other one loads."""
    program = (
        "import sys; from tests.fitting import test_loop; print(test_loop.fingerprint(sys.argv[1]))"
    )
    command = [sys.executable, "-c", program, str(capture.root)]
    later = subprocess.check_output(command, cwd=Path(__file__).parents[2], text=True)
    assert later.strip().splitlines()[-1] == str(fingerprint(str(capture.root)))


def test_expressions_matter_to_the_fit_and_the_baseline_never_sees_them(capture, renderer):
    longer = dataclasses.replace(SMALL.schedule, iterations=240)  # shapes and colours come first
    still = dataclasses.replace(ANCHORING, rigged=False)  # the blob has no mouth that opens
    config = dataclasses.replace(
        SMALL, headgas=dataclasses.replace(SMALL.headgas, anchoring=still), schedule=longer
    )
    blind = dataclasses.replace(config, schedule=dataclasses.replace(longer, expressions=False))
    avatar, blind_infos = run(capture, renderer, iterations=240, config=blind)
    assert not avatar.per_gaussian["basis"].any()  # without expressions nothing pulls at the bases
    _, infos = run(capture, renderer, iterations=240, config=config)
    assert sum(i.figures.psnr for i in infos[-13:]) > sum(i.figures.psnr for i in blind_infos[-13:])


def test_a_loss_that_is_not_finite_stops_the_fit_and_keeps_the_last_good_state(
    capture, renderer, tmp_path
):
    path = tmp_path / "checkpoint.safetensors"
    run(capture, renderer, iterations=5, checkpoint_path=path)
    good = path.read_bytes()

    class Poisoned:
        def render(self, cloud, camera, **kwargs):
            output = renderer.render(cloud, camera, **kwargs)
            return dataclasses.replace(output, rgb=output.rgb * float("nan"))

    with pytest.raises(FitDivergedError, match="iteration 5: the loss is nan"):
        loop.fit(capture, Poisoned(), SMALL, Budget(iterations=80), checkpoint_path=path)
    assert path.read_bytes() == good


def test_a_damaged_checkpoint_is_said_clearly(capture, renderer, tmp_path):
    path = tmp_path / "checkpoint.safetensors"
    run(capture, renderer, iterations=3, checkpoint_path=path)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(UserError, match="damaged"):
        run(capture, renderer, checkpoint_path=path)


DAMAGE = {
    "a moment of another shape": lambda t: t.update({MOMENT: t[MOMENT][:-1].clone()}),
    "a moment of another type": lambda t: t.update({MOMENT: t[MOMENT].double()}),
    "a moment that is not finite": lambda t: t[MOMENT].fill_(float("nan")),
    "a square that is negative": lambda t: t[f"{MOMENT}_sq"].fill_(-1),
    "a moment that is missing": lambda t: t.pop(MOMENT),
    "a count below 0": lambda t: t[MOMENT.replace("exp_avg", "step")].fill_(-2),
    "a parameter of another shape": lambda t: t.update({MEANS: t[MEANS][:, :2].clone()}),
    "another number of Gaussians": lambda t: t.update({MEANS: t[MEANS][:-1].clone()}),
    "statistics of other Gaussians": lambda t: t.update({"densifier.gradients": torch.zeros(3)}),
}
MEANS, MOMENT = "avatar.per_gaussian.means", "optimizer.per_gaussian.means|exp_avg"


@pytest.fixture(scope="module")
def checkpointed(capture, renderer, tmp_path_factory):
    path = tmp_path_factory.mktemp("fit") / "checkpoint.safetensors"
    run(capture, renderer, iterations=3, checkpoint_path=path)
    return path


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_checkpoint_whose_parts_do_not_belong_together_is_refused(
    capture, renderer, checkpointed, tmp_path, damage
):
    tensors, texts = (
        read_tensors(checkpointed, "checkpoint"),
        read_header(checkpointed, "checkpoint").texts,
    )
    DAMAGE[damage](tensors)
    save_tensors(tmp_path / "c.safetensors", tensors, texts)
    with pytest.raises(UserError, match="c.safetensors: .*remove it to start this fit anew"):
        run(capture, renderer, checkpoint_path=tmp_path / "c.safetensors")


@pytest.mark.parametrize(
    "progress", ['{"step": -1}', '{"step": 1.5}', '{"seconds": "x"}', "[]", '{"step": 1e400}']
)
def test_a_checkpoint_of_no_step_is_refused(capture, renderer, checkpointed, tmp_path, progress):
    save_tensors(
        tmp_path / "c.safetensors", read_tensors(checkpointed, "checkpoint"), {"progress": progress}
    )
    with pytest.raises(UserError, match="c.safetensors: .*remove it to start this fit anew"):
        run(capture, renderer, checkpoint_path=tmp_path / "c.safetensors")


def test_frames_whose_times_do_not_rise_are_refused_before_any_fit(capture):
    with pytest.raises(ValueError, match="time_s to rise"):
        TrackedFrames.stack([capture.frames[0], *capture.frames])


def test_the_log_of_a_killed_fit_goes_on_without_repetition(tmp_path):
    path = tmp_path / "log.jsonl"
    entries = [json.dumps({"step": step}) for step in (10, 20, 30)]
    path.write_text("\n".join(entries) + '\n{"step": 4')
    log = JsonLog(path, every=10)
    for step in range(21, 31):
        figures = Unread().add(step, torch.tensor(0.1), {}, torch.tensor(0.01))
        log.on_step(loop.StepInfo(step, step, 0.5, 1.0, (0,), figures, 5), None)
    log.on_end(None)
    assert [json.loads(line)["step"] for line in path.read_text().splitlines()] == [10, 20, 30]


def test_the_random_numbers_of_a_step_are_the_same_on_every_machine():
    generator = loop.generator_of(7, 123)
    assert generator.initial_seed() == 682066301
    assert torch.equal(
        torch.rand(3, generator=generator), torch.rand(3, generator=loop.generator_of(7, 123))
    )
    seeds = {
        loop.generator_of(seed, step).initial_seed() for seed in range(10) for step in range(100)
    }
    assert len(seeds) == 1000


def test_frames_of_a_step_are_all_different_and_none_comes_twice_in_an_epoch():
    train, seen = tuple(range(100, 113)), {}
    for batch in (1, 2, 5, 13):
        steps = len(train) // batch
        for epoch in range(6):
            order = [loop.frames_of(train, epoch * steps + step, 7, batch) for step in range(steps)]
            assert {len(frames) for frames in order} == {batch}
            together = sum(order, ())
            assert len(set(together)) == steps * batch and set(together) <= set(train)
            seen[batch, epoch] = together
    # an order for each epoch, whatever the batch
    assert seen[1, 0] != seen[1, 1] and seen[2, 0] == seen[1, 0][:12]
    # what one left over, others take
    assert {frame for epoch in range(6) for frame in seen[5, epoch]} == set(train)


def test_batches_learn_densify_and_are_counted(capture, renderer, tmp_path):
    log = tmp_path / "log.jsonl"
    _, infos = run(capture, renderer, 30, in_batches(SMALL, 4), listeners=[JsonLog(log)])
    assert sum(i.figures.psnr for i in infos[-5:]) > sum(i.figures.psnr for i in infos[:5]) + 5
    assert infos[-1].num_gaussians != infos[0].num_gaussians
    assert all(len(set(info.frames)) == 4 for info in infos)
    last = json.loads(log.read_text().splitlines()[-1])
    assert last["step"] == 30 and last["pictures_per_s"] == pytest.approx(
        4 * last["steps_per_s"], rel=0.02
    )


def test_every_picture_of_a_batch_has_its_own_background(capture, renderer):
    seen = []

    def compute(config, output, target, background, *rest):
        seen.append(background)
        return real(config, output, target, background, *rest)

    real = loop.objective.compute
    with mock.patch.object(loop.objective, "compute", compute):
        run(capture, renderer, 2, in_batches(SMALL, 3))
    assert {background.shape for background in seen} == {(3, 3)}
    assert len(torch.cat(seen).unique(dim=0)) == 6


def test_a_batch_that_is_larger_than_the_training_frames_is_refused(capture, renderer):
    with pytest.raises(UserError, match="schedule.batch=14: there are only 13 training frames"):
        run(capture, renderer, 1, in_batches(SMALL, 14))
    _, infos = run(capture, renderer, 1, in_batches(SMALL, 13))
    assert sorted(infos[0].frames) == sorted(capture.train)


def test_short_fits_take_larger_steps():
    config = FitConfig(schedule=ScheduleConfig(iterations=1000, short_fit_exponent=0.5))
    assert loop._stride(config, 0.0, 0) == 1
    assert loop._stride(config, 400.0, 4) == pytest.approx(10)
    # as many as its own, or more
    assert loop._stride(config, 400.0, 400) == loop._stride(config, 400.0, 900) == 1
    assert loop._stride(FitConfig(schedule=ScheduleConfig(short_fit_exponent=0.0)), 400.0, 4) == 1


def test_a_budget_is_minutes_or_iterations():
    with pytest.raises(ValueError):
        Budget()
    with pytest.raises(ValueError):
        Budget(minutes=1, iterations=1)


def test_minutes_are_counted_by_the_clock_of_the_budget(capture, renderer):
    ticks = iter(range(10**6))  # a step reads the clock before and after: one second each
    budget = Budget(minutes=5 / 60, clock=lambda: float(next(ticks)))
    recorder = Recorder()
    loop.fit(capture, renderer, SMALL, budget, listeners=[recorder])
    assert [i.seconds for i in recorder.infos] == [1, 2, 3, 4, 5]
