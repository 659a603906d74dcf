"""Tasks of this machine: order, failures, going on, memory, GPUs, stopping."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from likeness.collection import claims, scheduler, state, summary
from likeness.collection.child import Child
from likeness.collection.resources import EXPECTED_MB, Memory
from likeness.collection.scheduler import LocalPool
from likeness.collection.subjects import Subject
from likeness.collection.tasks import Place, Task, preprocess_task
from likeness.scene.errors import UserError
from tests import toys
from tests.collection.fake_work import chain, is_gone, process, quietly, task, trace, wait_until

ROOT = Path(__file__).parents[2]


def test_everything_is_done_once_and_in_order(tmp_path):
    names = ["a", "b", "c"]
    outcome, _ = quietly([chain(tmp_path, name) for name in names])
    assert sorted(trace(tmp_path, "ends")) == sorted(
        f"{n}-{s}" for n in names for s in ("preprocess", "fit")
    )
    for name in names:
        assert trace(tmp_path, "begins").index(f"{name}-preprocess") < trace(
            tmp_path, "begins"
        ).index(f"{name}-fit")
    assert {got.status for got in outcome.states.values()} == {state.DONE} and len(outcome.ran) == 6
    assert all(
        got.peak_mb > 1 and got.attempts == 1 and got.seconds > 0 for got in outcome.states.values()
    )
    again, shown = quietly([chain(tmp_path, name) for name in names])
    assert again.ran == frozenset() and len(trace(tmp_path, "begins")) == 6 and "6 of 6" in shown
    assert not list((tmp_path / "tasks").rglob("*claim*")) and not list(
        (tmp_path / "tasks").rglob(".clock*")
    )


def test_subjects_are_finished_before_others_are_begun(tmp_path):
    quietly([chain(tmp_path, name) for name in "abc"], jobs=1)
    assert trace(tmp_path, "begins") == [f"{n}-{s}" for n in "abc" for s in ("preprocess", "fit")]


def test_a_failure_stops_its_subject_alone_and_is_all_that_runs_again(tmp_path):
    chains = [chain(tmp_path, "good"), chain(tmp_path, "bad", units=4, breaks=2)]
    outcome, shown = quietly(chains)
    ((failed, got),) = outcome.failures
    assert (
        failed.key == "bad/preprocess"
        and got.error == "ValueError: broken"
        and "ValueError: broken" in shown
    )
    assert trace(tmp_path, "begins").count("bad-fit") == 0 and "good-fit" in trace(tmp_path, "ends")
    rows = summary.write(tmp_path, outcome)
    text = summary.text(tmp_path, outcome, rows)
    assert (
        "1 of 2 subjects are done" in text
        and str(failed.log) in text
        and "ValueError: broken" in text
    )
    assert summary.exit_code(outcome) == 1
    assert [row["status"] for row in rows] == ["done", "failed"]
    assert json.loads((tmp_path / "summary.json").read_text())["subjects"] == rows

    begun = len(trace(tmp_path, "begins"))
    outcome, _ = quietly([chain(tmp_path, "good"), chain(tmp_path, "bad", units=4)])
    assert (
        outcome.ran == {"bad/preprocess", "bad/fit"} and len(trace(tmp_path, "begins")) == begun + 2
    )
    assert outcome.states["bad/preprocess"].attempts == 2 and summary.exit_code(outcome) == 0
    heads = [line for line in failed.log.read_text().splitlines() if line.startswith("== ")]
    assert len(heads) == 2  # one log for all attempts


@pytest.mark.parametrize(
    "code, error",
    [
        (
            "import os; print('error: me.mp4: no good\\n  really', flush=True); os._exit(2)",
            "me.mp4: no good",
        ),
        ("raise KeyError('x')", "KeyError: 'x'"),
        ("import os; os.kill(os.getpid(), 9)", "SIGKILL"),
        ("import sys; sys.exit(7)", "code 7"),
        ("pass", "is not there"),
    ],
)
def test_why_a_task_failed(tmp_path, code, error):
    broken = Task("a", "fit", tmp_path / "tasks", ("-S", "-c", code), tmp_path / "product")
    outcome, _ = quietly([[broken]])
    assert error in outcome.states["a/fit"].error


def test_a_refusal_is_a_result_until_it_is_judged_by_other_limits(tmp_path):
    result = tmp_path / "result.json"
    said = {"refused": "too dark", "reason": "dark"}
    code = f"import json, sys; json.dump({said!r}, open({str(result)!r}, 'w')); sys.exit(2)"

    def refusing(limit: float) -> Task:
        return Task(
            "a",
            "preprocess",
            tmp_path / "t",
            ("-S", "-c", code),
            tmp_path / "p",
            {},
            result=result,
            judged_by={"limit": limit},
        )

    outcome, _ = quietly([[refusing(1)]])
    got = outcome.states["a/preprocess"]
    assert (got.status, got.error, got.reason) == (
        state.REFUSED,
        "too dark",
        "dark",
    ) and not outcome.failures
    assert quietly([[refusing(1)]])[0].ran == frozenset()
    assert quietly([[refusing(2)]])[0].ran == {"a/preprocess"}


def test_what_is_done_is_not_done_otherwise(tmp_path):
    quietly([[task(tmp_path, "a", options={"minutes": 5})]])
    with pytest.raises(UserError, match=r"'a' was made with minutes=5.*another name"):
        quietly([[task(tmp_path, "a", options={"minutes": 6})]])
    (tmp_path / "a-fit.product").unlink()  # removed by hand: to be made anew
    assert quietly([[task(tmp_path, "a", options={"minutes": 6})]])[0].ran == {"a/fit"}


def test_what_a_finished_subject_no_longer_needs_may_be_removed(tmp_path):
    quietly([chain(tmp_path, "a", options={"size": 5})])
    (tmp_path / "a-preprocess.product").unlink()
    outcome, _ = quietly([chain(tmp_path, "a", options={"size": 5})])
    assert outcome.ran == frozenset() and len(outcome.states) == 2
    with pytest.raises(UserError, match="'a' was made with size=5"):
        quietly([chain(tmp_path, "a", options={"size": 6})])
    (tmp_path / "a-fit.product").unlink()
    assert quietly([chain(tmp_path, "a", options={"size": 5})])[0].ran == {"a/preprocess", "a/fit"}


def test_leftovers_go_when_a_task_is_done(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    good, bad = (
        task(tmp_path, "a", leftovers=tmp_path / "a"),
        task(tmp_path, "b", breaks=0, leftovers=tmp_path / "b"),
    )
    quietly([[good], [bad]])
    assert not (tmp_path / "a").exists() and (tmp_path / "b").exists()


def test_a_task_goes_on_by_its_second_command(tmp_path):
    goes_on = Task(
        "a", "fit", tmp_path, ("begin",), tmp_path / "p", resume=(tmp_path / "run.json", ("go on",))
    )
    assert goes_on.command_now() == ("begin",)
    (tmp_path / "run.json").write_text("{}")
    assert goes_on.command_now() == ("go on",)


def test_a_damaged_state_says_so(tmp_path):
    one = task(tmp_path, "a")
    one.folder.mkdir(parents=True)
    for text, word in (
        ("{", "damaged"),
        ('{"format": "else"}', "format: expected 'task'"),
        ('{"format": "task", "format_version": 9}', "newer"),
        ('{"format": "task", "format_version": 1}', "damaged"),
    ):
        one.state.write_text(text)
        with pytest.raises(UserError, match=word):
            state.load(one)


class TestResources:
    def test_memory_bounds_how_many_run(self):
        memory = Memory(3 * EXPECTED_MB["fit"])
        assert memory.fits("fit", ["fit", "fit"]) and not memory.fits("fit", ["fit"] * 3)
        memory.note("fit", 3.5 * EXPECTED_MB["fit"])
        assert memory.fits("fit", []) and not memory.fits("preprocess", ["fit"])

    def test_measured_memory_takes_the_place_of_what_was_expected(self):
        memory = Memory(1000)
        memory.note("fit", 100)
        memory.note("fit", 90)
        assert memory.expected_mb("fit") == 100
        assert memory.fits("fit", ["fit"] * 9) and not memory.fits("fit", ["fit"] * 10)

    def test_one_task_at_a_time_where_memory_is_short(self, tmp_path):
        quietly([[task(tmp_path, name, pause=0.05)] for name in "abc"], jobs=3, memory_mb=1.0)
        begun_and_ended = [
            line.split()[1] for line in (tmp_path / "trace").read_text().splitlines()
        ]
        assert begun_and_ended == ["begins", "ends"] * 3

    def test_each_gpu_takes_one_task_and_the_others_see_none(self, tmp_path):
        code = "import os, sys, time; time.sleep(0.2); open(sys.argv[1], 'w').write(os.environ['CUDA_VISIBLE_DEVICES'])"

        def one(name: str, gpu: bool) -> Task:
            return Task(
                name,
                "fit",
                tmp_path / name,
                ("-S", "-c", code, str(tmp_path / f"{name}.p")),
                tmp_path / f"{name}.p",
                gpu=gpu,
            )

        pool = LocalPool(4, 1, 1e6, ["0", "5"])
        begun = [
            pool.start(one("a", True)),
            pool.start(one("b", True)),
            pool.start(one("c", False)),
        ]
        assert not pool.has_room(one("d", True)) and pool.has_room(one("d", False))
        for handle in begun:
            handle.child.wait()
            pool.ended(handle, handle.poll())
        assert pool.has_room(one("d", True))
        assert [(tmp_path / f"{name}.p").read_text() for name in "abc"] == ["0", "5", ""]

    def test_threads_are_told_to_the_program(self, tmp_path):
        code = "import os, sys; open(sys.argv[1], 'w').write(' '.join(os.environ[n] for n in sys.argv[2:]))"
        names = ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS", "LIKENESS_THREADS", "OPENBLAS_NUM_THREADS")
        one = Task(
            "a", "fit", tmp_path, ("-S", "-c", code, str(tmp_path / "p"), *names), tmp_path / "p"
        )
        handle = LocalPool(1, 3, 1e6).start(one)
        handle.child.wait()
        assert (tmp_path / "p").read_text() == "3 3 3 1"


class TestWatching:
    def test_progress_is_what_the_last_bar_says(self, tmp_path):
        child = Child(task(tmp_path, "a", units=2).command, tmp_path / "log", os.environ)
        child.wait()
        assert child.progress() == "working 100%, 30.1 dB" and child.code == 0 and child.peak_mb > 1

    def test_what_an_earlier_attempt_said_does_not_count(self, tmp_path):
        (tmp_path / "log").write_text("error: of old\nmattes:  10%|#")
        child = Child(("-S", "-c", "raise SystemExit(3)"), tmp_path / "log", os.environ)
        child.wait()
        assert child.progress() == "" and child.error() == "ended with code 3"


# Runs the fake subjects a and b with two jobs, as a program that a person stops.
_SCHEDULER = """
import sys
from pathlib import Path
import command_line
from likeness.collection.scheduler import LocalPool, run
from likeness.collection.view import View
from tests.collection.fake_work import chain
folder = Path(sys.argv[1])
def main():
    chains = [chain(folder, name, units=40, pause=0.05) for name in "ab"]
    run(chains, LocalPool(2, 1, 1e6), View("testing"))
command_line.run(main)
"""


def _begin(folder: Path) -> subprocess.Popen:
    command = [sys.executable, "-c", _SCHEDULER, str(folder)]
    found = subprocess.Popen(
        command, cwd=ROOT, stderr=subprocess.PIPE, text=True, preexec_fn=toys.hears_ctrl_c
    )
    wait_until(
        lambda: len(trace(folder, "begins")) >= 2 and (folder / "a-preprocess.place").exists(),
        "both began",
    )
    return found


@pytest.mark.parametrize(
    "number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL], ids=["int", "term", "kill"]
)
def test_stopped_or_killed_it_goes_on_where_it_was(number, tmp_path):
    program = _begin(tmp_path)
    children = [process(tmp_path, f"{name}-preprocess") for name in "ab"]
    program.send_signal(number)
    _, errors = program.communicate(timeout=30)
    assert (
        program.returncode == {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGKILL: -9}[number]
    ), errors
    assert "Traceback" not in errors
    wait_until(lambda: all(map(is_gone, children)), "the children ended too")
    assert sorted(trace(tmp_path, "saved")) == ["a-preprocess", "b-preprocess"]
    if number != signal.SIGKILL:
        assert state.load(task(tmp_path, "a", "preprocess")).status == state.STOPPED
    reached = int((tmp_path / "a-preprocess.place").read_text())
    assert 0 < reached < 40
    begun = time.monotonic()
    outcome, _ = quietly([chain(tmp_path, name, units=reached + 1) for name in "ab"])
    assert time.monotonic() - begun < 20 and not outcome.failures
    ends = trace(tmp_path, "ends")
    assert sorted(ends) == ["a-fit", "a-preprocess", "b-fit", "b-preprocess"]
    assert outcome.states["a/preprocess"].attempts == 2


def test_two_that_are_given_the_same_list_share_it(tmp_path, monkeypatch):
    """As two machines with one shared folder."""
    monkeypatch.setattr(scheduler, "_LOOK_AGAIN_S", 0.2)
    first = _begin(tmp_path)
    outcome, _ = quietly([chain(tmp_path, name, units=40, pause=0.05) for name in "abc"])
    assert first.wait(timeout=30) == 0, first.stderr.read()
    first.stderr.close()
    assert not outcome.failures and len(outcome.states) == 6
    assert sorted(trace(tmp_path, "begins")) == sorted(
        f"{n}-{s}" for n in "abc" for s in ("preprocess", "fit")
    )


def test_who_lost_its_claim_stops_and_writes_nothing(tmp_path):
    one = task(tmp_path, "a", units=400, pause=0.05)
    pool = LocalPool(1, 1, 1e6, stale_s=0.6)
    handle = pool.start(one)
    wait_until(lambda: trace(tmp_path, "begins"), "it began")
    (one.folder / "fit.claim-2").write_text(
        json.dumps({"machine": "other", "processes": [[1, "1"]]})
    )
    wait_until(lambda: handle.poll() is not None, "it noticed")
    assert handle.poll().status == state.STOPPED and state.load(one).status == state.STARTED
    assert "other" in claims.owner(one.folder, "fit") and is_gone(handle.child.pid)


def test_commands_of_real_tasks(tmp_path):
    (tmp_path / "a b.mp4").write_bytes(b"xx")
    subject = Subject("anna", tmp_path / "a b.mp4", {}, "here")
    options = {
        "size": 256,
        "start": None,
        "tracking": "landmarks",
        "minutes": 5.0,
        "overrides": ["a.b=1", "c=2"],
    }
    plain = preprocess_task(subject, Place(tmp_path), options, ("--offline",))
    assert plain.command[1:] == (
        str(tmp_path / "a b.mp4"),
        "--out",
        str(tmp_path / "captures" / "anna"),
        "--size=256",
        "--tracking=landmarks",
        "--offline",
    )
    judged = preprocess_task(subject, Place(tmp_path), options, (), limits={"max_cuts": 0})
    assert "--max-cuts=0" in judged.command and judged.judged_by == {"bytes": 2, "max_cuts": 0}
