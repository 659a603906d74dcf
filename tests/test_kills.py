"""The benchmark of kills: that it finds what is not equal, and one kill of each program."""

from __future__ import annotations

import pytest

from benchmarks.kills import Job, differences, fitting, preprocessing, trials
from tests.preprocess import videos

COUNTER = """
import json, pathlib, sys, time
folder = pathlib.Path(sys.argv[sys.argv.index("--out") + 1])
folder.mkdir(exist_ok=True)
(folder / "begun").touch()
lines = (folder / "lines").read_text().split() if (folder / "lines").exists() else []
for number in range({first}, 10):
    lines.append(str(number))
    (folder / "lines.new").write_text(" ".join(lines))
    (folder / "lines.new").rename(folder / "lines")
    time.sleep(0.05)
"""


@pytest.mark.parametrize(("first", "equal"), [("len(lines)", True), ("0", False)])
def test_what_is_not_equal_after_a_kill_is_reported(tmp_path, first, equal):
    def result(folder):
        return {"lines": (folder / "lines").read_text()}

    job = Job("count", COUNTER.format(first=first), (), "begun", result)
    calm, wrong = trials(job, 2, tmp_path, seed=1)
    assert (calm / "lines").read_text() == "0 1 2 3 4 5 6 7 8 9"
    assert (wrong == []) == equal and all("differs in 1: lines" in line for line in wrong)


def test_differences_name_what_is_missing_too():
    assert differences({"a": "1", "b": "2"}, {"b": "3", "c": "4"}) == ["a", "b", "c"]
    assert differences({"a": "1"}, {"a": "1"}) == []


@pytest.mark.slow
def test_a_kill_of_preprocessing_and_of_a_fit_changes_nothing(tmp_path):
    video = videos.write_video(tmp_path / "face.avi", videos.face_images(36), codec="MJPG")
    capture, wrong = trials(preprocessing(video, 96, 10.0), 1, tmp_path, seed=0)
    assert wrong == []
    assert trials(fitting(capture, 10), 1, tmp_path, seed=0)[1] == []
