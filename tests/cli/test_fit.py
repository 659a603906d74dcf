"""fit_subject.py and likeness evaluate as a person uses them: a short synthetic video, and
everything that can go wrong."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests import toys
from tests.programs import ROOT, called, fails, program

SMALL = ("--size", "96", "--offline", "--device", "cpu", "--set", "seeds.num_gaussians=2000")


@pytest.fixture(scope="module")
def video(tmp_path_factory) -> Path:
    from likeness.synthetic.truth import make_demo

    return make_demo(tmp_path_factory.mktemp("demo"), frames=32, size=192, texture_size=256).video


@pytest.fixture(scope="module")
def finished(video, tmp_path_factory) -> Path:
    """A finished run of a few iterations."""
    run = tmp_path_factory.mktemp("runs") / "me"
    result = program("fit", "--video", video, "--out", run, "--iterations", 40, *SMALL)
    assert result.returncode == 0, result.stderr[-3000:]
    assert str(run / "report.html") in result.stdout
    figures = json.loads((run / "metrics.json").read_text())["headline"]
    assert f"held-out frames: PSNR {figures['psnr']:.2f} dB" in result.stdout
    return run


def copy(run: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(run, tmp_path / "copy"))


class TestARun:
    def test_holds_everything(self, finished):
        from likeness.scene.capture import Capture

        capture = Capture.load(finished / "capture")
        stems = {capture.frames[index].image_path.stem for index in capture.test}
        assert stems and {path.name for path in (finished / "heldout").iterdir()} == {
            f"{stem}_{kind}.png" for stem in stems for kind in ("truth", "avatar")
        }
        for name in (
            "config.yaml",
            "metrics.json",
            "heldout.mp4",
            "report.html",
            "log.jsonl",
            "bundle/manifest.json",
        ):
            assert (finished / name).stat().st_size > 0, name
        assert list((finished / "tensorboard").glob("events*"))

    def test_its_metrics_hold_at_least_what_is_promised(self, finished):
        metrics = json.loads((finished / "metrics.json").read_text())
        assert (
            set(metrics["heldout"]) >= {"l1", "psnr", "ssim", "lpips"}
            and metrics["heldout"]["psnr"] > 10
        )
        assert metrics["heldout"]["lpips"] is None  # its weights are not here
        assert next(iter(metrics)) == "headline"
        assert metrics["headline"]["psnr"] == metrics["unswayed"]["heldout"]["psnr"]
        assert metrics["headline"]["mouth"] == metrics["unswayed"]["regions"]["mouth"]["psnr"]
        assert all(
            metrics["regions"][name]["psnr"] > 0 for name in ("face", "mouth", "eyes", "inside")
        )
        assert sum(
            metrics["error_share"][name] for name in ("border", "torso", "face", "rest")
        ) == pytest.approx(1)
        assert metrics["train"]["psnr"] > 0 and metrics["baseline"]["heldout"]["psnr"] > 0
        assert metrics["baseline"]["regions"]["mouth"]["psnr"] > 0
        assert metrics["num_gaussians"] > 0 and metrics["bundle_mb"] > 0
        assert metrics["seconds"]["preprocess"] > 0 and metrics["seconds"]["fit"] > 0
        assert metrics["versions"]["torch"] and metrics["versions"]["code"]

    def test_is_measured_again_by_evaluate_avatar(self, finished, tmp_path):
        result = called(
            "evaluate",
            finished,
            "--offline",
            "--json",
            tmp_path / "again.json",
            "--tracking-gain",
            "1",
        )
        assert result.returncode == 0, result.stderr[-2000:]
        again = json.loads((tmp_path / "again.json").read_text())
        first = json.loads((finished / "metrics.json").read_text())
        for part in ("headline", "heldout"):
            assert again[part]["psnr"] == pytest.approx(first[part]["psnr"], abs=1e-4)
        assert "psnr" in result.stdout
        assert (
            again["tracking_gain"]["poses_and_expressions"] >= again["tracking_gain"]["poses"] >= 0
        )
        assert "tracking gain on 1 frames (a diagnostic)" in result.stdout

    def test_its_report_needs_nothing_else(self, finished):
        text = (finished / "report.html").read_text()
        assert "data:image/" in text
        assert 'src="http' not in text and 'href="http' not in text and "<script src" not in text

    def test_its_configuration_loads_back(self, finished):
        from likeness.fitting.config import FitConfig
        from likeness.scene.config_files import load_preset, to_yaml

        assert (
            to_yaml(load_preset(finished / "config.yaml", FitConfig))
            == (finished / "config.yaml").read_text()
        )


class TestGoingOn:
    def test_the_same_video_is_not_preprocessed_twice(self, finished, video):
        again = finished.with_name("again")
        images = finished.parent / ".captures"
        before = {path: path.stat().st_mtime_ns for path in images.rglob("*.png")}
        result = called("fit", "--video", video, "--out", again, "--iterations", 5, *SMALL)
        assert result.returncode == 0, result.stderr[-2000:]
        assert {path: path.stat().st_mtime_ns for path in images.rglob("*.png")} == before
        assert "tracking:" not in result.stderr and "landmarks:" not in result.stderr

    @pytest.mark.parametrize(
        "number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL], ids=["int", "term", "kill"]
    )
    def test_a_stopped_fit_goes_on(self, number, tmp_path):
        run, capture = tmp_path / "run", toys.make_capture(tmp_path / "capture")
        arguments = ["--capture", capture.root, "--out", run, "--iterations", "4000", *SMALL[2:]]
        command = [sys.executable, str(ROOT / "fit_subject.py"), *map(str, arguments)]
        process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)
        try:
            wait_for(run / "log_baseline.jsonl", process)
            process.send_signal(number)
            _, errors = process.communicate(timeout=60)
        finally:
            process.kill()
        if number != signal.SIGKILL:
            assert process.returncode == {signal.SIGINT: 130, signal.SIGTERM: 143}[number], errors[
                -2000:
            ]
            assert "Traceback" not in errors and f"--resume {run}" in errors
            assert (run / "checkpoints" / "baseline.safetensors").is_file()
        shorten(run, 30)
        result = called("fit", "--resume", run, "--offline")
        assert result.returncode == 0, result.stderr[-2000:]
        assert (run / "report.html").is_file() and json.loads((run / "metrics.json").read_text())[
            "num_gaussians"
        ] > 0

    def test_a_run_is_never_overwritten(self, finished, video):
        before = (finished / "metrics.json").read_bytes()
        fails(called("fit", "--video", video, "--out", finished, *SMALL), str(finished), "--resume")
        assert (finished / "metrics.json").read_bytes() == before


def wait_for(path: Path, process: subprocess.Popen) -> None:
    deadline = time.monotonic() + 120
    while not (path.is_file() and path.stat().st_size > 0):
        assert process.poll() is None and time.monotonic() < deadline, "the fit did not start"
        time.sleep(0.05)


def shorten(run: Path, iterations: int) -> None:
    """Makes what is left of a run short, so that the test is."""
    settings = json.loads((run / "run.json").read_text())
    settings["options"]["iterations"] = iterations
    (run / "run.json").write_text(json.dumps(settings))


class TestErrors:
    """Each ends with exit code 2 and one line that says what, where, and what to do."""

    @pytest.mark.parametrize(
        "arguments, words",
        [
            (["--video", "nowhere.mp4"], ["nowhere.mp4"]),
            (["--video", "VIDEO", "--preset", "defualt"], ["defualt", "default"]),
            (["--video", "VIDEO", "--set", "densify.strat=5"], ["densify.strat", "densify.start"]),
            (["--video", "VIDEO", "--set", "densify.start=soon"], ["densify.start", "soon"]),
            (["--video", "VIDEO", "--device", "cuda"], ["cuda"]),
            (["--video", "VIDEO", "--device", "tpu"], ["tpu"]),
            (["--video", "VIDEO", "--minutes", "-1"], ["-1"]),
            (["--video", "VIDEO", "--minutes", "1", "--iterations", "5"], ["--iterations"]),
            (["--video", "VIDEO", "--matting", "modnet", "--offline"], ["modnet", "--weights"]),
            (["--capture", "FOLDER"], ["capture"]),
            (["--resume", "FOLDER"], ["run"]),
            ([], ["--video"]),
        ],
        ids=lambda value: " ".join(value)[:40] or "nothing",
    )
    def test_bad_arguments(self, arguments, words, video, tmp_path, monkeypatch):
        import torch

        if "cuda" in arguments and torch.cuda.is_available():
            pytest.skip("CUDA is available here")
        places = {"VIDEO": str(video), "FOLDER": str(tmp_path)}
        monkeypatch.chdir(tmp_path)
        fails(called("fit", *[places.get(a, a) for a in arguments]), *words)
        assert not list(tmp_path.glob("runs/*"))  # nothing is left behind

    def test_a_capture_without_test_frames(self, tmp_path):
        import dataclasses

        capture = toys.make_capture(tmp_path / "capture", frames=4, size=16, test=1)
        dataclasses.replace(capture, test=()).save()
        arguments = (
            "--capture",
            capture.root,
            "--out",
            tmp_path / "run",
            "--offline",
            "--device",
            "cpu",
        )
        fails(called("fit", *arguments), str(capture.root), "no frame is held out")
        assert not (tmp_path / "run").exists()

    def test_a_run_that_another_process_is_at_work_on(self, tmp_path):
        from likeness.fitting.config import FitConfig
        from likeness.fitting.run_directory import RunDirectory
        from likeness.scene.config_files import defaults, to_yaml

        capture = toys.make_capture(tmp_path / "capture", frames=4, size=16, test=1)
        run = RunDirectory.create(
            tmp_path / "run", capture.root, {"iterations": 5}, to_yaml(defaults(FitConfig))
        )
        with run.held():
            result = called("fit", "--resume", run.root, "--offline")
        fails(result, str(run.root), "another process is at work on this run")
        assert not list((run.root / "checkpoints").glob("*")) and not run.bundle.exists()

    def test_an_output_folder_that_cannot_be_written(self, video, tmp_path):
        (tmp_path / "file").write_text("")
        out = tmp_path / "file" / "run"
        fails(called("fit", "--video", video, "--out", out, *SMALL), str(out), "cannot write there")

    def test_a_batch_larger_than_the_training_frames(self, finished, tmp_path):
        arguments = (
            "--capture",
            finished / "capture",
            "--out",
            tmp_path / "run",
            "--offline",
            "--device",
            "cpu",
        )
        result = called("fit", *arguments, "--set", "schedule.batch=1000")
        fails(result, "schedule.batch=1000", "training frames")
        assert not (tmp_path / "run").exists()
        fails(called("fit", *arguments, "--set", "schedule.batch=0"), "schedule.batch", "from 1")

    def test_captures_that_are_none_newer_or_incomplete(self, finished, tmp_path):
        run = copy(finished, tmp_path)
        manifest = run / "capture" / "manifest.json"
        content = json.loads(manifest.read_text())
        picture = run / "capture" / content["frames"][3]["matte"]

        def fit(name: str) -> subprocess.CompletedProcess:
            return called(
                "fit",
                "--capture",
                run / "capture",
                "--out",
                tmp_path / name,
                "--iterations",
                5,
                "--offline",
            )

        data = picture.read_bytes()
        picture.unlink()
        fails(fit("a"), str(picture), "missing")
        picture.write_bytes(data[:100])
        fails(fit("b"), picture.name, "damaged")
        picture.write_bytes(data)
        manifest.write_text(json.dumps({**content, "format_version": 99}))
        fails(fit("c"), "newer", "99")
        manifest.write_text("{")
        fails(fit("d"), "damaged")
        first, *others = content["frames"]
        outside = {**content, "frames": [{**first, "image": "../../../etc/hostname"}, *others]}
        manifest.write_text(json.dumps(outside))
        fails(fit("e"), str(manifest))

    def test_bundles_that_are_damaged_foreign_or_newer(self, finished, tmp_path):
        run = copy(finished, tmp_path)
        manifest, tensors = run / "bundle" / "manifest.json", run / "bundle" / "tensors.safetensors"
        content, data = json.loads(manifest.read_text()), tensors.read_bytes()
        for change, word in (
            ({"format_version": 99}, "newer"),
            ({"format": "else"}, "format: expected 'avatar', got 'else'"),
            ({"avatar": "unheard"}, "unheard"),
            ({"num_gaussians": 3}, "damaged"),
        ):
            manifest.write_text(json.dumps({**content, **change}))
            fails(called("evaluate", run, "--offline"), word)
        manifest.write_text(json.dumps(content))
        tensors.write_bytes(data[: len(data) // 2])
        fails(called("evaluate", run, "--offline"), str(tensors), "damaged")
        tensors.unlink()
        fails(called("evaluate", run, "--offline"), str(tensors), "not found")
        fails(called("evaluate", tmp_path, "--offline"), str(tmp_path), "not a run")

    def test_a_checkpoint_that_is_damaged(self, finished, tmp_path):
        run = copy(finished, tmp_path)
        checkpoint = run / "checkpoints" / "avatar.safetensors"
        checkpoint.write_bytes(checkpoint.read_bytes()[:1000])
        fails(called("fit", "--resume", run, "--offline"), str(checkpoint), "damaged")

    @pytest.mark.skipif(
        not Path("/dev/full").exists() or os.geteuid() != 0,
        reason="needs a small file system to fill",
    )
    def test_a_full_disk_loses_nothing_and_goes_on(self, finished, tmp_path):
        small = tmp_path / "small"
        small.mkdir()
        mounted = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=1200k", "none", str(small)], capture_output=True
        )
        if mounted.returncode:
            pytest.skip("cannot mount a small file system here")
        try:
            arguments = (
                "--capture",
                finished / "capture",
                "--out",
                small / "run",
                "--iterations",
                30,
                "--offline",
            )
            fails(program("fit", *arguments), "no space left")
        finally:
            subprocess.run(["umount", str(small)], check=True)
