"""The benchmarks' settings exist, and their tables say what they were given."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import sys

import pytest
import torch

from benchmarks import fitting, one_picture, page, playback, rasterizer, scale, scaling, tracking
from benchmarks.common import fits, limits, synthetic_head, training_step
from benchmarks.common.figures import announced
from likeness.playback import fused
from likeness.scene.machine import INSTRUCTIONS, machine, machine_line
from tests import toys
from tests.contract.test_avatars import make
from tests.test_comparison import FIGURES


@pytest.mark.parametrize("program", [rasterizer, playback, fitting])
def test_speeds_come_with_machine_and_date(program, capsys, monkeypatch):
    """Before anything is measured."""
    monkeypatch.setattr(torch, "set_num_threads", lambda number: None)
    monkeypatch.setenv(playback.THREADS_VARIABLE, "1")

    def measured(*_, **__):
        raise KeyboardInterrupt

    for name in ("_what_plays", "machine_limits", "CpuRenderer"):
        if hasattr(program, name):
            monkeypatch.setattr(program, name, measured)
    monkeypatch.setattr(sys, "argv", ["benchmark"])
    with pytest.raises(KeyboardInterrupt):
        program.main()
    found = machine()
    line = capsys.readouterr().out.splitlines()[0]
    assert (
        line.startswith(f"machine: {found['processor']}, {found['cores']} cores")
        and found["date"] in line
    )


def test_a_machine_is_named_by_what_kernels_depend_on(tmp_path, monkeypatch):
    found = machine()
    assert (
        re.fullmatch(r"\d{4}-\d\d-\d\d", found["date"])
        and found["cores"] >= 1
        and found["processor"]
    )
    assert set(found["instructions"]) <= set(INSTRUCTIONS)
    json.dumps(found, allow_nan=False)
    conditions = announced(device="cpu")
    assert conditions["device"] == "cpu" and {"code", "torch", "numba", "load_average"} <= set(
        conditions
    )
    assert machine_line({**found, "gpu": "A card"}, load=False).endswith(f"A card, {found['date']}")


@pytest.mark.parametrize("batch", [1, 2])
def test_a_step_cut_into_parts_is_the_step(batch):
    whole, apart = (
        training_step.TrainingStep("default", 32, 60, 1, densifying=True, batch=batch)
        for _ in range(2)
    )
    for _ in range(3):
        whole.take()
        apart.take_apart()
    for (name, a), b in zip(whole.avatar.named_parameters(), apart.avatar.parameters()):
        torch.testing.assert_close(a, b, msg=name)
    assert whole.densifier.state()["counts"].max() == 3 * batch


@pytest.mark.parametrize("preset", ["headgas", "gaussianhead"])
def test_parts_of_a_step_and_their_limits(preset):
    slow = {"gigabytes_per_s": 1e-3, "gigaflops": 1e-3}
    rows = fitting.parts_of_a_step(preset, 32, 50, 1, 0, slow)
    assert [row["part"] for row in rows] == list(training_step.PARTS)
    assert sum(row["share"] for row in rows) == pytest.approx(1, abs=0.01)
    limited = {row["part"]: row["of_the_limit"] for row in rows if "of_the_limit" in row}
    assert set(limited) == {
        "avatar forward",
        "avatar backward",
        "losses and their gradient",
        "optimizer",
    }
    table = fitting.parts_table(preset, rows).splitlines()
    assert len(table) == 2 + len(rows) + 1 and {line.count("|") for line in table} == {6}


def test_steps_of_several_frames_gain_pictures_a_second(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(
        fitting, "machine_limits", lambda *_: {"gigabytes_per_s": 1.0, "gigaflops": 1.0}
    )
    arguments = [
        "--presets",
        "headgas",
        "--gaussians",
        50,
        "--size",
        32,
        "--threads",
        1,
        "--seconds",
        0,
    ]
    fitting.main([*map(str, arguments), "--batch", "1", "3", "--json", str(tmp_path / "out.json")])
    rows = json.loads((tmp_path / "out.json").read_text())["rows"]
    assert [row["batch"] for row in rows] == [1, 3]
    for row in rows:
        assert row["pictures_per_s"] == pytest.approx(row["batch"] * row["steps_per_s"], rel=0.1)
        assert [part["part"] for part in row["parts"]] == list(training_step.PARTS)
    table = capsys.readouterr().out.split("| preset |")[1].splitlines()
    gain = 3 * rows[0]["min_ms"] / rows[1]["min_ms"]
    assert table[2].endswith("| 1.00 |") and table[3].startswith("| `headgas` | 50 | 3 |")
    assert table[3].endswith(f"| {gain:.2f} |")


@pytest.mark.parametrize("batch", [2, 3])
def test_a_step_of_several_frames_is_what_the_loop_takes(batch):
    step = training_step.TrainingStep("default", 32, 60, 1, densifying=True, batch=batch)
    state, background, (colour, matte) = step._next()
    assert state.batch_shape == (batch,) and background.shape == (batch, 3)
    assert colour.shape == (batch, 32, 32, 3) and matte.shape == (batch, 32, 32, 1)
    assert len(colour.flatten(1).unique(dim=0)) == len(state.expression.unique(dim=0)) == batch
    step.take()
    assert step.densifier.state()["counts"].max() == batch


def test_limits_are_bytes_and_operations_one_after_the_other(monkeypatch):
    assert limits.least_ms((3e9, 5e9), {"gigabytes_per_s": 10, "gigaflops": 50}) == pytest.approx(
        400
    )
    monkeypatch.setattr(limits, "_NUMBERS", 1 << 16)
    monkeypatch.setattr(limits, "_SIDE", 64)
    assert all(value > 0 for value in limits.machine_limits(1, repeats=2).values())


@pytest.fixture
def threads_as_before(monkeypatch):
    """What the benchmark of playback sets for its whole process."""
    before = torch.get_num_threads()
    monkeypatch.setitem(os.environ, playback.THREADS_VARIABLE, "1")
    yield
    torch.set_num_threads(before)


def test_playback_of_runs_and_bundles(tmp_path, capsys, threads_as_before):
    toys.bundle(make("headgas"), 32).save(tmp_path / "me" / "bundle")
    toys.bundle(make("gaussianhead"), 32).save(tmp_path / "other")
    arguments = [
        tmp_path / "me",
        tmp_path / "other",
        "--sizes",
        16,
        24,
        "--seconds",
        0,
        "--threads",
        1,
    ]
    playback.main([str(argument) for argument in [*arguments, "--json", tmp_path / "out.json"]])
    rows = json.loads((tmp_path / "out.json").read_text())["rows"]
    names = [(row["name"], row["avatar"], row["size"]) for row in rows if row["renderer"] == "cpu"]
    assert names == [
        ("me", "headgas", 16),
        ("me", "headgas", 24),
        ("other", "gaussianhead", 16),
        ("other", "gaussianhead", 24),
    ]
    for row in rows:
        times = row["times"]
        assert (
            all(0 < part["median_ms"] <= part["p99_ms"] for part in times.values())
            and row["frames"] >= 20
        )
        assert row["times_plain"] > 0 and "graph" not in row["renderer"]
        assert row["fps"] == pytest.approx(1000 / times["frame"]["median_ms"], rel=0.01)
    table = [line for line in capsys.readouterr().out.splitlines() if line.startswith("|")]
    assert len(table) == 2 + len(rows) and {line.count("|") for line in table} == {11}


def test_playback_without_a_run_is_a_synthetic_head_that_moves():
    bundle = synthetic_head.synthetic_bundle("default", 40, 32, frames=4)
    player = playback.Player(bundle)
    pictures = [player.step(bundle.recording[index]).rgb for index in range(2)]
    assert (pictures[0] - pictures[1]).abs().max() > 0.02 and pictures[0].max() > 0.1


def test_a_synthetic_head_as_it_is_exported():
    bundle = synthetic_head.synthetic_bundle("default", 40, 32, frames=4)
    exported = synthetic_head.as_exported(bundle)
    clouds = [exported.avatar(bundle.recording[index], torch.zeros(3)) for index in range(2)]
    assert exported.avatar.anchoring.config == bundle.avatar.anchoring.config and clouds[
        0
    ].sh.shape == (40, 4, 3)
    assert all(
        (a - b).abs().max() > 1e-4 for a, b in zip(*(cloud.fields().values() for cloud in clouds))
    )
    rest = bundle.avatar(bundle.recording[0], torch.zeros(3))
    assert (rest.means - clouds[0].means).abs().max() < 0.05


def test_evaluations_are_those_of_the_device_and_the_avatar(monkeypatch):
    bundle = synthetic_head.synthetic_bundle("headgas", 40, 32, frames=4)
    assert playback.evaluations(["torch", "graph", "fused"], bundle, "cpu") == ["torch"]
    assert playback.evaluations(["graph", "fused"], bundle, "cuda") == ["graph"]
    monkeypatch.setattr(fused, "why_not", lambda avatar: None)
    assert playback.evaluations(["graph", "fused"], bundle, "cuda") == ["graph", "fused"]


def test_the_slowest_percent_is_the_99th_percentile():
    assert playback.summary([float(n) for n in range(1, 201)]) == {
        "median_ms": 100.5,
        "p99_ms": 198.0,
    }
    assert playback.summary([3.0]) == {"median_ms": 3.0, "p99_ms": 3.0}


def test_fits_are_kept_and_taken_only_for_the_same_options(tmp_path):
    fit = fits.Fit(tmp_path / "me" / "capture", "headgas", ("headgas.blending=none",), 0, 2.0)
    assert fit.capture_name == "me"
    (tmp_path / "a.json").write_text(
        json.dumps({"fit": fit.described(), "figures": {"psnr": 30.0}})
    )
    assert fits.run_all([("a", fit)], tmp_path, 1, 1) == {"a": {"psnr": 30.0}}
    with pytest.raises(SystemExit, match="other options"):
        fits.run_all([("a", dataclasses.replace(fit, minutes=3.0))], tmp_path, 1, 1)


def test_a_fit_gives_every_figure(tmp_path, monkeypatch):
    toys.make_capture(tmp_path)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    found = fits.figures(
        fits.Fit(tmp_path, "headgas", ("initializer=random", "seeds.num_gaussians=50"), 0, 0.02)
    )
    assert set(FIGURES) <= set(found)
    assert (
        found["psnr"] > 3
        and found["steps"] >= 1
        and found["bundle_mb"] > 0
        and found["perceptual"] is False
    )


def synthetic_subject(seed, focal_error, median):
    """As ``tracking.on_person`` keeps it."""
    rotation = {
        "median": median,
        "p95": 2 * median,
        "without_offset": {"median": median / 2},
        "jitter": 0.04,
    }
    errors = {
        "rotation_deg": rotation,
        "expressions": dict.fromkeys(tracking.CURVES, 0.9) | {"smile": None},
    }
    asked = {"seed": seed, "focal_error": focal_error}
    return {"asked": asked, "landmarks": errors, "pictures": errors, "picture_s_per_100": 30.0}


def test_made_people_are_averaged_for_each_focal_error():
    people = [
        synthetic_subject(seed, factor, 1.0 + seed) for factor in (1.0, 1.3) for seed in (0, 1)
    ]
    rows = [line for line in tracking.people_table(people).splitlines() if line.startswith("|")][2:]
    assert len(rows) == 2 * 2 * 3
    assert (
        rows[2]
        == "| mean | 1 | landmarks | 1.50 | 3.00 | 0.75 | 0.040 | 0.90 | – | 0.90 | 0.90 | – |"
    )
    assert rows[-1].startswith("| mean | 1.3 | photometric | 1.50") and rows[-1].endswith("| 30 |")


def test_made_people_differ_but_for_the_demo():
    assert tracking.person_options(0) == {}
    people = [tracking.person_options(seed) for seed in range(1, 11)]
    assert (
        people[3] == tracking.person_options(4)
        and len({tuple(person.values()) for person in people}) == 10
    )
    assert all(
        1.3 <= person["focal"] <= 3.5 and 0.36 <= person["field"] <= 0.6 for person in people
    )


def test_a_made_person_is_tracked_once(tmp_path):
    from likeness.preprocess.photometric.config import PhotometricConfig

    asked = {"seed": 0, "frames": 60, "focal_error": 1.0} | dataclasses.asdict(PhotometricConfig())
    record = tmp_path / "person0-focal1.json"
    record.write_text(json.dumps({"asked": asked, "pictures": {}}))
    assert tracking.on_person(0, 60, 1.0, tmp_path)["pictures"] == {}
    with pytest.raises(SystemExit, match="other options"):
        tracking.on_person(0, 61, 1.0, tmp_path)


def test_one_picture_has_a_line_for_each_run():
    row = {
        "picture": "me.jpg",
        "wall_s": 8.25,
        "processor_s": 6.0,
        "peak_mib": 650,
        "gaussians": 39000,
        "source_psnr": 27.31,
        "seconds": {"start": 2.0, "head": 1.5},
    }
    refined = {**row, "seconds": {**row["seconds"], "refine": 10.0}}
    lines = one_picture.markdown([row, refined]).splitlines()
    assert lines[-2] == "| me.jpg | 8.2 | 6.0 | 2.0 | 1.5 | – | 650 | 39000 | 27.3 |"
    assert "| refine |" in lines[2] and "| 10.0 |" in lines[-1]


def test_scale_has_ratios():
    figures = {"preprocess_s": 40.0, "preprocess_core_s": 36.0, "preprocess_mb": 900.0}
    figures |= {"fit_s": 60.0, "fit_core_s": 30.0, "fit_mb": 2000.0, "cores_busy": 1.0}
    rows = [{"jobs": n, "threads": 1, "per_hour": 36.0 * n, **figures} for n in (1, 2)]
    titles, rule, _, last = scale.markdown(rows).splitlines()
    assert last.startswith("| 2 | 1 | 72.0 | 2.00 |")
    assert titles.count("|") == rule.count("|") == last.count("|")


def test_how_it_grows_is_a_table():
    rows = scaling.measure(["headgas"], 24, 60, 2, 0)
    assert {(row["what"], row["grows"]) for row in rows} == {
        (what, grows) for what in ("headgas, step", "headgas, frame") for grows in scaling.AXES
    }
    table = scaling.markdown(rows).splitlines()
    assert len(table) == 2 + len(rows)


def test_growth_is_the_exponent():
    assert scaling.exponent([1, 2, 4], [3.0, 6.0, 12.0]) == pytest.approx(1)
    assert scaling.exponent([1, 2, 4], [3.0, 3.0, 3.0]) == pytest.approx(0)


def test_the_page_is_named_where_it_is_none(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["page.py", str(tmp_path)])
    with pytest.raises(SystemExit) as stop:
        page.main()
    assert stop.value.code == 2 and "--format web" in capsys.readouterr().err


def test_the_pages_table_says_what_drew():
    row = {"size": 512, "width": 512, "height": 300, "maths": 8.0, "drawing": 400.0}
    lines = page.markdown({"gaussians": 20000, "draws_with": "a card", "rows": [row]}).splitlines()
    assert "a card" in lines[0] and "| 512² | 512 x 300 | 8.0 | 400.0 | 125 |" == lines[-1]
