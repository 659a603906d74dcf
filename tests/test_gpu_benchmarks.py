"""``benchmarks/gpu.sh`` as far as a machine without CUDA can tell, and the benchmarks that only it
calls."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest
import torch

from benchmarks import blending, fitting, playback, renderer
from benchmarks.common import device_times
from benchmarks.common.figures import Kept
from benchmarks.common.training_step import TrainingStep
from likeness.playback import fused
from likeness.renderers import create
from tests import toys
from tests.contract.test_avatars import make

ROOT = Path(__file__).resolve().parents[1]
SCRIPT = ROOT / "benchmarks" / "gpu.sh"
PRETENDED = r"""#!/bin/sh
[ "$1" = -c ] && case $2 in *is_available*) exit ${NO_CUDA:-0} ;; esac
echo "$*" >> "$CALLS"
echo "output of $2"
for word in "$@"; do [ "$word" = "$FAILS" ] && exit 3; done
while [ $# -gt 0 ]; do
    case $1 in
        --json) echo "{}" > "$2" ;;
        --target) mkdir -p "$2" && echo "$2" > "$CALLS.site" ;;
        --out) mkdir -p "$2" && echo "{}" > "$2/metrics.json" ;;
    esac
    shift
done
[ -z "$PYTHONPATH" ] || echo "$PYTHONPATH" > "$CALLS.path"
exit 0
"""


@pytest.fixture
def gpu(tmp_path):
    """Calls the script with a simulated interpreter, which notes what it is asked for; gives its
    process and calls."""
    python, calls = tmp_path / "python", tmp_path / "calls"
    python.write_text(PRETENDED)
    python.chmod(0o755)
    (tmp_path / "capture").mkdir()
    (tmp_path / "capture" / "manifest.json").write_text("{}")

    def call(*arguments, **environment):
        calls.unlink(missing_ok=True)
        given = {
            "PYTHON": str(python),
            "CALLS": str(calls),
            "OUT": str(tmp_path / "out"),
            "FAILS": "-",
            **environment,
        }
        run = subprocess.run(
            ["bash", SCRIPT, *map(str, arguments)],
            env=os.environ | given,
            capture_output=True,
            text=True,
            cwd=tmp_path,
        )
        return run, calls.read_text().splitlines() if calls.exists() else []

    return call


def parts() -> dict[str, dict[str, int]]:
    listed = subprocess.run(
        ["bash", SCRIPT, "--list"], capture_output=True, text=True, check=True
    ).stdout
    groups = defaultdict(dict)
    for line in listed.splitlines():
        group, name, limit = line.split()
        groups[group][name] = int(limit)
    return groups


def test_each_call_ends_within_ten_minutes():
    groups = parts()
    assert list(groups) == ["A", "B", "C"]
    for limits in groups.values():
        # and its start, and wheels
        assert next(iter(limits)) == "gsplat" and sum(limits.values()) + 45 < 600


def test_wrong_arguments_are_one_line(gpu, tmp_path):
    for arguments, expected in (
        ([], "usage"),
        (["D"], "D: no part of this name"),
        (["--fast", "A"], "--fast: unknown"),
        ([""], "unknown"),
        (["--out"], "--out: expected a folder"),
        (["C"], "--capture DIR is needed"),
        (["A", "fit"], "is needed"),
        (["--capture", tmp_path, "C"], "not a capture"),
        (["--wheels", tmp_path, "A"], "no wheels"),
    ):
        run, calls = gpu(*arguments)
        assert run.returncode == 2 and expected in run.stderr and run.stderr.count("\n") == 1, (
            arguments
        )
        assert not calls and not (tmp_path / "out").exists()
    run, _ = gpu("A", PYTHON="/nowhere/python")
    assert run.returncode == 2 and "no such interpreter" in run.stderr
    run, calls = gpu("A", NO_CUDA="1")
    assert run.returncode == 2 and run.stderr == "gpu.sh: no CUDA device was found\n" and not calls


@pytest.mark.skipif(torch.cuda.is_available(), reason="a CUDA device is present")
def test_an_interpreter_without_cuda_is_said(gpu):
    run, _ = gpu("A", PYTHON=sys.executable)
    assert run.returncode == 2 and run.stderr == "gpu.sh: no CUDA device was found\n"


def test_only_the_parts_that_are_asked_for(gpu, tmp_path):
    run, calls = gpu("blending", "renderer", "blending")
    assert run.returncode == 0, run.stderr
    assert [call.split()[1] for call in calls] == ["benchmarks.blending", "benchmarks.renderer"]
    assert (tmp_path / "out" / "summary.txt").read_text().count("status 0") == 2
    assert (tmp_path / "out" / "renderer.json").is_file()


@pytest.mark.parametrize("group", ["A", "B", "C"])
def test_a_group_is_all_its_parts_and_few_files(gpu, tmp_path, group):
    run, calls = gpu("--capture", tmp_path / "capture", group)
    assert run.returncode == 0, run.stderr
    names = [
        line.split(":")[0] for line in (tmp_path / "out" / "summary.txt").read_text().splitlines()
    ]
    assert names == list(parts()[group]) and len(calls) == len(names)
    assert len(list((tmp_path / "out").iterdir())) <= 8
    for call in calls:  # what is called is there
        words = call.split()
        if words[0] == "-m" and words[1] != "pytest":
            assert (ROOT / f"{words[1].replace('.', '/')}.py").is_file()
        assert ("--offline" in words) == (words[0] == "fit_subject.py")
    if group == "A":
        tests = [word for word in calls[1].split() if word.startswith("tests/")]
        assert (
            "tests/contract/test_renderers.py" in tests and "tests/playback/test_graphs.py" in tests
        )
        assert all((ROOT / test).is_file() for test in tests)


def test_a_part_that_fails_stops_no_other_but_gsplat_does(gpu, tmp_path):
    run, calls = gpu("B", FAILS="headgas")
    assert run.returncode == 1 and len(calls) == 7
    assert "playback_headgas: status 3" in (tmp_path / "out" / "summary.txt").read_text()
    assert "output of" in (tmp_path / "out" / "log.txt").read_text()
    run, calls = gpu("B", FAILS="-c")
    assert run.returncode == 2 and "gsplat does not work here" in run.stderr and len(calls) == 1


def test_wheels_are_installed_for_this_call_alone(gpu, tmp_path):
    (tmp_path / "wheels").mkdir()
    (tmp_path / "wheels" / "gsplat-1.5.3-py3-none-any.whl").touch()
    run, calls = gpu("--wheels", tmp_path / "wheels", "blending")
    assert run.returncode == 0, run.stderr
    assert calls[0].startswith("-m pip install -q --no-index --no-deps --target") and calls[
        0
    ].endswith("none-any.whl")
    site = (tmp_path / "calls.site").read_text().strip()
    assert (tmp_path / "calls.path").read_text().strip().split(":")[0] == site and not Path(
        site
    ).exists()
    run, calls = gpu("--wheels", tmp_path / "wheels", "blending", FAILS="--no-index")
    assert run.returncode == 2 and "cannot be installed" in run.stderr and len(calls) == 1


def test_rows_are_kept_as_they_come(tmp_path):
    path = tmp_path / "rows.json"
    kept = Kept(path, machine={"processor": "x"})
    for number in range(3):
        kept.add({"number": number})
        assert json.loads(path.read_text()) == {"machine": {"processor": "x"}, "rows": kept.rows}
        assert len(kept.rows) == number + 1
    kept.note(limits=1)
    assert json.loads(path.read_text())["limits"] == 1


def test_rows_of_a_benchmark_that_is_ended_are_kept(tmp_path, monkeypatch):
    measured, measure = [], playback.measure

    def ended(*arguments):
        measured.append(arguments)
        if len(measured) == 3:
            raise KeyboardInterrupt
        return measure(*arguments)

    monkeypatch.setattr(playback, "measure", ended)
    monkeypatch.setitem(os.environ, playback.THREADS_VARIABLE, "1")
    threads = torch.get_num_threads()
    with pytest.raises(KeyboardInterrupt):
        playback.main(
            [
                "--gaussians",
                "30",
                "--sizes",
                "8",
                "16",
                "24",
                "--seconds",
                "0",
                "--threads",
                "1",
                "--renderers",
                "cpu",
                "--json",
                str(tmp_path / "rows.json"),
            ]
        )
    torch.set_num_threads(threads)
    assert [row["size"] for row in json.loads((tmp_path / "rows.json").read_text())["rows"]] == [
        8,
        16,
    ]


def test_the_rasteriser_alone(tmp_path, capsys):
    row = renderer.measure(create("cpu"), "cpu", 40, 16, 2, 2)
    assert row["batch"] == 2 and row["peak_memory_mb"] is None
    assert all(row[name] > 0 for name in ("forward_ms", "backward_ms", "picture_ms"))
    renderer.main(
        [
            "--gaussians",
            "30",
            "--size",
            "16",
            "--rounds",
            "1",
            "--json",
            str(tmp_path / "rows.json"),
        ]
    )
    rows = json.loads((tmp_path / "rows.json").read_text())["rows"]
    assert [(row["batch"], row["screen"]) for row in rows] == [
        (1, True),
        (1, "absolute"),
        (4, True),
    ]
    table = [line for line in capsys.readouterr().out.splitlines() if line.startswith("|")]
    assert len(table) == 2 + len(rows) and {line.count("|") for line in table} == {10}


@pytest.mark.parametrize("states", [1, 3])
def test_forms_of_blending_are_the_same(states, monkeypatch):
    rows = blending.measure("cpu", 20, states, 1)
    assert [row["form"] for row in rows] == ["as it is", "laid by code", "laid anew"]
    assert len(blending.markdown(rows).splitlines()) == 2 + 3
    by_code = blending.by_code
    monkeypatch.setattr(blending, "by_code", lambda *given: 1.1 * by_code(*given))
    with pytest.raises(SystemExit, match="laid by code differs"):
        blending.measure("cpu", 20, states, 1)


def test_calls_in_a_row_and_parts_between_marks():
    calls = []
    assert device_times.pipelined_ms(calls.append, "cpu", 4) >= 0 and calls == [0, 1, 2, 3]
    order = []
    times = device_times.between([lambda: order.append("a"), lambda: order.append("b")], "cpu", 2)
    assert len(times) == 2 and order == ["a", "b"] * 4


def test_a_step_of_many_in_a_row_leaves_its_figure_where_it_is(cuda):
    step = TrainingStep("headgas", 16, 30, 1, device="cuda")
    step.go_on()  # constants are copied once
    before = len(cuda.waits)
    with cuda.refusing_waits():
        error = step.go_on()
    assert error.device.type == "cuda" and len(cuda.waits) - before == 1  # gsplat's own


class TestOnASimulatedDevice:
    """No minute on a GPU is lost to a wrong option, or to a benchmark that never ran there."""

    def test_options_of_the_script_are_those_of_the_benchmarks(self, gpu, tmp_path, monkeypatch):
        asked = []

        def noted(row):
            return lambda *given: asked.append(given) or row

        times = {part: {"median_ms": 1.0, "p99_ms": 1.0} for part in playback.PARTS}
        shown = {
            "avatar": "x",
            "gaussians": 1,
            "renderer": "x",
            "size": 1,
            "fps": 1.0,
            "times": times,
        }
        monkeypatch.setattr(playback, "measure", noted(shown | {"fps_of_the_slowest_percent": 1.0}))
        monkeypatch.setattr(playback, "renderers", lambda only: dict.fromkeys(only, "cuda"))
        monkeypatch.setattr(playback, "why_not", lambda *_: "no")
        monkeypatch.setattr(playback, "synthetic_bundle", lambda *_: toys.bundle(make("headgas")))
        monkeypatch.setattr(playback, "as_exported", lambda bundle: bundle)
        monkeypatch.setattr(fused, "why_not", lambda avatar: None)
        monkeypatch.setitem(os.environ, playback.THREADS_VARIABLE, "1")
        rates = {
            "batch": 1,
            "gaussians": 1,
            "min_ms": 1.0,
            "cpu_ms": 1.0,
            "steps_per_s": 1.0,
            "best_steps_per_s": 1.0,
        }
        rates["preset"] = "headgas"
        monkeypatch.setattr(
            fitting, "whole_steps", lambda *given: asked.append(given) or dict(rates)
        )
        monkeypatch.setattr(
            fitting, "parts_of_a_step", lambda *_: [{"part": "x", "ms": 1.0, "share": 1.0}]
        )
        monkeypatch.setattr(
            fitting, "machine_limits", lambda *_: {"gigabytes_per_s": 1.0, "gigaflops": 1.0}
        )
        monkeypatch.setattr(
            renderer,
            "measure",
            noted(
                {
                    "renderer": "x",
                    "gaussians": 1,
                    "size": 1,
                    "batch": 1,
                    "screen": True,
                    "forward_ms": 1.0,
                    "backward_ms": 1.0,
                    "picture_ms": 1.0,
                    "peak_memory_mb": 1.0,
                }
            ),
        )
        monkeypatch.setattr(renderer, "create", lambda *_: create("cpu"))
        monkeypatch.setattr(blending, "measure", noted([]))
        _, calls = gpu("--capture", tmp_path / "capture", "A", "B", "C")
        mains = {
            "playback": playback,
            "renderer": renderer,
            "blending": blending,
            "fitting": fitting,
        }
        threads = torch.get_num_threads()
        for _, name, *words in (c.split() for c in calls if c.startswith("-m benchmarks.")):
            before = len(asked)
            mains[name.removeprefix("benchmarks.")].main(words)
            torch.set_num_threads(threads)
            assert len(asked) > before and all(
                "cuda" in map(str, given) for given in asked[before:] if len(given) > 5
            )

    @pytest.mark.parametrize("evaluation", ["torch", "graph"])
    def test_playback(self, cuda, monkeypatch, evaluation):
        monkeypatch.setattr(playback, "_MIN_FRAMES", 2)
        row = playback.measure(toys.bundle(make("headgas")), "gsplat", "cuda", 16, 0, evaluation)
        assert row["pipelined_ms"] > 0 and row["peak_memory_mb"] == 1.5 and row["fps"] > 0

    def test_fitting(self, cuda):
        row = fitting.whole_steps("headgas", 16, 30, 1, 0, "cuda", 2)
        assert (
            row["pipelined_steps_per_s"] > 0 and row["peak_memory_mb"] == 1.5 and row["batch"] == 2
        )
        parts = fitting.parts_of_a_step(
            "headgas", 16, 30, 1, 0, {"gigabytes_per_s": 1.0, "gigaflops": 1.0}, "cuda"
        )
        assert len(parts) == 8

    def test_renderer_and_blending(self, cuda):
        row = renderer.measure(create("gsplat", "cuda"), "cuda", 30, 16, 2, 1)
        assert row["forward_ms"] > 0 and row["backward_ms"] > 0 and row["peak_memory_mb"] == 1.5
        assert all(row["both_ms"] > 0 for row in blending.measure("cuda", 20, 2, 1))
