"""Cuts: between people, cameras and by dissolves, on real footage and synthetic scans; and what is
none."""

from __future__ import annotations

import numpy as np
import pytest

from likeness.preprocess.scan import scan
from likeness.preprocess.selection import select
from likeness.preprocess.shots import find_shots
from likeness.preprocess.video import VideoReader, import_cv2, open_video
from tests.preprocess import videos
from tests.preprocess.test_selection import face, make_scan, picture

SIZE = 256
CLIPS = "abcdefg"


def shots_of(pictures, faces=None):
    """Shots of thumbnails at 25 frames a second, one still face at the same place in all of
    them."""
    return find_shots(
        make_scan(faces or [[face(320, 200)]] * len(pictures), pictures=pictures), 640, 480
    )


def lit(thumbnail, gain):
    return np.clip(thumbnail * np.asarray(gain), 0, 255).astype(np.uint8)


def portrait():
    return videos.portrait(32)


LEFT_TO_RIGHT = np.linspace(0.5, 1, 32)[:, None]
NO_CUTS = {
    "a lamp goes on": [lit(portrait(), 0.4)] * 40 + [portrait()] * 40,
    "a lamp from the side goes on": [lit(portrait(), LEFT_TO_RIGHT)] * 40 + [portrait()] * 40,
    "a lamp flickers": [lit(portrait(), (1.0, 0.6)[t // 5 % 2]) for t in range(80)],
    "light fades and grows warm": [
        lit(portrait(), (1 - t / 160, 1 - t / 120, 1 - t / 80)) for t in range(80)
    ],
    "a flash that leaves nothing to be seen": [portrait()] * 40
    + [np.full((32, 32, 3), 255, np.uint8)] * 3
    + [portrait()] * 37,
    "a damaged frame": [portrait()] * 40 + [picture(5)] + [portrait()] * 39,
    "a picture shown for a second": [portrait()] * 30 + [picture(5)] * 25 + [portrait()] * 25,
}


@pytest.mark.parametrize("kind", list(NO_CUTS))
def test_what_is_no_cut(kind):
    shots = shots_of(NO_CUTS[kind])
    assert shots.cuts == []
    shown = [np.array_equal(each, picture(5)) or each.min() == 255 for each in NO_CUTS[kind]]
    # an interruption is left out, and it alone
    np.testing.assert_array_equal(shots.shot != shots.shot[0], shown)


def test_a_cut_between_equal_face_places():
    shots = shots_of([picture(0)] * 30 + [picture(1)] * 30)
    assert shots.cuts == [30] and shots.part(45) == (30, 59)


def test_a_cut_with_a_blend_of_both_between():
    blend = (picture(0).astype(int) + picture(1)) // 2
    shots = shots_of([picture(0)] * 30 + [blend.astype(np.uint8)] + [picture(1)] * 30)
    assert (
        len(shots.cuts) == 1 and shots.shot[29] == shots.shot[0] != shots.shot[31] == shots.shot[60]
    )


@pytest.mark.parametrize("seconds", [0.5, 1.0, 1.5])
def test_a_dissolve(seconds):
    number = round(25 * seconds)
    weights = (np.arange(number) + 1) / (number + 1)
    mixed = [((1 - w) * portrait() + w * picture(1)).astype(np.uint8) for w in weights]
    shots = shots_of([portrait()] * 60 + mixed + [picture(1)] * 60)
    assert len(shots.cuts) == 1 and shots.shot[0] != shots.shot[-1]
    first, second = (shots.shot == shots.shot[place] for place in (0, -1))
    assert (
        first.sum() > 30
        and not first[60:].any()
        and second.sum() > 30
        and not second[: 60 + number].any()
    )


def test_a_cut_to_a_nearer_view_of_the_same_colours():
    wide = videos.portrait(128)
    near = import_cv2().resize(
        wide[16:112, 16:112], (32, 32), interpolation=import_cv2().INTER_AREA
    )
    faces = [[face(320, 200)]] * 30 + [[face(320, 190, 133)]] * 30
    assert shots_of([portrait()] * 30 + [near] * 30, faces).cuts == [30]


def test_somebody_who_leaves_slowly_is_no_dissolve():
    mixed = [
        ((1 - w) * portrait() + w * picture(1)).astype(np.uint8) for w in np.linspace(0, 1, 25)
    ]
    faces = [[face(320, 200)]] * 70 + [[]] * 75
    assert shots_of([portrait()] * 60 + mixed + [picture(1)] * 60, faces).cuts == []


def join(folder, shared_clip, parts):
    """A video of parts (clip, first frame, number) one after the other."""

    def pictures():
        for name, first, number in parts:
            for frame in VideoReader(
                open_video(shared_clip(f"subject_{name}")), only=range(first, first + number)
            ):
                yield import_cv2().resize(
                    frame.image, (SIZE, SIZE), interpolation=import_cv2().INTER_AREA
                )

    return videos.write_video(folder / "joined.mp4", pictures())


def selected(path):
    return select(scan(open_video(path), None, None, capacity=10_000, progress=False), SIZE, SIZE)


# a and c: faces of one size in one place before walls of like colours
@pytest.mark.parametrize("pair", ["ac", "bd"])
def test_a_joint_of_two_real_clips(tmp_path, shared_clip, pair):
    chosen = selected(join(tmp_path, shared_clip, [(pair[0], 0, 20), (pair[1], 0, 32)]))
    assert chosen.cut_times_s == [0.8] and chosen.frames.tolist() == list(range(20, 52))
    assert chosen.dropped == {"before or after a cut": 20} and chosen.part_s == (0.8, 2.08)


@pytest.mark.slow
def test_all_joints_of_real_clips(tmp_path, shared_clip):
    for first in CLIPS:
        for second in CLIPS.replace(first, ""):
            chosen = selected(join(tmp_path, shared_clip, [(first, 60, 12), (second, 30, 12)]))
            assert chosen.cut_times_s == [0.48], (first, second)


@pytest.mark.slow
@pytest.mark.parametrize("name", CLIPS)
def test_real_clips_are_uncut_with_and_without_dropped_frames(tmp_path, shared_clip, name):
    clip = shared_clip(f"subject_{name}")
    assert selected(clip).cut_times_s == []
    rng = np.random.default_rng(0)
    kept = [
        import_cv2().resize(f.image, (SIZE, SIZE))
        for f in VideoReader(open_video(clip))
        if rng.random() > 0.5
    ]
    assert selected(videos.write_video(tmp_path / "dropped.mp4", kept)).cut_times_s == []
