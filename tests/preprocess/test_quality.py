"""The quality report: angles, jitter, flicker, and the warnings with their remedies."""

from __future__ import annotations

import copy
import json

import numpy as np
import pytest

from likeness.preprocess import quality
from likeness.preprocess.landmarks import detect
from likeness.preprocess.video import VideoReader, open_video


def pose(axis, degrees):
    """A head before the camera, turned about its own axis: 0 = x (nod), 1 = y (turn), 2 = z
    (tilt)."""
    a = np.radians(degrees)
    i, j = [(1, 2), (2, 0), (0, 1)][axis]
    R = np.eye(3)
    R[i, i] = R[j, j] = np.cos(a)
    R[i, j], R[j, i] = -np.sin(a), np.sin(a)
    T = np.eye(4)
    T[:3, :3] = np.diag([1.0, -1.0, -1.0]) @ R
    T[2, 3] = 0.8
    return T


@pytest.mark.parametrize(
    ("axis", "name", "sign"), [(0, "pitch", -1), (1, "yaw", 1), (2, "roll", 1)]
)
def test_angles(axis, name, sign):
    angles = quality.head_angles(np.stack([pose(axis, 0), pose(axis, 20)]))
    for other, values in angles.items():
        expected = [0, 20 * sign if other == name else 0]
        np.testing.assert_allclose(values, expected, atol=1e-9)


def test_turning_left_is_towards_the_subjects_left():
    T = pose(1, 25)
    # the face points to +x: the subject's left
    assert T[0, 2] > 0 and quality.head_angles(T[None])["yaw"][0] > 0


def tracked(frames=120, jitter=0.0, yaw=30.0, smile=0.8):
    rng = np.random.default_rng(1)
    t = np.arange(frames) / 30
    poses = np.stack(
        [pose(1, yaw * np.sin(2 * s) + jitter * n) for s, n in zip(t, rng.normal(size=frames))]
    )
    expression = np.stack([smile * np.abs(np.sin(t)), 0.0 * t], 1)
    return quality.tracking_quality(
        rng.uniform(0.5, 1.5, frames), expression, ("mouthSmileLeft", "tongueOut"), poses, t
    )


def test_tracking_figures():
    figures = tracked()
    assert figures["pose_degrees"]["yaw"]["max"] == pytest.approx(30, abs=0.1)
    assert figures["distance_mm"]["median"] == pytest.approx(800)
    assert figures["expressions_not_seen"] == ["tongueOut"]
    assert figures["worst_frames"][0]["percent"] == figures["residual_percent"]["max"]
    assert json.loads(json.dumps(figures, allow_nan=False)) == figures


def test_jitter_is_the_noise_and_not_the_motion():
    assert tracked()["jitter"]["yaw_degrees"] < 0.08
    noisy = tracked(jitter=0.5)["jitter"]["yaw_degrees"]
    assert 0.5 * 0.674 * 0.7 < noisy < 0.5 * 0.674 * 1.4  # the median of |N(0, 1)| is 0.674


def test_matte_flicker_measures_the_edge_in_pixels():
    def figures(shift):
        collected = quality.MatteQuality()
        for t in range(12):
            matte = np.zeros((512, 512), np.uint8)
            matte[200:, : 256 + shift(t)] = 255
            collected.add(matte, follows=t > 0)
        return collected.figures()

    assert figures(lambda t: 4 * t)["flicker_px"] < 0.05  # even motion
    # the edge at the side jumps by 4 pixels, the one above stays
    jumping = figures(lambda t: 4 * (t % 2))
    assert jumping["flicker_px"] == pytest.approx(4 * 312 / 568, rel=0.1)
    assert jumping["touches_top"] == 0
    assert figures(lambda t: 0)["area"]["median"] == pytest.approx(0.5 * 312 / 512, abs=1e-3)


GOOD = {
    "video": {
        "decoded_frames": 900,
        "announced_frames": 900,
        "cut_off": False,
        "damaged_frames": 0,
        "frames_without_timestamp": 0,
    },
    "frames": {
        "seen": 900,
        "used": 900,
        "used_seconds": 30.0,
        "dropped": {},
        "cuts_s": [],
        "most_faces": 1,
    },
    "crop": {"side": 700, "size": 512},
    "tracking": {
        "residual_percent": {"median": 1.2},
        "pose_degrees": {"yaw": {"p5": -25.0, "p95": 25.0}, "pitch": {"p5": -10.0, "p95": 10.0}},
        "expressions": {
            name: {"max": 0.9} for name in ("jawOpen", "mouthSmileLeft", "mouthSmileRight")
        },
        "lid_opening": {"left": 0.1, "right": 0.3},
    },
    "pictures": {
        "eye_distance_px": {"median": 150},
        "sharpness": {"median": 150},
        "exposure_change": 0.05,
    },
    "mattes": {"flicker_px": 0.2, "touches_top": 0.0},
}


def test_a_good_video_has_no_warnings():
    assert quality.warnings(GOOD) == []


@pytest.mark.parametrize(
    ("path", "value", "word"),
    [
        ("tracking.pose_degrees.yaw.p5", 20.0, "turns"),
        ("tracking.pose_degrees.pitch.p5", 5.0, "nods"),
        ("tracking.lid_opening.left", 0.5, "blink"),
        ("tracking.expressions.jawOpen.max", 0.1, "mouth"),
        ("tracking.expressions.mouthSmileRight.max", 0.1, "smile"),
        ("tracking.residual_percent.median", 4.0, "poorly"),
        ("pictures.eye_distance_px.median", 30, "small"),
        ("crop.side", 200, "enlarged"),
        ("pictures.sharpness.median", 5, "soft"),
        ("pictures.exposure_change", 0.6, "brightness"),
        ("mattes.flicker_px", 3.0, "flickers"),
        ("mattes.touches_top", 0.3, "cut off"),
        ("frames.used_seconds", 4.0, "4 s"),
        ("frames.dropped", {"blurred": 300}, "blurred: 300"),
        ("frames.cuts_s", [3.0], "cut"),
        ("frames.most_faces", 2, "2 faces"),
        ("video.cut_off", True, "damaged"),
        ("video.damaged_frames", 3, "3 frames are damaged"),
        ("video.frames_without_timestamp", 7, "timestamp"),
    ],
)
def test_each_weakness_is_named_with_a_remedy(path, value, word):
    report = copy.deepcopy(GOOD)
    *parents, last = path.split(".")
    place = report
    for name in parents:
        place = place[name]
    place[last] = value
    found = quality.warnings(report)
    assert len(found) == 1
    assert word in found[0]["what"] and found[0]["remedy"]


def test_the_part_of_a_cut_video_that_is_used_is_named():
    report = copy.deepcopy(GOOD)
    report["frames"] |= {"cuts_s": [3.0, 20.04], "part_s": [3.0, 20.04]}
    (found,) = quality.warnings(report)
    assert found["what"] == (
        "the video is cut (at 3.0 s, 20.0 s): the part from 3.0 to 20.0 s is used, the rest is "
        "left out"
    )


def test_a_driver_is_told_what_matters_for_driving_alone():
    report = copy.deepcopy(GOOD)
    report["tracking"] |= {
        "lid_opening": {"left": 0.6, "right": 0.6},
        "residual_percent": {"median": 4.0},
    }
    report["tracking"]["pose_degrees"]["yaw"] = {"p5": 0.0, "p95": 0.0}
    report["mattes"] = {"flicker_px": 3.0, "touches_top": 0.5}
    report["frames"]["used_seconds"] = 2.0
    assert len(quality.warnings(report)) == 6
    (found,) = quality.warnings(report, purpose="driver")
    assert "follows the face poorly" in found["what"]


@pytest.mark.parametrize("name", ["d", "c"])
def test_shut_eyes_are_told_by_the_lids_of_that_person(shared_clip, name):
    """Of ``subject_d``, whose eyes shut while the tracked coefficients reach 0.4; ``subject_c``'s
    never do."""
    frames = VideoReader(open_video(shared_clip(f"subject_{name}")), only=range(205, 250))
    found = quality.lid_opening(detect((frame.image for frame in frames), max_faces=1).points)
    assert (max(found.values()) > quality.QualityConfig().max_lid_opening) == (name == "c")


def test_frames_sampled_down_are_no_loss():
    report = copy.deepcopy(GOOD)
    report["frames"]["dropped"] = {"sampled down": 850}
    assert quality.warnings(report) == []
