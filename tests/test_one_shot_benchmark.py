"""The benchmark of the one-shot network: its tables, and a run on a toy."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from benchmarks import one_shot
from benchmarks.common import one_shot_figures
from likeness.head_models import HEAD_MODELS
from likeness.one_shot import weights
from likeness.scene.config_files import CONFIGS, load_preset, presets
from likeness.training.config import TrainConfig
from tests import toys
from tests.one_shot import tiny
from tests.redundant_keys import redundant_keys

FOLDER = CONFIGS / "one_shot"


@pytest.mark.parametrize("preset", presets(FOLDER))
def test_presets_hold_what_differs(preset):
    load_preset(preset, TrainConfig, (), FOLDER)
    assert redundant_keys(preset, TrainConfig, FOLDER) == []


def test_the_states_are_what_they_are_called():
    names, states = one_shot_figures.subject_states(HEAD_MODELS["anny"](), 1.0)
    forward = states.T_world_head[:, :3, 2]
    yaw = torch.rad2deg(torch.atan2(forward[:, 0], -forward[:, 2]))
    assert yaw[:3].abs().round().tolist() == [0, 30, 30] and float(yaw[1] * yaw[2]) < 0
    assert (states.expression[:3] == 0).all() and (states.expression[3:].amax(1) > 0.5).all()
    assert len(names) == len(states) == 8


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
        "--pictures",
        tmp_path / "pictures",
        "--gaussians",
        300,
        "--json",
        tmp_path / "out.json",
    ]
    one_shot.main([str(argument) for argument in arguments])
    found = json.loads((tmp_path / "out.json").read_text())
    row = found["captures"]["me"]
    assert row["frames"] == 5 and set(one_shot_figures.METHODS) - set(row) == {"refined"}
    assert all(row[method]["psnr"] > 5 for method in set(one_shot_figures.METHODS) & set(row))
    assert (tmp_path / "pictures" / "me.png").is_file() and row["cost"]["peak_memory_gb"] < 3
    table = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| me")]
    assert len(table) == 1
