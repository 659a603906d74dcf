"""Names that others chose: bytes that are no text, too long, not printable."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from likeness.scene.foreign_paths import MAX_NAME, folder_name, shown, utf8_path
from likeness.scene.image_files import load_image, save_image

no_text = pytest.mark.skipif(os.name == "nt", reason="names are text there")
NOT_UTF8 = os.fsdecode(b"gr\xfc\xdfe.png")


@no_text
def test_a_name_that_is_no_text_is_given_as_a_link_for_reading_and_writing(tmp_path):
    path = tmp_path / NOT_UTF8
    with utf8_path(path) as name:
        assert name.isascii() and name.endswith(".png")
        Path(name).write_bytes(b"new")
    assert path.read_bytes() == b"new" and not Path(name).parent.exists()
    with utf8_path(tmp_path / "grün.png") as name:
        assert name == str(tmp_path / "grün.png")


def test_a_path_is_never_an_address(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with utf8_path(Path("rtsp:a.mp4")) as name:
        assert Path(name) == tmp_path / "rtsp:a.mp4"


@no_text
def test_pictures_with_names_that_are_no_text(tmp_path):
    import cv2

    picture = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)
    save_image(tmp_path / NOT_UTF8, picture)
    np.testing.assert_array_equal(load_image(tmp_path / NOT_UTF8, cv2.IMREAD_COLOR), picture)


@pytest.mark.parametrize("content", [None, b"", b"no picture", b"\x89PNG\r\n\x1a\n" + bytes(20)])
def test_what_is_no_picture_is_none(tmp_path, content):
    if content is not None:
        (tmp_path / "a.png").write_bytes(content)
    assert load_image(tmp_path / "a.png", 1) is None


def test_names_as_text():
    assert shown(Path("/a/grün.png")) == "/a/grün.png" and shown(NOT_UTF8) == r"gr\xfc\xdfe.png"


def test_names_of_folders_fit_and_can_be_printed(tmp_path):
    assert (
        folder_name("me") == "me"
        and folder_name("Zoë & co") == "Zoë & co"
        and folder_name("") == "_"
    )
    assert folder_name(f"a\x1b[31m\n{NOT_UTF8}/b") == "a_[31m_gr__e.png_b"
    long = [folder_name("é" * 127 + ending) for ending in "ab"]
    assert long[0] != long[1] and all(len(name.encode()) <= MAX_NAME for name in long)
    assert long[0].startswith("é" * 80)
    (tmp_path / long[0]).mkdir()
