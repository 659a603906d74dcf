"""Which frames are used: people followed, cuts, blur, thinning; first with made-up scans, then on a
synthetic video."""

from __future__ import annotations

import numpy as np
import pytest

from likeness.preprocess.scan import Scan, scan
from likeness.preprocess.selection import Selection, select, thin
from likeness.preprocess.video import import_cv2, open_video
from likeness.scene.errors import UserError
from tests.preprocess import videos

WIDTH, HEIGHT = 640, 480
SHAPE = np.random.default_rng(0).uniform(-0.5, 0.5, (478, 2)).astype(np.float32)
SHAPE[33], SHAPE[263], SHAPE[10], SHAPE[152] = (-0.3, -0.1), (0.3, -0.1), (0, -0.5), (0, 0.5)


def face(x, y, size=100.0):
    return SHAPE * size + np.array([x, y], np.float32)


def picture(seed):
    """A thumbnail of its own structure and colours."""
    rng = np.random.default_rng(seed)
    coarse = rng.uniform(0, 255, (8, 8, 3)) * rng.uniform(0.2, 1, 3)
    return coarse.repeat(4, 0).repeat(4, 1).astype(np.uint8)


def make_scan(faces_per_frame, sharpness=None, pictures=None, fps=25.0):
    counts = [len(faces) for faces in faces_per_frame]
    points = [each for faces in faces_per_frame for each in faces]
    number, total = len(counts), sum(counts)
    return Scan(
        index=np.arange(number),
        time_s=np.arange(number) / fps,
        thumbnails=np.stack([picture(0)] * number if pictures is None else pictures),
        luminance=np.full(number, 0.5, np.float32),
        face_frame=np.repeat(np.arange(number), counts),
        points=np.array(points, np.float32).reshape(-1, 478, 2),
        sharpness=np.full(total, 100.0, np.float32)
        if sharpness is None
        else np.asarray(sharpness, np.float32),
        face_luminance=np.full(total, 0.5, np.float32),
        damaged=np.zeros((0, 2)),
        num_decoded=number,
        num_damaged=0,
        num_untimed=0,
        stride=1,
        duration_s=number / fps,
        reached_end=True,
    )


def test_every_good_frame_is_used():
    chosen = select(make_scan([[face(300 + t, 200)] for t in range(50)]), WIDTH, HEIGHT)
    assert (
        chosen.frames.tolist() == list(range(50))
        and chosen.dropped == {}
        and chosen.cut_times_s == []
    )
    assert (chosen.confidence == 1).all() and chosen.num_people == 1


def test_frames_without_a_face_are_counted_and_the_person_is_found_again():
    frames = [[face(300, 200)] if not 10 <= t < 20 else [] for t in range(40)]
    chosen = select(make_scan(frames), WIDTH, HEIGHT)
    assert chosen.frames.tolist() == [*range(10), *range(20, 40)]
    assert chosen.dropped == {"no face found": 10}


def test_the_main_person_is_followed_through_a_change_of_order():
    frames = [[face(200, 200, 120), face(450, 200, 60)][:: 1 if t % 2 else -1] for t in range(30)]
    chosen = select(make_scan(frames), WIDTH, HEIGHT)
    assert len(chosen.frames) == 30 and chosen.num_people == 2
    assert (abs(chosen.points.mean(1)[:, 0] - 200) < 20).all()


def test_where_only_the_other_person_is_seen_the_frame_is_left_out():
    frames = [
        [face(200, 200, 120), face(450, 200, 60)] if t < 20 else [face(450, 200, 60)]
        for t in range(30)
    ]
    chosen = select(make_scan(frames), WIDTH, HEIGHT)
    assert chosen.frames.tolist() == list(range(20))
    assert chosen.dropped == {"another person's face only": 10}


def test_a_hard_cut_leaves_the_longer_shot():
    frames = [[face(200, 200)] if t < 25 else [face(420, 260)] for t in range(60)]
    pictures = [picture(0)] * 25 + [picture(1)] * 35
    chosen = select(make_scan(frames, pictures=pictures), WIDTH, HEIGHT)
    assert chosen.frames.tolist() == list(range(25, 60)) and chosen.part_s == (1.0, 2.4)
    assert chosen.dropped == {"before or after a cut": 25} and chosen.cut_times_s == [1.0]


def test_of_several_shots_that_with_most_of_the_person_counts_though_the_face_is_lost_in_it():
    frames = [[] if 30 <= t < 35 else [face(200, 200)] for t in range(110)]
    pictures = [picture(0)] * 65 + [picture(1)] * 45
    chosen = select(make_scan(frames, pictures=pictures), WIDTH, HEIGHT)
    assert chosen.frames.tolist() == [*range(30), *range(35, 65)]


def test_blur_beyond_use_is_left_out_but_a_soft_clip_is_not():
    sharpness = np.full(60, 100.0)
    sharpness[30:34] = 5
    chosen = select(make_scan([[face(200, 200)]] * 60, sharpness), WIDTH, HEIGHT)
    assert chosen.dropped == {"blurred": 4} and not set(range(30, 34)) & set(chosen.frames.tolist())
    chosen = select(make_scan([[face(200, 200)]] * 60, np.full(60, 5.0)), WIDTH, HEIGHT)
    assert len(chosen.frames) == 60


def test_faces_that_leave_the_picture_or_are_tiny_are_left_out():
    frames = [[face(300 - 8 * t, 200)] for t in range(50)]
    chosen = select(make_scan(frames), WIDTH, HEIGHT)
    assert chosen.dropped["face partly outside the picture"] >= 15
    assert (chosen.confidence.mean(1) >= 0.9).all()
    assert (chosen.confidence[chosen.points[..., 0] < 0] == 0).all()
    assert select(make_scan([[face(300, 200, 12)]] * 40), WIDTH, HEIGHT).dropped == {
        "face too small": 40
    }


def test_no_face_at_all_gives_an_empty_selection():
    chosen = select(make_scan([[]] * 10), WIDTH, HEIGHT)
    assert (
        isinstance(chosen, Selection)
        and len(chosen.frames) == 0
        and chosen.dropped == {"no face found": 10}
    )


def test_thinning_is_even_where_nothing_happens():
    selected = select(make_scan([[face(300, 200)]] * 75), WIDTH, HEIGHT)
    for count in (20, 30, 74):
        chosen = thin(selected, count)
        assert len(chosen.frames) == len(chosen.points) == len(chosen.sharpness) == count
        assert chosen.dropped == {"sampled down": 75 - count}
        steps = set(np.diff(chosen.frames).tolist())
        assert steps <= {75 // count, 75 // count + 1}
    assert len(thin(selected, 75).frames) == 75


def test_thinning_keeps_what_is_rare():
    """A face that stands still but for a short grimace, wherever and how large it is seen."""
    rng = np.random.default_rng(1)
    faces, grimace = [], range(400, 420)
    for frame in range(600):
        shape = SHAPE + 0.004 * rng.standard_normal(SHAPE.shape).astype(np.float32)
        if frame in grimace:
            shape[:40, 1] += 0.3 * np.sin(np.pi * (frame - 399.5) / 20)
        place = np.array([300 + 0.05 * frame, 200], np.float32)
        faces.append([shape * (100 + 0.02 * frame) + place])
    chosen = thin(select(make_scan(faces), WIDTH, HEIGHT), 150)
    kept = np.isin(list(grimace), chosen.frames)
    evenly = thin(select(make_scan(faces), WIDTH, HEIGHT), 150, variety=False)
    assert set(np.diff(evenly.frames).tolist()) == {4}
    assert len(chosen.frames) == 150 and kept.sum() >= 9  # evenly 5
    # The rest is still there, without long gaps.
    assert np.diff(chosen.frames).max() <= 9


def test_scan_of_a_video_with_gaps_a_blur_and_a_cut(tmp_path):
    cv2 = import_cv2()
    images = list(videos.face_images(50, 192))
    images[10:14] = [np.full_like(images[0], 100)] * 4
    images[25] = cv2.GaussianBlur(images[25], (0, 0), 2)
    shifted = [np.roll(255 - np.roll(image, 60, 1)[:, ::-1] // 3, 40, 0) for image in images[:6]]
    path = videos.write_video(tmp_path / "a.avi", [*images, *shifted], codec="MJPG")
    scanned = scan(open_video(path), None, None, capacity=1000, progress=False)
    assert len(scanned.index) == scanned.num_decoded == 56 and scanned.stride == 1
    chosen = select(scanned, 192, 192)
    assert set(chosen.frames.tolist()) <= set(range(50)) - set(range(10, 14))
    assert chosen.dropped["blurred"] == 1 and 25 not in chosen.frames
    assert chosen.cut_times_s == [2.0]
    saved = tmp_path / "work" / "scan.npz"
    scanned.save(saved)
    again = Scan.load(saved)
    np.testing.assert_array_equal(again.points, scanned.points)
    assert again.duration_s == scanned.duration_s and again.reached_end is True


def test_a_long_video_is_thinned_while_it_is_scanned(tmp_path):
    path = videos.write_video(tmp_path / "a.mp4", videos.counting_images(50))
    scanned = scan(open_video(path), None, None, capacity=16, progress=False)
    assert (
        scanned.stride == 4
        and scanned.index.tolist() == list(range(0, 50, 4))
        and scanned.num_decoded == 50
    )
    np.testing.assert_allclose(scanned.time_s, scanned.index / 25, atol=1e-6)


def test_a_range_beyond_the_end_is_an_error(tmp_path):
    path = videos.write_video(tmp_path / "a.mp4", videos.counting_images(10))
    with pytest.raises(UserError, match="0.4 s long"):
        scan(open_video(path), 5.0, None, capacity=100, progress=False)
