"""The landmark detector on a photograph that ships with scikit-image."""

from __future__ import annotations

import numpy as np

from likeness.head_models.landmarks import CHIN, EYE_CORNERS, FOREHEAD
from likeness.preprocess.landmarks import detect, eye_distances
from tests.preprocess import videos


def test_points_are_pixels_in_the_order_of_the_detector():
    found = detect([videos.portrait(256)] * 3)
    assert found.points.shape == (3, 478, 2) and found.points.dtype == np.float32
    assert found.found.all() and found.num_faces.tolist() == [1, 1, 1]
    right_eye, left_eye = (found.points[-1, i] for i in EYE_CORNERS)
    assert right_eye[0] < left_eye[0]  # the subject's right is at the image's left
    assert found.points[-1, FOREHEAD, 1] < right_eye[1] < found.points[-1, CHIN, 1]
    assert 40 < eye_distances(found.points[-1]) < 80


def test_points_scale_with_the_picture():
    small, large = (detect([videos.portrait(size)] * 3).points[-1] for size in (256, 512))
    np.testing.assert_allclose(large / 2, small, atol=2)


def test_pictures_without_a_face():
    blank = np.full((128, 128, 3), 90, np.uint8)
    found = detect([blank, videos.portrait(128), blank])
    assert found.found.tolist() == [False, True, False]
    assert found.num_faces.tolist() == [0, 1, 0]
    assert detect([]).points.shape == (0, 478, 2)


def test_of_two_faces_the_one_that_was_followed_stays():
    large, small = videos.portrait(256), videos.portrait(192)
    small = np.pad(small, ((64, 0), (0, 0), (0, 0)))
    both = np.concatenate([large, small], 1)
    found = detect([both] * 4)
    assert found.num_faces.max() == 2
    assert (found.points[:, :, 0].mean(1) < 256).all()


def test_the_detector_is_silent(capfd):
    detect([videos.portrait(256)] * 5)
    captured = capfd.readouterr()
    assert captured.err == "" and captured.out == ""
