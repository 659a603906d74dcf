"""The list of subjects: what a line says, and what is wrong with one."""

from __future__ import annotations

import pytest

from likeness.collection.subjects import merged, name_from, only, read_list
from likeness.scene.errors import UserError


@pytest.fixture
def folder(tmp_path):
    for name in ("a.mp4", "b c.mp4", "clips/a.mp4"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    return tmp_path


def written(folder, text):
    (folder / "list.txt").write_text(text, encoding="utf-8")
    return folder / "list.txt"


def test_lines_comments_quotes_and_options(folder):
    text = """\ufeff# two people
    a.mp4   name=anna  minutes=5 seed=3   # the first

    'b c.mp4' size=256 tracking=landmarks
    """
    anna, other = read_list(written(folder, text))
    assert (anna.name, anna.video, anna.options) == (
        "anna",
        folder / "a.mp4",
        {"minutes": 5.0, "seed": 3},
    )
    assert (other.name, other.options) == ("b-c", {"size": 256, "tracking": "landmarks"})
    assert other.where.endswith("list.txt:4")


@pytest.mark.parametrize(
    "text, words",
    [
        ("nowhere.mp4", ["list.txt:1", "nowhere.mp4", "no such video"]),
        ("\na.mp4 minutes=soon", ["list.txt:2", "minutes", "'soon'"]),
        ("a.mp4 minutes=-1", ["minutes", "above 0"]),
        ("a.mp4 minutes=nan", ["minutes"]),
        ("a.mp4 minutes=1e300", ["minutes", "at most 1e+06"]),
        ("a.mp4 iterations=1000000000000", ["iterations", "from 1 to 1000000000"]),
        (f"a.mp4 iterations={'9' * 5000}", ["iterations", "from 1 to 1000000000"]),
        ("a.mp4 minutes=1 minutes=2", ["minutes is given twice"]),
        ("a.mp4 name=x name=y", ["name is given twice"]),
        ("a.mp4 minutes=1 iterations=5", ["minutes and iterations"]),
        ("a.mp4 minuts=5", ["unknown option 'minuts'", "minutes"]),
        ("a.mp4 five", ["key=value", "'five'"]),
        ("a.mp4 name=../b", ["name", "'../b'"]),
        ("a.mp4 name=", ["name"]),
        ("a.mp4 tracking=magic", ["pictures or landmarks"]),
        ("'a.mp4", ["list.txt:1", "quotes"]),
        ("a.mp4\nclips/a.mp4", ["list.txt:2", "'a'", "list.txt:1", "name="]),
        ("a.mp4\nclips/a.mp4 name=A", ["list.txt:2", "list.txt:1"]),
        ("# nothing", ["holds no subject"]),
    ],
)
def test_errors_name_file_and_line(folder, text, words):
    with pytest.raises(UserError) as error:
        read_list(written(folder, text))
    for word in words:
        assert word in str(error.value), str(error.value)


def test_a_list_that_is_missing_or_no_text(tmp_path):
    with pytest.raises(UserError, match="nowhere: not found; expected the list of subjects"):
        read_list(tmp_path / "nowhere")
    (tmp_path / "film").write_bytes(b"\xff\x00\xfe")
    with pytest.raises(UserError, match="not text"):
        read_list(tmp_path / "film")


def test_only_one(folder):
    subjects = read_list(written(folder, "a.mp4\nclips/a.mp4 name=second"))
    assert only(subjects, 2) == (subjects[1],) and only(subjects, None) == subjects
    with pytest.raises(UserError, match="--only 3: there are 2"):
        only(subjects, 3)


def test_what_is_nearer_to_the_subject_counts():
    common = {"minutes": 10, "iterations": None, "size": 512, "preset": "default"}
    assert merged(common, {"size": 256}) == {"minutes": 10, "size": 256, "preset": "default"}
    assert merged(common, {"iterations": 40}) == {
        "iterations": 40,
        "size": 512,
        "preset": "default",
    }


def test_any_text_makes_a_name():
    assert name_from("../Zoë & co.mp4") == "Zo-co.mp4" and name_from("…") == "subject"
    assert len(name_from("folder__" * 60)) <= 180 and name_from("a" * 300 + "b") != name_from(
        "a" * 300 + "c"
    )
