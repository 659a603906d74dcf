"""Damaged streams: which frames the decoder conceals, and that they are the reason named where too
few are left."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest

from likeness.preprocess.acceptance import blamed_on_damage
from likeness.preprocess.damage import _spans, damaged_spans, describe
from likeness.preprocess.video import VideoInfo
from likeness.scene.errors import UnusableVideo
from tests.preprocess.test_selection import face, make_scan


def test_a_whole_clip_is_whole(shared_clip):
    assert damaged_spans(shared_clip("subject_c")) == []


def test_bits_flipped_in_the_middle_of_a_stream(shared_clip, tmp_path):
    data = bytearray(shared_clip("subject_c").read_bytes())
    # of 222,000 bytes in one group of images
    for place in np.random.default_rng(0).integers(90_000, 130_000, 20):
        data[place] ^= 16
    path = tmp_path / "a.mp4"
    path.write_bytes(data)
    ((begin, until),) = damaged_spans(path)
    assert 2.5 < begin < 4.0 and until == math.inf


def test_what_is_no_video_has_no_spans(tmp_path):
    (tmp_path / "a.mp4").write_bytes(b"no video" * 100)
    assert damaged_spans(tmp_path / "a.mp4") == []


def test_a_span_ends_with_the_next_key_frame_and_begins_with_what_is_predicted():
    # in the order of decoding: frame 8 is damaged, and 6 and 7, shown before it, are predicted from
    # it
    order = [0, 4, 2, 3, 8, 6, 7, 12, 10, 16, 14]
    packets = [(time, time in (0, 12)) for time in order]
    assert _spans(packets, {8}, 0.5) == [(3.0, 6.0)]
    assert _spans(packets, {8, 14}, 0.5) == [(3.0, 6.0), (7.0, math.inf)]
    assert _spans(packets, {12}, 0.5) == [(5.0, math.inf)] and _spans(packets, set(), 0.5) == []


def test_spans_in_words():
    assert describe([(1.0, 2.0), (4.0, 9.0)], 9.0) == "from 1.0 to 2.0 s and from 4.0 s on"
    assert describe([(float(t), t + 0.5) for t in range(6)], 9.0).endswith("and at 4 later places")


def scanned(**changes):
    return dataclasses.replace(make_scan([[face(300, 200)]] * 50), **changes)


def test_the_damage_is_blamed_where_there_is_much_of_it(tmp_path):
    info = VideoInfo(tmp_path / "a.mp4", 640, 480, 0, 25.0, 100, None)

    def fails(scan, info=info):
        with pytest.raises(UnusableVideo) as caught, blamed_on_damage(info, scan):
            raise UnusableVideo("too short", f"{info.path}: has 9 frames")
        return str(caught.value), caught.value.reason

    message, reason = fails(scanned(damaged=np.array([[1.0, 2.0]])))
    assert reason == "damaged stream"
    assert message.startswith(f"{info.path}: the video stream is damaged from 1.0 s on and")
    assert (
        "ends at 2.0 s of 4.0 s" in message
        and "has 9 frames" in message
        and "copy the file again" in message
    )
    whole = dataclasses.replace(info, num_frames=50)
    assert fails(scanned(), whole) == (f"{info.path}: has 9 frames", "too short")
