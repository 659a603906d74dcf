"""The benchmark of long clips: how a clip is made longer, and how the figures of several runs are
shown together."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest

from benchmarks import length
from likeness.playback.films import open_film
from likeness.preprocess.video import VideoReader, open_video


def test_a_clip_is_played_forwards_and_backwards_until_it_is_long_enough(tmp_path):
    grey = [20, 80, 140, 200]
    with open_film(tmp_path / "short.mp4", 10.0) as film:
        for value in grey:
            film.write(np.full((64, 64, 3), value, np.uint8))
    length.prolonged(tmp_path / "short.mp4", 1.0, tmp_path / "long.mp4")
    found = [frame.image.mean() for frame in VideoReader(open_video(tmp_path / "long.mp4"))]
    assert found == pytest.approx([20, 80, 140, 200, 140, 80, 20, 80, 140, 200], abs=6)


def _figures(seconds: float) -> dict:
    stages = dict.fromkeys(length.STAGES, seconds / 2)
    row = {"seconds": seconds, "seen": 30 * seconds, "used": 30 * seconds, "stages": stages}
    fit = {"train": 27 * seconds, "seconds": 0.9 * seconds}
    fit |= dict.fromkeys(("psnr", "face", "mouth", "eyes"), 20 + seconds / 10)
    return {"lengths": [row | {"cpu_s": seconds, "peak_mb": 900.0}], "fits": [fit]}


def test_figures_of_several_runs_are_shown_together_by_length(tmp_path, capsys, monkeypatch):
    files = [tmp_path / f"{seconds}.json" for seconds in (60, 15)]
    for path in files:
        path.write_text(json.dumps(_figures(float(path.stem))))
    plot = tmp_path / "plot.png"
    arguments = ["--seconds", "--joined", *map(str, files), "--plot", str(plot)]
    monkeypatch.setattr(sys, "argv", ["length", *arguments])
    length.main()
    rows = [line.split(" | ") for line in capsys.readouterr().out.splitlines() if "|" in line]
    assert [row[0] for row in rows if "900" in row[-1]] == ["| 15", "| 60"]
    assert [row[2:] for row in rows if row[1] in ("14", "54")] == [
        ["21.5", "21.5", "21.5", "21.5 |"],
        ["26.0", "26.0", "26.0", "26.0 |"],
    ]
    assert plot.stat().st_size > 5000
