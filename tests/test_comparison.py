"""The comparison of presets: equal captures, whole rounds of fits, and tables that say what they
were given."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from benchmarks import comparison
from benchmarks.common import clips, fits, tables
from benchmarks.common.clips import Clip
from likeness.fitting.config import FitConfig
from likeness.scene.capture import Capture, TrackedFrames
from likeness.scene.config_files import load_preset
from likeness.scene.errors import UserError
from tests import toys

FIGURES = {
    "l1": 0.02,
    "psnr": 30.0,
    "ssim": 0.9,
    "lpips": None,
    "face": 28.0,
    "mouth": 26.0,
    "eyes": 27.0,
    "inside": 33.0,
    "with_sway": 31.0,
    "machine": {
        "processor": "Abacus 9",
        "cores": 2,
        "instructions": ["avx2"],
        "date": "2001-02-03",
        "load_average": 0.5,
    },
    "error_share": {"border": 0.5, "torso": 0.2, "face": 0.1, "rest": 0.2},
    "train": 35.0,
    "steps": 100,
    "steps_per_s": 5.0,
    "num_gaussians": 50,
    "bundle_mb": 1.0,
    "peak_memory_gb": 2.0,
    "perceptual": False,
    "code": "abc",
}


@pytest.mark.parametrize(
    "entries",
    [
        comparison.PRESETS,
        comparison.changes(),
        *(comparison.ablations(preset) for preset in comparison.ABLATIONS),
    ],
    ids=lambda entries: entries[-1].name,
)
def test_every_line_is_another_fit_and_compared_with_the_first(entries):
    assert {entry.base for entry in entries} == {entries[0].name} and not entries[0].settings
    assert len({entry.name for entry in entries}) == len(entries)
    kinds = [
        (load_preset(entry.preset, FitConfig, entry.settings), entry.tracking) for entry in entries
    ]
    assert not any(kind in kinds[:index] for index, kind in enumerate(kinds))


def test_all_presets_have_the_same_captures_and_landmarks_a_table_of_their_own():
    assert {entry.tracking for entry in (*comparison.PRESETS, *comparison.changes())} == {
        "photometric"
    }
    assert {entry.preset for entry in comparison.BY_LANDMARKS} <= {
        entry.preset for entry in comparison.PRESETS
    }
    assert {entry.tracking for entry in comparison.BY_LANDMARKS} == {"landmarks"}


@pytest.mark.parametrize("paper", ["headgas", "gaussianhead"])
def test_plus_presets_leave_the_papers_model_alone(paper):
    plain, plus = (load_preset(preset, FitConfig) for preset in (paper, f"{paper}-plus"))
    assert plus.avatar == plain.avatar and plus.optimizer == plain.optimizer
    model, ours = getattr(plus, paper), getattr(plain, paper)
    assert model.anchoring != ours.anchoring
    # With shoulders that stand still, the deformation knows how the head is turned on them.
    other = {"gaussianhead": "deform_by_pose", "headgas": "encoding_gradient"}[paper]
    assert (
        dataclasses.replace(model, anchoring=ours.anchoring, **{other: getattr(ours, other)})
        == ours
    )
    sizes = {
        name: getattr(plain.densify, name)
        for name in ("max_gaussians", "split_scale", "prune_scale")
    }
    assert dataclasses.replace(plus.densify, **sizes) == plain.densify


def test_plus_presets_add_the_same():
    one, other = (
        load_preset(preset, FitConfig) for preset in ("headgas-plus", "gaussianhead-plus")
    )
    assert one.headgas.anchoring == other.gaussianhead.anchoring
    assert (one.initializer, one.seeds, one.densify.max_gaussians) == (
        other.initializer,
        other.seeds,
        other.densify.max_gaussians,
    )
    for name in ("l1", "dssim", "perceptual", "matte", "background"):
        assert getattr(one.objective, name) == getattr(other.objective, name)
    halves = [
        config.schedule.half_resolution_until / config.schedule.iterations
        for config in (one, other)
    ]
    assert halves == [0.5, 0.5]


@pytest.fixture(scope="module")
def pair(tmp_path_factory) -> Clip:
    """A clip with both captures, which differ in nothing but what they are said to be tracked
    by."""
    root = tmp_path_factory.mktemp("clip")
    capture = toys.make_capture(root / "me-photometric", frames=8, size=32, test=2)
    shutil.copytree(capture.root, root / "me-landmarks")
    capture.report["photometric"] = {
        "error": {"before": 0.03, "after": 0.02},
        "rotation_deg": {"median": 0.5},
        "fallen_back": [],
        "sway_mm": {"rms": 0.5, "most": 3.0},
    }
    capture.save()
    return Clip("me", {tracking: root / f"me-{tracking}" for tracking in clips.TRACKING})


def copied(pair: Clip, folder: Path) -> Clip:
    for root in pair.captures.values():
        shutil.copytree(root, folder / root.name)
    return Clip(
        pair.name, {tracking: folder / root.name for tracking, root in pair.captures.items()}
    )


def edit(root: Path, **changes) -> None:
    dataclasses.replace(Capture.load(root), **changes).save()


def test_ready_captures_of_one_clip(pair):
    photometric, landmarks = pair.captures["photometric"], pair.captures["landmarks"]
    assert clips.given([photometric], [landmarks]) == [pair]
    assert clips.given([photometric], []) == [Clip("me", {"photometric": photometric})]


def test_captures_of_other_test_frames_are_refused(pair, tmp_path):
    clip = copied(pair, tmp_path)
    capture = Capture.load(clip.captures["landmarks"])
    edit(capture.root, train=tuple(range(5)), test=(5, 6, 7))
    with pytest.raises(UserError, match="train frames: 6 against 5"):
        clips.check(clip)
    edit(capture.root, test=(6, 7, 5)[:2], train=tuple(range(6)))
    frames = list(capture.frames)
    frames[7] = dataclasses.replace(frames[7], time_s=9.0)
    edit(capture.root, frames=TrackedFrames.stack(frames))
    with pytest.raises(UserError, match="test frames: 000007 at 0.28 s against 000007 at 9 s"):
        clips.check(clip)


def test_captures_of_other_mattes_or_landmarks_are_refused(pair, tmp_path):
    clip = copied(pair, tmp_path)
    capture = Capture.load(clip.captures["landmarks"])
    frames = list(capture.frames)
    frames[6] = dataclasses.replace(frames[6], landmarks=frames[6].landmarks + 1)
    edit(capture.root, frames=TrackedFrames.stack(frames))
    with pytest.raises(UserError, match="the landmarks of frame 000006"):
        clips.check(clip)
    shutil.copyfile(capture.frames[0].matte_path, capture.frames[6].matte_path)
    with pytest.raises(UserError, match="mattes/000006.png"):
        clips.check(clip)


def test_captures_that_do_not_go_together_are_refused(pair):
    photometric, landmarks = pair.captures["photometric"], pair.captures["landmarks"]
    with pytest.raises(
        UserError, match="is landmarks, expected a capture whose tracking is photometric"
    ):
        clips.given([landmarks], [])
    with pytest.raises(UserError, match="one for each of the 1 --captures"):
        clips.given([photometric], [landmarks, landmarks])
    with pytest.raises(UserError, match="two clips are called me"):
        clips.given([photometric, photometric], [])


def test_a_stopped_benchmark_has_the_first_seed_of_every_clip():
    both = {"photometric": Path("p"), "landmarks": Path("l")}
    entries = (*comparison.PRESETS, *comparison.BY_LANDMARKS)
    clips = [Clip("a", both), Clip("b", both)]
    found = comparison.planned(clips, entries, 2, ("x=1",), minutes=10)
    order = [(fit.seed, clip.name, entry.name) for clip, entry, fit in found.values()]
    assert order == [(s, c, e.name) for s in (0, 1) for c in ("a", "b") for e in entries]
    for _, entry, fit in found.values():
        assert fit.capture == both[entry.tracking] and fit.settings == ("x=1", *entry.settings)


def test_without_landmark_captures_their_lines_are_left_out_and_named():
    clip, entries = (
        Clip("a", {"photometric": Path("p")}),
        (*comparison.PRESETS, *comparison.BY_LANDMARKS),
    )
    names = [
        entry.name for _, entry, _ in comparison.planned([clip], entries, 1, minutes=10).values()
    ]
    assert names == [entry.name for entry in comparison.PRESETS]
    assert comparison.left_out([clip], entries) == ["default, landmarks", "headgas, landmarks"]


def test_the_length_of_fits_is_minutes_or_steps():
    clip = Clip("a", {"photometric": Path("p")})
    planned = comparison.planned([clip], comparison.changes(), 1, minutes=None, iterations=700)
    (label, (_, _, fit)), *_ = planned.items()
    assert label == "a-default-700steps-seed0" and (fit.minutes, fit.iterations) == (None, 700)
    assert dataclasses.replace(fit, iterations=None, minutes=0.5).length == "0.5min"


def row(clip, name, seed, **changed):
    return {
        "clip": clip,
        "name": name,
        "tracking": "photometric",
        "seed": seed,
        **FIGURES,
        **changed,
    }


@pytest.fixture
def rows():
    return [
        row("a", "default", 0, psnr=30.0, mouth=26.0),
        row("a", "default", 1, psnr=32.0, mouth=27.0),
        row("b", "default", 0, psnr=28.0, mouth=20.0),
        row("b", "default", 1, psnr=29.0, mouth=21.0),
        row("a", "other", 0, psnr=27.0, mouth=25.0),
        row("a", "other", 1, psnr=28.0, mouth=25.0),
        row("b", "other", 0, psnr=27.0, mouth=23.0),
        row("b", "other", 1, psnr=26.0, mouth=None),
    ]


def test_differences_are_taken_seed_by_seed(rows):
    found = tables.compare(rows, "other", -1)
    # a: 3, 4; b: 1, 3; over the clips by seed: 2, 3.5.
    assert found["psnr"]["mean"] == pytest.approx(2.75) and found["psnr"][
        "spread"
    ] == pytest.approx(1.5 / 2**0.5)
    assert found["psnr"]["worst"] == ("b", 2.0) and found["psnr"]["best"] == ("a", 3.5)
    # Nothing to subtract on b with seed 1.
    assert found["mouth"]["by_clip"]["b"]["mean"] == -3.0 and found["mouth"]["ahead"] == 1
    assert found["mouth"]["spread"] is None
    reverse = tables.compare(rows, "other", 1)
    assert reverse["psnr"]["mean"] == pytest.approx(-2.75) and reverse["psnr"]["worst"] == (
        "a",
        -3.5,
    )


def test_a_difference_counts_beyond_the_spread_of_seeds(rows):
    found = tables.compare(rows, "other", -1)
    # 2.75 against twice the 1.06 of the differences, and twice the 1.06 of the default over its
    # seeds.
    assert found["psnr"]["beyond"] and not found["psnr"]["by_clip"]["b"]["beyond"]
    assert (
        tables.compare([r for r in rows if r["seed"] == 0], "other", -1)["psnr"]["beyond"] is None
    )
    # With one seed of the other, that of the default over its seeds is what is known.
    one = [r for r in rows if r["name"] == "default" or r["seed"] == 0]
    found = tables.compare(one, "other", -1)["psnr"]
    assert (found["mean"], found["spread"], found["beyond"]) == (pytest.approx(2.0), None, False)
    far = [{**r, "psnr": r["psnr"] - 9} if r["name"] == "other" else r for r in one]
    assert tables.compare(far, "other", -1)["psnr"]["beyond"] is True


def test_ablations_are_compared_with_the_full_model():
    full, *_, last = entries = comparison.chosen(
        comparison.ablations("gaussianhead", perceptual=False), ["K = 2", "Euclid"]
    )
    names = ["full, K = 4", "K = 2", "Euclidean Adam"]
    assert [entry.name for entry in entries] == [f"gaussianhead, {name}" for name in names]
    rows = [row("me", full.name, seed, psnr=30.0 + seed) for seed in (0, 1)]
    rows += [row("me", last.name, seed, psnr=27.0 + seed) for seed in (0, 1)]
    conditions = {"minutes": None, "iterations": 500, "seeds": 2, "jobs": 1, "threads": 1}
    conditions |= {"settings": [], "missing": 2, "left_out": []}
    report = comparison.compared(rows, entries, of_presets=False)
    text = comparison.text(rows, report, conditions, of_presets=False)
    assert "after 500 steps of each fit" in text and "2 fit(s) are missing" in text
    assert f"| me | {full.name} | 30.5 ± 0.7 |" in text
    assert f"| {last.name} | -3.00* ± 0.00 |" in text


def test_what_landmarks_cost_is_a_table_of_its_own(rows):
    rows += [
        row("a", "default, landmarks", seed, tracking="landmarks", psnr=20.0 + seed)
        for seed in (0, 1)
    ]
    compared = [tables.compare(rows, "default, landmarks", 1, base="default")]
    table = tables.landmarks(compared, rows).splitlines()
    assert table[-1].startswith("| a | default | 31.0 ± 1.4 | 20.5 ± 0.7 | -10.50* ± 0.71 |")
    assert len(table) == 5 and len({line.count("|") for line in table[2:]}) == 1


def test_the_tables_of_presets(rows):
    table = tables.figures(rows).splitlines()
    assert len({line.count("|") for line in table}) == 1 and len(table) == 6
    assert table[0].startswith("| clip | preset | PSNR |") and "PSNR with held-out sway" in table[0]
    assert table[2].startswith(
        "| a | default | 31.0 ± 1.4 | 0.900 ± 0.000 | – | 28.0 ± 0.0 | 26.5 ± 0.7 |"
    )
    assert "| 33.0 ± 0.0 | 31.0 ± 0.0 | 50/20" in table[2]
    assert "| 50/20/10/20 | 100 | 5.0 | 50 | 2.0 | 1.0 |" in table[2]
    text = tables.differences([tables.compare(rows, "other", -1)]).splitlines()[-1]
    assert text == (
        "| other | +2.75* ± 1.06 (+2.00 b) | +0.00 ± 0.00 (+0.00 a) | -0.75 (-3.00 b) "
        "| +0.00 ± 0.00 (+0.00 a) | +0.00 ± 0.00 (+0.00 a) "
        "| 0/2, 1/2, 0/2; 0/2 |"
    )


def test_the_table_of_changes(rows):
    compared = [tables.compare(rows, "other", 1), tables.compare(rows, "never fitted", 1)]
    lines = [line for line in tables.changes(compared, rows).splitlines() if line.startswith("|")]
    assert lines[2] == "| default |  |  |  |  |  | 5.0 | 2.0 |"
    assert lines[3].startswith("| other | -2.75* ± 1.06 (-3.50 a, -2.00 b) |")
    one_clip = tables.compare([row for row in rows if row["clip"] == "a"], "other", 1)
    assert "| other | -3.50* ± 0.71 |" in tables.changes([one_clip], rows)
    assert lines[4] == "| never fitted | – | – | – | – | – | – | – |"
    assert lines[7].startswith("| a | other | -3.50* ± 0.71 |") and lines[8].startswith(
        "| b | other | -2.00 ± 1.41 |"
    )


def test_the_heading_says_what_is_missing(rows):
    conditions = {
        "minutes": 10,
        "iterations": None,
        "jobs": 2,
        "threads": 1,
        "seeds": 2,
        "settings": ["a=1"],
    }
    conditions |= {"missing": 3, "left_out": ["headgas"]}
    rows[0]["code"] = "later"
    text = tables.heading(rows, conditions)
    assert "100 steps of each" in tables.heading(rows, {**conditions, "iterations": 100})
    for part in (
        "10 minutes",
        "without the secondary motion",
        "machine: Abacus 9, 2 cores, avx2, 2001-02-03",
        "All with a=1",
        "3 fit(s) are missing",
        "headgas",
        "VGG16",
        "abc, later",
    ):
        assert part in text


def fake_figures(fit):
    if fit.seed == 1:
        raise RuntimeError("broken")
    return {**FIGURES, "threads": [os.environ[name] for name in fits.THREADS]}


def test_a_failed_fit_leaves_the_others_and_is_named(tmp_path, monkeypatch, capsys):
    @contextmanager
    def pool(jobs):
        with ThreadPoolExecutor(jobs) as threads:
            yield threads

    monkeypatch.setattr(fits, "_pool", pool)
    monkeypatch.setattr(fits, "figures", fake_figures)
    monkeypatch.delenv("LIKENESS_THREADS", raising=False)
    monkeypatch.setenv("NUMBA_NUM_THREADS", "2")
    planned = [(f"fit{seed}", fits.Fit(tmp_path, "headgas", (), seed, 1.0)) for seed in range(3)]
    with pytest.raises(SystemExit, match="1 of 3 fits failed: fit1"):
        fits.run_all(planned, tmp_path, 2, 1)
    found = fits.kept(planned, tmp_path)
    assert sorted(found) == ["fit0", "fit2"] and found["fit2"]["threads"] == ["1"] * len(
        fits.THREADS
    )
    assert "LIKENESS_THREADS" not in os.environ and os.environ["NUMBA_NUM_THREADS"] == "2"


def test_whoever_stops_takes_the_running_fits_along():
    begun = time.monotonic()
    with pytest.raises(KeyboardInterrupt), fits._pool(1) as pool:
        for _ in range(3):
            pool.submit(time.sleep, 60)
        raise KeyboardInterrupt
    assert time.monotonic() - begun < 20


def test_from_captures_to_tables(pair, tmp_path, capsys):
    out, figures = tmp_path / "out", tmp_path / "figures.json"
    arguments = [
        "--captures",
        pair.captures["photometric"],
        "--landmark-captures",
        pair.captures["landmarks"],
    ]
    arguments += ["--minutes", 0.01, "--seeds", 1, "--threads", 1, "--out", out, "--json", figures]
    arguments += [
        "--set",
        "initializer=random",
        "--set",
        "seeds.num_gaussians=40",
        "--only",
        "nothing",
    ]
    comparison.main([str(argument) for argument in arguments])
    assert [path.name for path in out.iterdir()] == ["me-default-0_01min-seed0.json"]
    (found,) = json.loads(figures.read_text())["rows"]
    assert found["psnr"] > 3 and sum(found["error_share"].values()) == pytest.approx(1)
    # What is there is shown; what is not is said, and not fitted.
    capsys.readouterr()
    comparison.main([str(argument) for argument in [*arguments[:-1], "headgas-plus", "--finished"]])
    text = capsys.readouterr().out
    assert (
        "1 fit(s) are missing" in text
        and "One seed has no spread" in text
        and "| me | default | " in text
    )
    assert "| headgas-plus | – |" in text
