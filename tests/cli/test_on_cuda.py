"""The programs that show an avatar, with --device cuda on a simulated CUDA device."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import arkit, toys
from tests.contract.test_avatars import EXTENDED, make
from tests.programs import inside


@pytest.fixture
def call(cuda, monkeypatch):
    """Runs a program's main in this process. Graphs are not timed: each is tried once, and is not
    faster."""
    monkeypatch.setattr("likeness.playback.evaluators.milliseconds", lambda *_: 1.0)
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)

    return lambda name, *arguments: inside(name, *arguments, "--device", "cuda")


def test_views(call, tmp_path):
    toys.bundle(make("headgas", EXTENDED), 32).save(tmp_path / "avatar")
    call(
        "render",
        tmp_path / "avatar",
        "--trajectory",
        "grid",
        "--size",
        24,
        "--depth",
        "--normals",
        "--out",
        tmp_path / "grid.png",
    )
    assert (tmp_path / "grid.png").is_file()


def test_compiled_avatars_are_tried_where_that_is_asked_for(call, tmp_path, monkeypatch):
    tried = []
    monkeypatch.setattr(
        "likeness.playback.evaluators.compiled",
        lambda avatar, *_: tried.append(avatar.kind) or avatar,
    )
    toys.bundle(make("rigged"), 32).save(tmp_path / "avatar")
    for options in ([], ["--compile"]):
        call(
            "render",
            tmp_path / "avatar",
            "--trajectory",
            "still",
            "--size",
            24,
            *options,
            "--out",
            tmp_path / f"{len(options)}.png",
        )
        assert tried == ["rigged"] * len(options)


def test_transfer(call, tmp_path):
    bundle = toys.arkit_bundle(32, frames=24)
    bundle.save(tmp_path / "avatar")
    states, times = toys.performance(6)
    arkit.write(tmp_path / "phone.csv", arkit.table(states, bundle.expression_names, times, 30))
    call(
        "drive",
        tmp_path / "avatar",
        "--driver",
        tmp_path / "phone.csv",
        "--size",
        32,
        "--out",
        tmp_path / "film.mp4",
    )
    assert (tmp_path / "film.mp4").is_file()


def test_fit_and_evaluation(call, tmp_path):
    capture = toys.make_capture(tmp_path / "capture", frames=5, size=32, test=1)
    run: Path = tmp_path / "run"
    settings = (
        "initializer=picture",
        "seeds.num_gaussians=100",
        "headgas.feature_size=4",
        "headgas.hidden_size=16",
    )
    call(
        "fit",
        "--capture",
        capture.root,
        "--preset",
        "headgas-plus",
        "--iterations",
        12,
        "--out",
        run,
        "--offline",
        *(word for setting in settings for word in ("--set", setting)),
    )
    assert (run / "metrics.json").is_file() and (run / "report.html").is_file()
    call("evaluate", run, "--tracking-gain", 1, "--offline", "--json", tmp_path / "figures.json")
    assert (tmp_path / "figures.json").is_file()
