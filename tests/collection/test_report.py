"""A folder of videos as a collection: names, the report."""

from __future__ import annotations

import os

import pytest

from likeness.collection import report, state
from likeness.collection.pool import Outcome
from likeness.collection.state import TaskState
from likeness.collection.subjects import find_videos
from likeness.collection.tasks import Workspace, preprocess_task
from likeness.preprocess.acceptance import Limits, check
from likeness.scene.errors import UnusableVideo, UserError


def touch(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x")


def test_videos_are_found_and_named_after_their_paths(tmp_path):
    touch(tmp_path, "b.MP4", "a/1.mov", "a/1.mp4", "a/notes.txt", ".hidden/c.mp4", "._b.mp4")
    found = find_videos(tmp_path)
    assert [(subject.name, subject.video) for subject in found] == [
        ("a__1.mov", tmp_path / "a/1.mov"),
        ("a__1.mp4", tmp_path / "a/1.mp4"),
        ("b", tmp_path / "b.MP4"),
    ]


def test_a_name_stays_when_others_come(tmp_path):
    touch(tmp_path, "b/x.mp4")
    before = find_videos(tmp_path)[0].name
    touch(tmp_path, "a/x.mp4", "x.mp4")
    assert before in {subject.name for subject in find_videos(tmp_path)}


def test_folders_without_videos_and_names_that_clash(tmp_path):
    with pytest.raises(UserError, match="not a folder"):
        find_videos(tmp_path / "nowhere")
    with pytest.raises(UserError, match="holds no video"):
        find_videos(tmp_path)
    touch(tmp_path, "a b.mp4", "a&b.mp4")
    with pytest.raises(UserError, match="a b.mp4 and a&b.mp4|a&b.mp4 and a b.mp4"):
        find_videos(tmp_path)


def test_the_report_tells_accepted_refused_failed_and_unfinished(tmp_path):
    touch(tmp_path, "v/a.mp4", "v/b.mp4", "v/c.mp4", "v/d.mp4")
    subjects, workspace = find_videos(tmp_path / "v"), Workspace(tmp_path / "out")
    chains = tuple(
        (preprocess_task(subject, workspace, {}, (), limits={}),) for subject in subjects
    )
    states = {
        "a/preprocess": TaskState(state.DONE, result={"frames": 40, "residual": 1.25}),
        "b/preprocess": TaskState(
            state.REFUSED, error="b.mp4: no face was found", reason="no face"
        ),
        "c/preprocess": TaskState(state.FAILED, error="ended by SIGKILL"),
    }
    outcome = Outcome(chains, states)
    found = report.collection_report(tmp_path / "v", workspace, subjects, outcome, {})
    assert found["counts"] == {"accepted": 1, "refused": 1, "failed": 1, "unfinished": 1}
    assert found["reasons"] == {"no face": 1} and found["frames"] == 40
    assert [entry["video"] for entry in found["videos"]] == ["a.mp4", "b.mp4", "c.mp4", "d.mp4"]
    report.write_collection(workspace.root, found)
    text = (tmp_path / "out/report.txt").read_text()
    assert (
        "4 videos: 1 accepted, 1 failed, 1 refused, 1 unfinished; 40 frames" in text
        and "1.25" in text
    )
    assert "no face: b.mp4: no face was found" in text
    assert (tmp_path / "out/captures.txt").read_text() == "captures/a\n"
    assert "ended by SIGKILL" in report.collection_text(workspace.root, found, outcome)


@pytest.mark.skipif(os.name == "nt", reason="names are text there")
def test_a_name_that_is_no_text_is_known_again_and_reported(tmp_path):
    touch(tmp_path, os.fsdecode(b"v/gr\xfcn.mp4"))
    subjects, workspace = find_videos(tmp_path / "v"), Workspace(tmp_path / "out")
    task = preprocess_task(subjects[0], workspace, {}, ())
    task.product.parent.mkdir(parents=True)
    task.product.touch()
    state.save(task, TaskState(state.DONE, options=task.options))
    done = state.finished(task)
    assert (
        done is not None
        and os.fsencode(task.command[3]) == os.fsencode(tmp_path) + b"/v/gr\xfcn.mp4"
    )
    outcome = Outcome(((task,),), {task.key: done})
    found = report.collection_report(tmp_path / "v", workspace, subjects, outcome, {})
    report.write_collection(workspace.root, found)
    assert r"gr\\xfcn.mp4" in (tmp_path / "out/report.json").read_text()


@pytest.mark.parametrize(
    "figures, limits, reason",
    [
        ({"cuts": 1}, {"max_cuts": 0}, "cuts"),
        ({"crowded": 0.2}, {"max_crowded": 0.1}, "several persons"),
        ({"residual": 2.1}, {"max_residual": 2.0}, "tracking poor"),
        ({"eye_distance": 39.0}, {"min_eye_distance": 40.0}, "face too small"),
    ],
)
def test_limits(figures, limits, reason, tmp_path):
    with pytest.raises(UnusableVideo, match="me.mp4.*the limit is at") as error:
        check(tmp_path / "me.mp4", figures, Limits(**limits))
    assert error.value.reason == reason
    check(tmp_path / "me.mp4", figures, Limits())
    check(tmp_path / "me.mp4", {}, Limits(**limits))  # not known yet
    ((name, value),) = limits.items()
    # at the limit is within it
    check(tmp_path / "me.mp4", {name.split("_", 1)[1]: value}, Limits(**limits))


def test_limits_that_mean_nothing():
    with pytest.raises(UserError, match="max_cuts"):
        Limits(max_cuts=-1)
