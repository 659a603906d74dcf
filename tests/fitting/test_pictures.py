from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch

from fitting.pictures import error_map, to_uint8, write_side_by_side


def _read(path) -> list[np.ndarray]:
    reader, frames = cv2.VideoCapture(str(path)), []
    while (frame := reader.read())[0]:
        frames.append(frame[1][..., ::-1])
    return frames


def test_film_shows_the_pictures_side_by_side(tmp_path):
    left, right = np.zeros((63, 40, 3), np.uint8), torch.ones(63, 41, 3)
    path = tmp_path / "film.mp4"
    write_side_by_side(path, ((left + 20 * k, right) for k in range(5)), 25)
    frames = _read(path)
    assert len(frames) == 5 and frames[0].shape == (64, 82, 3)
    for k, frame in enumerate(frames):
        assert abs(frame[20:40, 5:35].mean() - 20 * k) < 6 and frame[20:40, 45:75].mean() > 245
    assert [file.name for file in tmp_path.iterdir()] == ["film.mp4"]


def test_nothing_and_changing_sizes_leave_no_file(tmp_path):
    path = tmp_path / "film.mp4"
    with pytest.raises(ValueError, match="no frames"):
        write_side_by_side(path, [], 25)
    sizes = [[np.zeros((8, 8, 3), np.uint8)], [np.zeros((16, 8, 3), np.uint8)]]
    with pytest.raises(ValueError, match=r"\[16, 8, 3\]"):
        write_side_by_side(path, sizes, 25)
    assert not list(tmp_path.iterdir())


def test_error_map_is_dark_where_equal_and_bright_where_not():
    truth = torch.full((8, 8, 3), 0.5)
    avatar = truth.clone()
    avatar[:, 4:] = 0.9
    heat = error_map(truth, avatar)
    assert heat.dtype == np.uint8 and heat[:, :4].max() < 10 and heat[:, 4:].mean() > 150


def test_to_uint8_rounds_and_clips():
    assert to_uint8(np.array([-1.0, 0.5, 2.0])).tolist() == [0, 128, 255]
