"""Tasks of this machine: order, failures, resuming, GPUs, stopping."""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from likeness.collection import report, state
from likeness.collection.pool import run
from likeness.collection.subjects import Subject
from likeness.collection.tasks import Task, Workspace, preprocess_task
from likeness.collection.work import LocalWorkers
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
    assert again.ran == set() and len(trace(tmp_path, "begins")) == 6 and "6 of 6" in shown


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
    rows = report.summary(outcome)
    report.write_summary(tmp_path, rows)
    text = report.summary_text(tmp_path, outcome, rows)
    assert (
        "1 of 2 subjects are done" in text
        and str(failed.log) in text
        and "ValueError: broken" in text
    )
    assert [row["status"] for row in rows] == ["done", "failed"]
    assert json.loads((tmp_path / "summary.json").read_text())["subjects"] == rows

    begun = len(trace(tmp_path, "begins"))
    outcome, _ = quietly([chain(tmp_path, "good"), chain(tmp_path, "bad", units=4)])
    assert (
        outcome.ran == {"bad/preprocess", "bad/fit"} and len(trace(tmp_path, "begins")) == begun + 2
    )
    assert outcome.states["bad/preprocess"].attempts == 2 and not outcome.failures
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
    assert quietly([[refusing(1)]])[0].ran == set()
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
    assert outcome.ran == set() and len(outcome.states) == 2
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


def test_each_gpu_takes_one_task_and_the_others_see_none(tmp_path):
    code = (
        "import os, sys, time; open(sys.argv[1] + '.at', 'w').close(); time.sleep(0.4); "
        "open(sys.argv[1], 'w').write(os.environ['CUDA_VISIBLE_DEVICES'])"
    )

    def one(name: str, gpu: bool) -> Task:
        product = tmp_path / name
        command = ("-S", "-c", code, str(product))
        return Task(name, "fit", tmp_path / "tasks" / name, command, product, gpu=gpu)

    outcome, _ = quietly(
        [[one(name, True)] for name in "abcd"] + [[one("e", False)]], jobs=5, gpus=["0", "5"]
    )
    assert not outcome.failures
    on = {name: (tmp_path / name).read_text() for name in "abcde"}
    assert on.pop("e") == "" and sorted(on.values()) == ["0", "0", "5", "5"]
    for gpu in "05":  # one after the other
        first, second = sorted((n for n in on if on[n] == gpu), key=lambda n: _ended(tmp_path, n))
        assert (tmp_path / f"{second}.at").stat().st_mtime >= _ended(tmp_path, first)


def _ended(folder: Path, name: str) -> float:
    return (folder / name).stat().st_mtime


def test_threads_are_told_to_the_program(tmp_path):
    names = ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS", "LIKENESS_THREADS", "OPENBLAS_NUM_THREADS")
    code = f"import os; open('p', 'w').write(' '.join(os.environ[n] for n in {names}))"
    code = f"import os; os.chdir({str(tmp_path)!r}); {code}"
    one = Task("a", "fit", tmp_path, ("-S", "-c", code), tmp_path / "p")
    assert LocalWorkers(1, 3).do(one).status == state.DONE
    assert (tmp_path / "p").read_text() == "3 3 3 1"


def test_what_an_earlier_attempt_wrote_is_not_why_this_one_failed(tmp_path):
    one = Task("a", "fit", tmp_path, ("-S", "-c", "raise SystemExit(3)"), tmp_path / "p")
    one.log.write_text("error: of old\n")
    got = LocalWorkers(1, 1).do(one)
    assert got.error == "ended with code 3" and got.peak_mb > 1


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    one = Task("a", "fit", tmp_path / "file" / "tasks", ("-S", "-c", ""), tmp_path / "p")
    with pytest.raises(UserError, match="file/tasks"):
        quietly([[one]])


# Runs the fake subjects a and b with two jobs, as a program that a person stops.
_PROGRAM = """
import sys
from pathlib import Path
from likeness.cli import command_line
from likeness.collection.pool import run
from likeness.collection.work import LocalWorkers
from tests.collection.fake_work import chain
folder = Path(sys.argv[1])
def main():
    chains = [chain(folder, name, units=40, pause=0.05) for name in "ab"]
    run(chains, LocalWorkers(2, 1), "testing")
command_line.run(main)
"""


def _begin(folder: Path) -> subprocess.Popen:
    command = [sys.executable, "-c", _PROGRAM, str(folder)]
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


def test_a_second_ctrl_c_ends_at_once_what_does_not_stop(tmp_path):
    deaf = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); "
    deaf += f"open({str(tmp_path / 'at')!r}, 'w').close(); time.sleep(60)"
    one = Task("a", "fit", tmp_path, ("-S", "-c", deaf), tmp_path / "p")

    class Impatient(LocalWorkers):
        def stop(self) -> None:
            super().stop()
            raise KeyboardInterrupt

        def do(self, task: Task):
            threading.Thread(target=interrupt).start()
            return super().do(task)

    def interrupt() -> None:
        wait_until(lambda: (tmp_path / "at").exists(), "it began")
        os.kill(os.getpid(), signal.SIGINT)

    begun = time.monotonic()
    with pytest.raises(KeyboardInterrupt), contextlib.redirect_stderr(io.StringIO()):
        run([[one]], Impatient(1, 1), "testing")
    assert time.monotonic() - begun < 20 and state.load(one).status == state.STOPPED


def test_two_that_are_given_the_same_list_do_nothing_twice(tmp_path):
    first = _begin(tmp_path)
    outcome, _ = quietly([chain(tmp_path, name, units=40, pause=0.05) for name in "abc"])
    assert first.wait(timeout=30) == 0, first.stderr.read()
    first.stderr.close()
    assert not outcome.failures and len(outcome.states) == 6
    assert sorted(trace(tmp_path, "begins")) == sorted(
        f"{n}-{s}" for n in "abc" for s in ("preprocess", "fit")
    )


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
    plain = preprocess_task(subject, Workspace(tmp_path), options, ("--offline",))
    assert plain.command == (
        "-m",
        "likeness",
        "preprocess",
        str(tmp_path / "a b.mp4"),
        "--out",
        str(tmp_path / "captures" / "anna"),
        "--size=256",
        "--tracking=landmarks",
        "--offline",
    )
    judged = preprocess_task(subject, Workspace(tmp_path), options, (), limits={"max_cuts": 0})
    assert "--max-cuts=0" in judged.command and judged.judged_by == {"bytes": 2, "max_cuts": 0}
