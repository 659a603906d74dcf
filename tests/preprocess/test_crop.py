"""The crop around the head and the camera that follows it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from likeness.preprocess.crop import Crop, choose_crop, crop_camera, focal_pixels
from likeness.preprocess.video import VideoInfo
from tests.preprocess.test_selection import face


def info(width, height, focal_35mm=None):
    return VideoInfo(Path("a.mp4"), width, height, 0, 30.0, 0, focal_35mm)


def clip(x, y, size, sway=0.0, frames=40):
    return np.stack([face(x + sway * np.sin(t / 5), y, size) for t in range(frames)])


def test_the_head_is_framed_with_hair_and_shoulders():
    crop = choose_crop(clip(960, 500, 200), 1920, 1080)
    assert 2.4 < crop.side / 200 < 2.9
    forehead, chin = 400 - crop.top, 600 - crop.top
    assert 0.3 < forehead / crop.side < 0.4 and 0.65 < chin / crop.side < 0.8
    assert abs(crop.left + crop.side / 2 - 960) < 5


@pytest.mark.parametrize(("x", "y"), [(60, 60), (1900, 60), (60, 1040), (1900, 1040), (960, 540)])
def test_the_crop_stays_inside_the_picture(x, y):
    crop = choose_crop(clip(x, y, 200), 1920, 1080)
    assert crop.left >= 0 and crop.top >= 0
    assert crop.left + crop.side <= 1920 and crop.top + crop.side <= 1080


def test_the_crop_holds_the_head_wherever_it_goes():
    points = clip(960, 500, 200, sway=300)
    crop = choose_crop(points, 1920, 1080)
    inside = crop.points(points, 512)
    assert inside.min() > 20 and inside.max() < 492


def test_a_tight_square_is_taken_whole():
    for size in (160, 200, 300):
        assert choose_crop(clip(256, 280, size), 512, 512) == Crop(0, 0, 512)
    assert choose_crop(clip(256, 280, 100), 512, 512).side < 300
    assert choose_crop(clip(320, 240, 400), 640, 480).side == 480


def test_camera_and_points_follow_the_crop():
    crop, size = Crop(700, 100, 600), 512
    camera = crop_camera(info(1920, 1080), crop, 2000.0, size)
    full = torch.tensor([[2000.0, 0, 960], [0, 2000.0, 540], [0, 0, 1]])
    points = torch.tensor([[0.05, -0.02, 1.0], [-0.1, 0.08, 1.3]])
    pixels = points @ full.T
    pixels = (pixels[:, :2] / pixels[:, 2:]).numpy()
    np.testing.assert_allclose(
        camera.project(points)[0].numpy(), crop.points(pixels, size), atol=1e-3
    )
    assert (camera.width, camera.height) == (512, 512)


def test_pictures_are_cut_and_resized_where_the_points_say():
    image = np.zeros((200, 300, 3), np.uint8)
    image[60:64, 140:144] = 255
    crop = Crop(100, 20, 100)
    small, same, large = (crop.apply(image, size) for size in (50, 100, 400))
    for picture, size in ((small, 50), (same, 100), (large, 400)):
        assert picture.shape == (size, size, 3) and picture.dtype == np.uint8
        y, x = np.argwhere(picture[..., 0] > 100).mean(0) + 0.5
        expected = crop.points(np.array([[142.0, 62.0]]), size)[0]
        np.testing.assert_allclose((x, y), expected, atol=0.6)


def test_focal_length_given_from_metadata_or_assumed():
    assert focal_pixels(info(1920, 1080), 1.5) == (2880.0, "given")
    from_file, source = focal_pixels(info(1920, 1080, focal_35mm=26.0), None)
    assert (
        from_file == pytest.approx(26 / 43.2666 * np.hypot(1920, 1080), rel=1e-3)
        and "metadata" in source
    )
    assert focal_pixels(info(512, 512), None)[0] == 2.5 * 512
    assert focal_pixels(info(1080, 1920), None)[0] == 1920
