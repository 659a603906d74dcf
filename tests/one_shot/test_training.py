"""Training: samples, resuming, several processes, the program."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from likeness.cli import train
from likeness.fitting.loop import Budget
from likeness.one_shot import weights
from likeness.renderers import create
from likeness.scene.config_files import CONFIGS, load_preset
from likeness.scene.errors import UserError
from likeness.training.checkpoint import Progress
from likeness.training.config import TrainConfig
from likeness.training.objective import sample_loss
from likeness.training.samples import Samples, find_captures, tracked_with_errors
from likeness.training.trainer import Trainer, TrainingStopped
from tests import toys
from tests.one_shot import tiny

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def roots(tmp_path_factory):
    folder = tmp_path_factory.mktemp("people")
    return [toys.make_capture(folder / name, frames=5, size=32, test=1).root for name in ("a", "b")]


def trainer(roots, **changes) -> Trainer:
    return Trainer(dataclasses.replace(tiny.TRAIN, **changes), roots, create("cpu"))


def test_samples_by_number(roots):
    samples = Samples(roots, tiny.TRAIN, 0, 2)
    first, again, other = samples[5], Samples(roots, tiny.TRAIN, 0, 2)[5], samples[4]
    assert torch.equal(first.inputs.image, again.inputs.image) and torch.equal(
        first.colours, again.colours
    )
    assert not torch.equal(first.inputs.image, other.inputs.image)
    assert len(first.inputs.points) == len(other.inputs.points)  # of one step
    assert first.colours.shape == (2, 32, 32, 3) and first.displacements.shape == (
        2,
        len(first.inputs.points),
        3,
    )
    assert (first.colours <= first.mattes + 0.02).all()  # premultiplied


def test_a_tracker_errs_as_it_is_told(roots):
    samples = Samples(roots, tiny.TRAIN, 0, 2)
    capture, exact = (
        samples.capture(0),
        dataclasses.replace(
            tiny.TRAIN.data,
            pose_noise_deg=0.0,
            shift_noise_m=0.0,
            identity_noise=0.0,
            expression_noise=0.0,
        ),
    )
    state, identity = tracked_with_errors(
        capture, 1, dataclasses.replace(tiny.TRAIN, data=exact), np.random.default_rng(0)
    )
    truth = capture.frames[1].state
    assert torch.allclose(state.T_world_head, truth.T_world_head, atol=1e-6)
    assert torch.allclose(state.expression, truth.expression)
    assert torch.equal(identity.coefficients, capture.identity.coefficients)
    angles = []
    for seed in range(60):
        state, _ = tracked_with_errors(capture, 1, tiny.TRAIN, np.random.default_rng(seed))
        between = truth.T_world_head[:3, :3].T @ state.T_world_head[:3, :3]
        angles.append(float(torch.arccos(((between.trace() - 1) / 2).clamp(-1, 1))))
    # Three axes of 1 degree each: a Maxwell distribution of mean 1.6 degrees.
    assert 1.3 < np.degrees(np.mean(angles)) < 1.9


def test_the_loss_falls(roots):
    made = trainer(roots, rate=3e-3, half_until=0.0)
    probe = [made.samples[2**20 + k] for k in range(2)]
    before = float(made.loss(probe, 1)[0].detach())
    made.train(Budget(iterations=12))
    after = float(made.loss(probe, 1)[0].detach())
    assert after < 0.93 * before, (before, after)


def test_the_preset_of_lams_sizes_takes_a_finite_step(roots):
    """Its 1024 channels on a frozen DINOv2; few of its blocks, queries, pixels and frames."""
    few = [
        "model.picture_size=56",
        "model.queries=200",
        "model.blocks=1",
        "model.lifting.grid=8",
        "data.targets=1",
        "data.target_size=32",
        "data.workers=0",
        "loss.perceptual=0",
        "batch=1",
        "warm_up=1",
    ]
    config = load_preset("large", TrainConfig, few, CONFIGS / "one_shot")
    assert (config.model.dim, config.model.tokens, config.model.backbone.kind) == (
        1024,
        0,
        "dinov2",
    )
    made = Trainer(config, roots, create("cpu"))
    before = made.network.token_in.weight.detach().clone()
    made.train(Budget(iterations=1))
    (prediction,) = made.predict([made.samples[0]])
    assert all(torch.isfinite(value).all() for value in prediction.cloud.fields().values())
    for name, parameter in made.network.named_parameters():
        assert torch.isfinite(parameter).all(), name
        assert not parameter.requires_grad or torch.isfinite(parameter.grad).all(), name
    assert not torch.equal(made.network.token_in.weight, before)


def test_a_resumed_run_takes_the_same_steps(roots, tmp_path):
    whole, first, second = (trainer(roots) for _ in range(3))
    whole.train(Budget(iterations=4))
    seen = []
    with pytest.raises(TrainingStopped):
        first.train(
            Budget(iterations=4),
            tmp_path / "c.safetensors",
            should_stop=lambda: first.progress.step == 2,
        )
    second.train(Budget(iterations=4), tmp_path / "c.safetensors", [_Heard(seen)])
    assert seen == [3, 4] and second.progress.samples == 8
    for name, value in whole.network.state_dict().items():
        assert torch.equal(value, second.network.state_dict()[name]), name
        assert torch.equal(whole.average[name], second.average[name]), name


class _Heard:
    def __init__(self, seen: list[int]) -> None:
        self.seen = seen

    def on_step(self, info, trainer) -> None:
        self.seen.append(info.step)


def test_a_checkpoint_of_another_network_is_refused(roots, tmp_path):
    trainer(roots).save(tmp_path / "c.safetensors")
    other = trainer(roots, model=dataclasses.replace(tiny.MODEL, hidden=24))
    with pytest.raises(UserError, match="other settings"):
        other.train(Budget(iterations=1), tmp_path / "c.safetensors")


def test_accumulation_is_one_large_batch(roots):
    """Four samples as one batch, and as two of two: the same mean gradient, up to float32's order
    of summing."""
    found = []
    for batch, accumulate in ((4, 1), (2, 2)):
        made = trainer(roots, batch=batch, accumulate=accumulate, clip=1e9)
        made.step(made._loader(Budget(iterations=1)), 0.0, 0.9)
        found.append(
            torch.cat([p.grad.flatten() for p in made.network.parameters() if p.grad is not None])
        )
    assert (found[0] - found[1]).norm() < 1e-4 * found[0].norm()


def test_targets_at_half_resolution(roots):
    made = trainer(roots)
    sample = made.samples[0]
    (prediction,) = made.predict([sample])
    background = torch.zeros(3)
    full, half = (
        sample_loss(prediction, sample, made.renderer, made.config.loss, background, d)[1]
        for d in (1, 2)
    )
    assert float(half["l1"]) == pytest.approx(float(full["l1"]), rel=0.5)


WORKER = """
import os, sys, torch
from pathlib import Path
from likeness.training.processes import join
from likeness.training.trainer import Trainer
from likeness.fitting.loop import Budget
from likeness.renderers import create
from tests.one_shot import tiny
torch.set_num_threads(1)
processes = join(torch.device("cpu"))
roots = [Path(p) for p in sys.argv[2:]]
trainer = Trainer(tiny.TRAIN, roots, create("cpu"), processes=processes)
trainer.train(Budget(iterations=3), Path(sys.argv[1]))
print("rank", processes.rank, "of", processes.count)
"""


def test_two_processes_equal_one(roots, tmp_path):
    """The same batch shared by two processes (gloo) gives the same weights to 1e-5."""
    single = trainer(roots)
    single.train(Budget(iterations=3))
    path = tmp_path / "c.safetensors"
    running = []
    for rank in range(2):
        env = {
            **os.environ,
            "RANK": str(rank),
            "LOCAL_RANK": str(rank),
            "WORLD_SIZE": "2",
            "OMP_NUM_THREADS": "1",
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": "29541",
            "PYTHONPATH": str(ROOT),
        }
        command = [sys.executable, "-c", WORKER, str(path), *map(str, roots)]
        running.append(
            subprocess.Popen(
                command, cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE
            )
        )
    for process in running:
        out, error = process.communicate(timeout=120)
        assert process.returncode == 0, error.decode()
        assert b"of 2" in out
    shared = trainer(roots)
    shared.train(Budget(iterations=3), path)  # loads it and finds nothing left to do
    assert shared.progress == Progress(3, shared.progress.seconds, 6)
    for name, value in single.network.state_dict().items():
        assert torch.allclose(value, shared.network.state_dict()[name], atol=1e-5), name


def test_captures_are_found(roots, tmp_path):
    (tmp_path / "list.txt").write_text(f"# two people\n{roots[0]}\n{roots[1]}\n")
    assert find_captures([roots[0].parent]) == roots == find_captures([tmp_path / "list.txt"])
    with pytest.raises(UserError, match="no captures"):
        find_captures([tmp_path])
    with pytest.raises(UserError, match="not found"):
        find_captures([tmp_path / "nothing"])


def program(*arguments: object) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "likeness", "train", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


def settings() -> list[str]:
    """The tiny network by --set."""
    keys = {
        "picture_size": 32,
        "queries": 200,
        "tokens": 40,
        "dim": 16,
        "blocks": 1,
        "heads": 2,
        "vertex_features": 4,
        "hidden": 16,
        "backbone.widths": "[8, 8, 8, 16, 16]",
        "backbone.fine_channels": 4,
        "lifting.grid": 8,
    }
    found = [f"--set=model.{key}={value}" for key, value in keys.items()]
    return [*found, "--set=data.target_size=32", "--set=data.targets=2"]


def test_the_program_trains_resumes_and_writes_weights(
    roots, tmp_path, monkeypatch, capsys, caplog
):
    arguments = [
        "--data",
        roots[0].parent,
        "--out",
        tmp_path / "run",
        "--offline",
        "--device",
        "cpu",
        *settings(),
    ]

    def run(*more: object) -> str:
        monkeypatch.setattr(sys, "argv", ["train", *map(str, [*arguments, *more])])
        train.main()
        return capsys.readouterr().out

    path = tmp_path / "run" / "one_shot.safetensors"
    assert str(path) in run("--steps", 2)
    network, head_model = weights.load(path)
    assert head_model == "anny" and network.config == tiny.MODEL
    logs = tmp_path / "run" / "tensorboard"
    assert list(logs.glob("events*")) and (logs / "latest.png").is_file()
    with caplog.at_level("INFO"):
        run("--steps", 3, "--set=data.workers=1")  # samples made by another process
    assert "resuming from step 2" in caplog.text
    lines = (tmp_path / "run" / "log.jsonl").read_text().splitlines()
    assert json.loads(lines[-1])["step"] == 3


@pytest.mark.parametrize(
    "arguments, message",
    [
        (("--data", "nowhere"), "--minutes, --steps"),
        (("--data", "nowhere", "--steps", "1"), "nowhere: not found"),
        (("--data", "nowhere", "--steps", "1", "--set", "model.dims=3"), "unknown key model.dims"),
        (("--data", "nowhere", "--steps", "1", "--preset", "huge"), "unknown preset 'huge'"),
        (("--data", "nowhere", "--steps", "1", "--out", f"{__file__}/x"), "cannot write there"),
    ],
)
def test_the_programs_errors(arguments, message, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["train", *arguments])
    with pytest.raises((UserError, SystemExit)) as caught:
        train.main()
    assert message in f"{caught.value}{capsys.readouterr().err}"


def test_nothing_to_learn_from_is_one_line():
    result = program()
    assert result.returncode == 2 and result.stderr.startswith("error: one of --data, --people")
    assert len(result.stderr.splitlines()) == 1
