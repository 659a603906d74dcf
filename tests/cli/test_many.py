"""fit_subject.py --list and likeness collect from end to end, on synthetic videos and captures."""

from __future__ import annotations

import importlib.util
import json
import os
from pathlib import Path

import numpy as np
import pytest

from likeness.scene.capture import Capture
from tests import toys
from tests.preprocess.videos import write_video
from tests.programs import called, program

SMALL = ("--size", "64", "--offline", "--device", "cpu", "--tracking", "landmarks")


def call(*arguments) -> tuple[int, str, str]:
    """A command in this process (its tasks are processes of their own): exit code, stdout,
    stderr."""
    result = called(*arguments)
    return result.returncode, result.stdout, result.stderr


@pytest.fixture(scope="module")
def videos(tmp_path_factory) -> Path:
    """A folder with a synthetic subject, a wall, and a text that calls itself a video."""
    from likeness.synthetic.truth import make_demo

    folder = tmp_path_factory.mktemp("videos")
    made = make_demo(tmp_path_factory.mktemp("demo"), frames=36, size=192, texture_size=256).video
    os.link(made, folder / "anna.mp4")
    (folder / "more").mkdir()
    write_video(
        folder / "more" / "wall.mp4",
        (np.full((128, 128, 3), 90 + i % 9 * 10, np.uint8) for i in range(36)),
    )
    (folder / "more" / "text.mp4").write_text("hello")
    return folder


def test_a_collection_is_prepared_and_reported_and_not_prepared_twice(videos, tmp_path):
    out = tmp_path / "out"
    arguments = (
        "collect",
        videos,
        "--out",
        out,
        "--frames",
        18,
        "--min-frames",
        10,
        "--jobs",
        2,
        *SMALL,
    )
    code, shown, errors = call(*arguments)
    assert code == 0, errors[-2000:]
    report = json.loads((out / "report.json").read_text())
    assert report["counts"] == {"accepted": 1, "refused": 2} and set(report["reasons"]) == {
        "no face",
        "not a video",
    }
    assert "3 videos: 1 accepted, 2 refused" in shown and str(out / "report.txt") in shown
    assert (out / "captures.txt").read_text() == "captures/anna\n"
    capture = Capture.load(out / "captures" / "anna")
    assert len(capture.frames) == 18 == report["frames"] and capture.cameras.width == 64

    code, _, errors = call(*arguments)
    assert code == 0 and "3 of 3 tasks were finished before" in errors
    assert json.loads((out / "report.json").read_text()) == report

    # judged anew, without preprocessing again
    code, shown, _ = call(*arguments, "--max-residual", 0.01)
    assert code == 0 and "3 refused" in shown
    assert (
        "tracking poor" in (out / "report.txt").read_text()
        and (out / "captures.txt").read_text() == ""
    )
    assert "tracking:" not in (out / "tasks/anna/preprocess.log").read_text().split("== ")[-1]


@pytest.fixture
def listed(tmp_path) -> Path:
    """A list of two subjects of whom one is preprocessed."""
    (tmp_path / "anna.mp4").write_bytes(b"never read")
    (tmp_path / "list.txt").write_text("anna.mp4 iterations=6\nanna.mp4 name=ben\n")
    toys.make_capture(tmp_path / "out" / "captures" / "anna")
    return tmp_path / "list.txt"


def test_a_list_is_fitted_and_only_what_failed_runs_again(listed, tmp_path):
    out = tmp_path / "out"
    arguments = (
        "fit",
        "--list",
        listed,
        "--out",
        out,
        "--stage",
        "fit",
        "--jobs",
        2,
        "--iterations",
        5,
        "--device",
        "cpu",
        "--offline",
        "--set",
        "seeds.num_gaussians=1000",
    )
    code, shown, errors = call(*arguments)
    assert code == 1, errors[-2000:]
    assert "1 of 2 subjects are done" in shown and "held-out PSNR" in shown
    assert str(out / "tasks/ben/fit.log") in shown and "not a capture" in shown
    anna, ben = json.loads((out / "summary.json").read_text())["subjects"]
    assert anna["status"] == "done" and anna["heldout"]["psnr"] > 5 and ben["status"] == "failed"
    assert json.loads((out / "runs/anna/run.json").read_text())["options"]["iterations"] == 6
    before = (out / "runs/anna/metrics.json").stat().st_mtime_ns

    toys.make_capture(out / "captures" / "ben")
    code, shown, errors = call(*arguments, "--only", 2, "--tidy")
    assert code == 0 and "1 of 1 subjects are done (1 tasks ran now)" in shown, errors[-2000:]
    code, shown, _ = call(*arguments)
    assert code == 0 and "2 of 2 subjects are done (0 tasks ran now)" in shown
    assert (out / "runs/anna/metrics.json").stat().st_mtime_ns == before
    assert json.loads((out / "runs/ben/run.json").read_text())["options"]["iterations"] == 5
    assert (out / "runs/anna/checkpoints").is_dir() and not (out / "runs/ben/checkpoints").exists()
    code, _, error = call(*arguments, "--seed", 3)
    assert code == 2 and "'anna' was made with seed=0" in error and "another name" in error


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["--list", "LIST", "--only", "7"], ["--only 7", "2 subjects"]),
        (["--list", "LIST", "--preset", "defualt"], ["defualt", "default"]),
        (["--list", "LIST", "--viewer"], ["--viewer"]),
        (["--list", "LIST", "--size", "9"], ["size"]),
        (["--list", "LIST", "--ray-address", "auto"], ["--cluster ray"]),
        (["--list", "LIST", "--cluster", "ray", "--gpus", "0"], ["--gpus"]),
        (["--list", "nowhere.txt"], ["nowhere.txt"]),
        (["--video", "me.mp4", "--jobs", "2"], ["--jobs", "--list"]),
        (["--list", "LIST", "--video", "me.mp4"], ["--video"]),
    ],
    ids=lambda value: " ".join(value)[:40],
)
def test_bad_arguments(arguments, words, listed):
    code, _, error = call("fit", *[listed if word == "LIST" else word for word in arguments])
    assert code == 2
    for word in words:
        assert word in error, error


@pytest.mark.skipif(
    importlib.util.find_spec("ray") is None, reason="the package ray is not installed (extra ray)"
)
def test_a_list_on_a_cluster(videos, tmp_path):
    """From video to avatar, each half a task of its own."""
    (tmp_path / "list.txt").write_text(f"{videos / 'anna.mp4'}\n")
    result = program(
        "fit",
        "--list",
        tmp_path / "list.txt",
        "--out",
        tmp_path / "out",
        "--cluster",
        "ray",
        "--ray-address",
        "local",
        "--threads",
        1,
        "--iterations",
        5,
        *SMALL,
    )
    assert result.returncode == 0, result.stdout + result.stderr[-2000:]
    (row,) = json.loads((tmp_path / "out" / "summary.json").read_text())["subjects"]
    assert row["status"] == "done" and row["heldout"]["psnr"] > 5
    assert {name: task["attempts"] for name, task in row["tasks"].items()} == {
        "preprocess": 1,
        "fit": 1,
    }
