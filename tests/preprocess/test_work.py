"""Work files that are damaged: read by their declared contents, refused, and made anew with all
that follows."""

from __future__ import annotations

import logging

import numpy as np
import pytest

from likeness.preprocess import frames
from likeness.preprocess.frames import FrameFiles
from likeness.preprocess.work import Work
from likeness.scene.errors import UserError
from likeness.scene.files import write_json
from likeness.scene.image_files import is_whole_png, save_image
from likeness.scene.reading import read_json


def stages(folder, key="a"):
    """Runs three stages that keep numbers; which of them were made."""
    made = []

    def make(name):
        made.append(name)
        return [len(name)]

    work = Work(folder, key, False)
    for name in ("one", "two", "three"):
        read = lambda path: read_json(path, list[int], "numbers")  # noqa: E731
        assert work.result(f"{name}.json", read, lambda name=name: make(name), write_json) == [
            len(name)
        ]
    return made


def test_what_is_there_is_read(tmp_path):
    assert stages(tmp_path / "work") == ["one", "two", "three"] and stages(tmp_path / "work") == []


@pytest.mark.parametrize("content", [b"", b"{}", b"[1", b"\x00" * 100])
def test_a_damaged_file_and_all_that_follow_are_made_anew(tmp_path, caplog, content):
    stages(tmp_path / "work")
    (tmp_path / "work" / "two.json").write_bytes(content)
    with caplog.at_level(logging.WARNING):
        assert stages(tmp_path / "work") == ["two", "three"]
    assert [record.getMessage().count("two.json") for record in caplog.records] == [1]
    assert stages(tmp_path / "work") == []


@pytest.mark.parametrize("content", [b"", b"{}", b"[]", b'{"source_hash": 5, "seconds": {}}'])
def test_without_a_state_nothing_is_believed(tmp_path, content):
    stages(tmp_path / "work")
    (tmp_path / "work" / "state.json").write_bytes(content)
    assert (
        stages(tmp_path / "work") == ["one", "two", "three"] and Work.key(tmp_path / "work") == "a"
    )


def test_work_on_something_else_is_refused(tmp_path):
    stages(tmp_path / "work")
    with pytest.raises(UserError, match="another video"):
        Work(tmp_path / "work", "b", False)


def test_pictures_are_checked_to_their_last_byte(tmp_path):
    files = FrameFiles(tmp_path)
    Work(tmp_path / "work", "a", False)
    rng = np.random.default_rng(0)
    for position in range(4):
        for path in (files.image(position), files.matte(position)):
            save_image(path, rng.integers(0, 255, (16, 16), np.uint8))
    whole = files.matte(0).read_bytes()
    assert is_whole_png(files.matte(0))
    for place in (0, 10, 20, len(whole) // 2, len(whole) - 1):
        files.matte(0).write_bytes(whole[:place] + bytes([whole[place] ^ 4]) + whole[place + 1 :])
        assert not is_whole_png(files.matte(0)), place
    files.matte(1).write_bytes(b"")
    files.image(2).write_bytes(whole[:-1])
    Work(tmp_path / "work", "a", False).frames(files)
    assert [files.done(position) for position in range(4)] == [False, False, False, True]
    (tmp_path / "work" / "state.json").write_bytes(b"{}")
    Work(tmp_path / "work", "a", False).frames(files)
    assert files.present() == []


def test_images_are_read_once_until_they_change(tmp_path, monkeypatch):
    files = FrameFiles(tmp_path)
    (tmp_path / "work").mkdir()
    for position in range(3):
        save_image(files.image(position), np.zeros((4, 4), np.uint8))
    read = []
    monkeypatch.setattr(
        frames, "is_whole_png", lambda path: read.append(path) or is_whole_png(path)
    )
    assert files.damaged() == [] and len(read) == 3
    assert files.damaged() == [] and len(read) == 3
    files.image(1).write_bytes(files.image(1).read_bytes()[:-1])
    assert files.damaged() == files.damaged() == [files.image(1)]


def test_pictures_of_somebody_else_are_left_alone(tmp_path):
    save_image(FrameFiles(tmp_path).image(0), np.zeros((4, 4), np.uint8))
    save_image(tmp_path / "images" / "me.png", np.zeros((4, 4), np.uint8))
    with pytest.raises(UserError, match="holds images already"):
        Work(tmp_path / "work", "a", False)
    assert len(list(tmp_path.rglob("*.png"))) == 2
    assert [path.name for path in FrameFiles(tmp_path).present()] == ["000000.png"]
