"""The same tasks on a Ray cluster of two workers, one of which is killed in the middle of its
task."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from likeness.collection import state
from likeness.collection.pool import run
from likeness.collection.ray_cluster import threads_for
from likeness.scene.errors import UserError
from tests.collection.fake_work import chain, is_gone, process, trace, wait_until

ROOT = Path(__file__).parents[2]
has_ray = pytest.mark.skipif(
    importlib.util.find_spec("ray") is None, reason="the package ray is not installed (extra ray)"
)


@pytest.fixture(scope="module")
def cluster():
    """Two workers on this machine."""
    from likeness.collection.ray_cluster import RayWorkers

    workers = RayWorkers("local", threads=1, local_cores=2)
    yield workers
    workers.close()


def _run_on(workers, chains):
    with contextlib.redirect_stderr(io.StringIO()):
        return run(chains, workers, "testing")


@has_ray
def test_a_killed_workers_subject_is_taken_up_again_and_nothing_is_done_twice(cluster, tmp_path):
    names = ["a", "b", "c"]
    got = {}
    chains = [chain(tmp_path, name, units=12, pause=0.1) for name in names]
    thread = threading.Thread(target=lambda: got.update(outcome=_run_on(cluster, chains)))
    thread.start()
    try:
        place = tmp_path / "a-preprocess.place"
        wait_until(
            lambda: place.exists() and int(place.read_text()) >= 3,
            "a was in the middle of its work",
            60,
        )
        child, worker = (
            process(tmp_path, "a-preprocess"),
            process(tmp_path, "a-preprocess", parent=True),
        )
        assert worker != os.getpid()
        os.kill(worker, signal.SIGKILL)
        wait_until(lambda: is_gone(child), "what the worker had begun ended with it")
    finally:
        thread.join(timeout=120)
    outcome = got["outcome"]
    assert not outcome.failures and {entry.status for entry in outcome.states.values()} == {
        state.DONE
    }
    tasks = sorted(f"{name}-{stage}" for name in names for stage in ("preprocess", "fit"))
    assert sorted(trace(tmp_path, "ends")) == tasks
    lines = [line.split() for line in (tmp_path / "trace").read_text().splitlines()]
    # two workers, and a third after the kill
    assert len({line[3] for line in lines if line[1] == "begins"}) >= 3
    begins = trace(tmp_path, "begins")
    # the killed one alone, once more
    assert begins.count("a-preprocess") == 2 and len(begins) == len(tasks) + 1
    assert outcome.states["a/preprocess"].attempts == 2
    assert _run_on(cluster, chains).ran == set() and len(trace(tmp_path, "begins")) == len(begins)


@has_ray
def test_a_failed_task_is_a_failure_and_not_tried_again_by_the_cluster(cluster, tmp_path):
    outcome = _run_on(cluster, [chain(tmp_path, "bad", units=4, breaks=1), chain(tmp_path, "good")])
    ((task, got),) = outcome.failures
    assert task.key == "bad/preprocess" and got.error == "ValueError: broken"
    assert trace(tmp_path, "begins").count("bad-preprocess") == 1 and "good-fit" in trace(
        tmp_path, "ends"
    )


def test_threads_are_those_of_the_largest_machine_at_most():
    assert threads_for(None, 64) == 4 and threads_for(None, 2) == 2 and threads_for(8, 8) == 8
    with pytest.raises(
        UserError, match="--threads 16: no machine of the cluster has more than 8 cores"
    ):
        threads_for(16, 8)


def test_without_ray_the_command_that_installs_it_is_named(tmp_path):
    (tmp_path / "a.mp4").write_bytes(b"x")
    (tmp_path / "list.txt").write_text("a.mp4")
    code = "import sys; sys.modules['ray'] = None; sys.argv = sys.argv[1:]; import runpy; " + (
        "runpy.run_path(sys.argv[0], run_name='__main__')"
    )
    command = [
        sys.executable,
        "-c",
        code,
        str(ROOT / "fit_subject.py"),
        "--list",
        str(tmp_path / "list.txt"),
        "--out",
        str(tmp_path / "out"),
        "--cluster",
        "ray",
    ]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert result.returncode == 2 and result.stderr.count("\n") == 1, result.stderr
    assert "pip install" in result.stderr and "ray==" in result.stderr
