from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from likeness.fitting import metrics
from likeness.fitting.evaluation import REGIONS, SHARES, Evaluation, evaluate, finite
from likeness.fitting.image_regions import (
    border_band,
    box_around,
    error_masks,
    face_boxes,
    head_box,
)
from likeness.scene.capture import TrackedFrames
from likeness.scene.errors import UserError
from likeness.scene.frame_images import composite, load_rgba
from tests.fitting import synthetic_run


@pytest.fixture(scope="module")
def capture(tmp_path_factory):
    return synthetic_run.make_capture(tmp_path_factory.mktemp("capture"))


def _truth(capture, index: int) -> torch.Tensor:
    return composite(load_rgba(capture.frames[index]))


def _noisy(capture):
    def render(index: int) -> torch.Tensor:
        generator = torch.Generator().manual_seed(index)
        truth = _truth(capture, index)
        return (truth + 0.1 * torch.randn(truth.shape, generator=generator)).clamp(0, 1)

    return render


def test_metrics_equal_scikit_image():
    generator = np.random.default_rng(0)
    a = generator.uniform(0, 1, (48, 60, 3)).astype(np.float32)
    b = np.clip(a + generator.normal(0, 0.1, a.shape), 0, 1).astype(np.float32)
    x, y = torch.from_numpy(a), torch.from_numpy(b)
    assert metrics.psnr(x, y) == pytest.approx(
        peak_signal_noise_ratio(b, a, data_range=1), abs=1e-5
    )
    options = dict(
        gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=1, channel_axis=2
    )
    double = (a.astype(np.float64), b.astype(np.float64))
    assert metrics.ssim(x, y) == pytest.approx(structural_similarity(*double, **options), abs=1e-9)
    assert metrics.l1(x, y) == pytest.approx(np.abs(double[0] - double[1]).mean(), abs=1e-9)
    mask = torch.zeros(48, 60, dtype=torch.bool)
    assert math.isnan(metrics.psnr(x, y, mask))
    mask[:10, :10] = True
    assert metrics.psnr(x, y, mask) == pytest.approx(metrics.psnr(x[:10, :10], y[:10, :10]))
    assert metrics.psnr(x, x) == math.inf


def test_evaluation_takes_the_mean_of_the_frames(capture):
    render = _noisy(capture)
    evaluation = evaluate(render, capture, capture.test)
    expected = [metrics.psnr(render(index), _truth(capture, index)) for index in capture.test]
    assert evaluation.heldout["psnr"] == pytest.approx(sum(expected) / len(expected), abs=1e-6)
    assert evaluation.heldout["lpips"] is None
    assert sum(evaluation.error_share.values()) == pytest.approx(1)
    assert set(evaluation.regions) == set(REGIONS) and set(evaluation.error_share) == set(SHARES)


@pytest.mark.parametrize("share", SHARES)
def test_error_shares_find_where_the_error_is(capture, share):
    def render(index: int) -> torch.Tensor:
        picture = _truth(capture, index)
        mask = error_masks(capture.frames[index], load_rgba(capture.frames[index])[..., 3])[share]
        picture[torch.from_numpy(mask)] += 0.5 * torch.where(
            picture[torch.from_numpy(mask)] > 0.5, -1, 1
        )
        return picture

    evaluation = evaluate(render, capture, capture.test)
    assert evaluation.error_share[share] == pytest.approx(1)


def test_region_sees_only_its_own_error(capture):
    box = face_boxes(capture.frames[0])["mouth"][0]

    def render(index: int) -> torch.Tensor:
        picture = _truth(capture, index)
        picture[box.slices] = 1 - picture[box.slices]
        return picture

    found = evaluate(render, capture, [0]).frames[0]
    assert found.regions["mouth"] < 20 and found.regions["face"] < 30
    assert found.regions["eyes"] == 100  # matched exactly: capped, so that means stay finite


def test_lpips_is_measured_where_given(capture):
    evaluation = evaluate(_noisy(capture), capture, capture.test, lambda a, b: (a - b).abs().mean())
    assert evaluation.heldout["lpips"] == pytest.approx(evaluation.heldout["l1"], rel=1e-5)


def test_json_is_plain_and_finite(capture):
    exact = evaluate(lambda index: _truth(capture, index), capture, capture.test).to_json()
    assert exact["error_share"] == dict.fromkeys(SHARES)
    assert exact["heldout"]["psnr"] == 100
    assert len(exact["per_frame"]) == 2 and exact["per_frame"][0]["name"] == "000004"
    json.dumps(exact, allow_nan=False)
    empty = Evaluation(()).to_json()
    assert empty["heldout"] == dict.fromkeys(("l1", "psnr", "ssim", "lpips"))
    assert finite({"a": [math.nan, (1.0, math.inf)]}) == {"a": [None, [1.0, None]]}


def test_a_region_outside_the_picture_is_left_out(capture, tmp_path):
    import dataclasses

    frame = dataclasses.replace(capture.frames[0], landmarks=capture.frames[0].landmarks + 1000)
    moved = dataclasses.replace(capture, frames=TrackedFrames.stack([frame, *capture.frames[1:]]))
    evaluation = evaluate(_noisy(moved), moved, [0])
    assert evaluation.regions["mouth"]["psnr"] is None and evaluation.heldout["psnr"] is not None
    json.dumps(evaluation.to_json(), allow_nan=False)


def test_wrong_size_and_damaged_pictures_are_named(capture, tmp_path):
    with pytest.raises(ValueError, match=r"\[64, 64, 3\]"):
        evaluate(lambda index: torch.zeros(32, 32, 3), capture, [0])
    broken = synthetic_run.make_capture(tmp_path)
    broken.frames[0].image_path.write_bytes(b"no picture")
    with pytest.raises(UserError, match="000000.png: damaged"):
        evaluate(lambda index: torch.zeros(64, 64, 3), broken, [0])


def test_error_masks_part_the_picture_and_lie_where_they_should(capture):
    frame, matte = capture.frames[0], synthetic_run.matte()
    masks = error_masks(frame, matte)
    assert (sum(mask.astype(int) for mask in masks.values()) == 1).all()
    assert (
        masks["face"][30, 32]
        and masks["torso"][62, 32]
        and masks["rest"][2, 2]
        and masks["rest"][8, 32]
    )
    soft = (matte > 5) & (matte < 250)
    assert masks["border"][soft].all()


def test_border_band_of_a_hard_matte_has_the_stated_width():
    matte = np.zeros((512, 512), np.uint8)
    matte[:, 200:] = 255
    columns = np.flatnonzero(border_band(matte)[256])
    assert (columns.min(), columns.max()) == (197, 202)
    assert not border_band(np.full((64, 64), 255, np.uint8)).any()


def test_boxes():
    points = np.array([[10.2, 20.7], [30.1, 40.0]])
    assert tuple(box_around(points, 100, 100)) == (10, 20, 31, 40)
    assert tuple(box_around(points, 25, 100, 0.5)) == (0, 10, 25, 50)
    assert box_around(points + 500, 100, 100).empty


def test_head_box_covers_the_face_and_scales(capture):
    face = face_boxes(capture.frames[0])["face"][0]
    left, top, right, bottom = head_box(capture.frames[0])
    assert left < face.left and top < face.top and right > face.right and bottom >= face.bottom
    assert head_box(capture.frames[0], 2) == (left // 2, top // 2, right // 2, bottom // 2)
