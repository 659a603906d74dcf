"""The benchmarks' settings exist, and their tables say what they were given."""

from __future__ import annotations

import pytest

from benchmarks import ablations, steps
from fitting.config import FitConfig
from fitting.config_files import load_preset


@pytest.mark.parametrize("preset", ablations.ABLATIONS)
def test_every_ablation_is_a_setting_that_changes_something(preset):
    configs = [load_preset(preset, FitConfig, settings) for settings in ablations.ABLATIONS[preset].values()]
    for index, config in enumerate(configs):
        assert config not in configs[:index]


def test_the_table_compares_with_the_full_model():
    def row(name, psnr, seed):
        figures = dict.fromkeys(ablations.COLUMNS, 1.0) | {"psnr": psnr, "lpips": None}
        return {"capture": "me", "preset": "gaussianhead", "ablation": name, "seed": seed, **figures}

    rows = [row("full, K = 4", 30.0, 0), row("full, K = 4", 31.0, 1), row("K = 1", 29.0, 0), row("K = 1", 29.5, 1)]
    lines = ablations.markdown(rows, 10, 2).splitlines()
    assert len(lines) == 6
    assert "| 30.5 |" in lines[4] and "| 29.2 (-1.2) |" in lines[5] and "| – |" in lines[5]


def test_only_some_ablations():
    assert ablations.chosen("gaussianhead", ["K = 1", "Euclid"]) == ["full, K = 4", "K = 1", "Euclidean Adam"]
    assert ablations.chosen("headgas", None) == list(ablations.ABLATIONS["headgas"])


@pytest.mark.parametrize("preset", ["headgas", "gaussianhead"])
def test_shares_of_a_step_are_shares(preset):
    found = steps.shares(preset, 32, 50, 1, steps=2)
    assert sum(found.values()) == pytest.approx(1, abs=0.02) and all(0 < share <= 1 for share in found.values())
    assert ("tri-plane" in found) == (preset == "gaussianhead")
    assert {"networks", "optimizer"} <= set(found)
