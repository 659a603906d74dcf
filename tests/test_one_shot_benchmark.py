"""The benchmark of the one-shot network: its tables, its ablations, and a run on a toy."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from benchmarks import one_shot
from benchmarks.common import one_shot_figures, one_shot_fits
from likeness.head_models import HEAD_MODELS
from likeness.one_shot import weights
from likeness.scene.config_files import CONFIGS, load_preset, presets, redundant_keys
from likeness.training.config import TrainConfig
from tests import toys
from tests.one_shot import tiny

FOLDER = CONFIGS / "one_shot"


def test_every_ablation_is_a_setting_that_changes_something():
    configs = [
        load_preset("embedded", TrainConfig, settings, FOLDER)
        for settings in one_shot.ABLATIONS.values()
    ]
    assert all(config not in configs[:index] for index, config in enumerate(configs))


@pytest.mark.parametrize("preset", presets(FOLDER))
def test_presets_hold_what_differs(preset):
    load_preset(preset, TrainConfig, (), FOLDER)
    assert redundant_keys(preset, TrainConfig, FOLDER) == []


def test_the_states_are_what_they_are_called():
    names, states = one_shot_figures.made_states(HEAD_MODELS["anny"](), 1.0)
    forward = states.T_world_head[:, :3, 2]
    yaw = torch.rad2deg(torch.atan2(forward[:, 0], -forward[:, 2]))
    assert yaw[:3].abs().round().tolist() == [0, 30, 30] and float(yaw[1] * yaw[2]) < 0
    assert (states.expression[:3] == 0).all() and (states.expression[3:].amax(1) > 0.5).all()
    assert len(names) == len(states) == 8


def test_iterations_to_a_goal():
    curve = [(0, 10.0), (100, 20.0), (200, 25.0)]
    assert one_shot_fits.reached(curve, 19.0) == 100 and one_shot_fits.reached(curve, 30.0) is None
    lines = one_shot.fits_table({"me": {start: curve for start in one_shot.STARTS}}).splitlines()
    assert lines[2] == "| me | mesh | 10.00 | 25.00 | 200 |"


def test_faceless_pictures_have_no_landmark_errors():
    blank = [np.zeros((64, 64, 3), np.uint8)] * 8
    assert one_shot_figures.landmark_errors(blank, blank) == {"identity": None, "expression": None}


def test_a_toy_from_end_to_end(tmp_path, capsys):
    capture = toys.make_capture(tmp_path / "me" / "capture", frames=6, size=32, test=2)
    net = tiny.network()
    weights.save(tmp_path / "w.safetensors", net.state_dict(), net.config, "anny", {})
    arguments = [
        "--weights",
        tmp_path / "w.safetensors",
        "--captures",
        capture.root,
        "--fits",
        capture.root,
        "--pictures",
        tmp_path / "pictures",
        "--iterations",
        2,
        "--every",
        1,
        "--gaussians",
        300,
        "--preset",
        "headgas",
        "--json",
        tmp_path / "out.json",
    ]
    one_shot.main([str(argument) for argument in arguments])
    found = json.loads((tmp_path / "out.json").read_text())
    row = found["captures"]["me"]
    assert row["frames"] == 5 and set(one_shot_figures.METHODS) - set(row) == {"refined"}
    assert all(row[method]["psnr"] > 5 for method in set(one_shot_figures.METHODS) & set(row))
    assert (tmp_path / "pictures" / "me.png").is_file() and row["cost"]["peak_memory_gb"] < 3
    assert [step for step, _ in found["fits"]["me"]["one_shot"]] == [0, 1, 2]
    table = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| me")]
    assert len(table) == 1 + len(one_shot.STARTS)
