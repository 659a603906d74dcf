"""Reading videos: order, times, rotation, ranges, damaged files, and one clear line for each
error."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from likeness.preprocess.mp4 import focal_length_35mm
from likeness.preprocess.video import VideoReader, import_cv2, open_video, prefetch
from likeness.scene.errors import UserError
from tests.preprocess import videos

ROOT = Path(__file__).resolve().parents[2]


def frames_of(path, **options):
    return list(VideoReader(open_video(path), **options))


def test_frames_come_in_order_with_their_times(tmp_path):
    path = videos.write_video(tmp_path / "a.mp4", videos.counting_images(40))
    info = open_video(path)
    assert (info.width, info.height, info.fps, info.num_frames) == (96, 64, 25.0, 40)
    frames = frames_of(path)
    assert [frame.index for frame in frames] == list(range(40))
    np.testing.assert_allclose(
        [videos.read_number(frame.image) for frame in frames], range(40), atol=1
    )
    np.testing.assert_allclose([frame.time_s for frame in frames], np.arange(40) / 25, atol=1e-6)
    assert frames[0].image[5, 5, 0] > 150 > frames[0].image[5, 5, 2]  # red is the first channel


@pytest.mark.parametrize(
    ("suffix", "codec"), [("avi", "MJPG"), ("mkv", "mp4v"), ("webm", "VP80"), ("mov", "mp4v")]
)
def test_other_containers_and_codecs(tmp_path, suffix, codec):
    path = videos.write_video(tmp_path / f"a.{suffix}", videos.counting_images(20), codec=codec)
    assert len(frames_of(path)) == 20


@pytest.mark.parametrize(("degrees", "corner"), [(90, (5, -5)), (180, (-5, -5)), (270, (-5, 5))])
def test_rotation_metadata_is_applied(tmp_path, degrees, corner):
    path = videos.write_video(tmp_path / "a.mp4", videos.counting_images(5))
    videos.set_rotation(path, degrees)
    info = open_video(path)
    assert info.rotation == degrees
    assert (info.width, info.height) == ((96, 64) if degrees == 180 else (64, 96))
    image = frames_of(path)[0].image
    assert image.shape == (info.height, info.width, 3)
    reds = {(y, x) for y in (5, -5) for x in (5, -5) if image[y, x, 0] > 150}
    assert reds == {corner}


def test_variable_frame_rate_goes_by_timestamps(tmp_path):
    # 1.2 s, which the index states too
    path = videos.write_video(tmp_path / "a.mp4", videos.counting_images(30))
    unit = videos.time_unit(path)
    videos.set_durations(path, [(10, unit // 50), (10, unit * 2 // 25), (10, unit // 50)])
    times = np.array([frame.time_s for frame in frames_of(path)])
    expected = np.concatenate([[0], np.cumsum([1 / 50] * 10 + [2 / 25] * 10 + [1 / 50] * 9)])
    np.testing.assert_allclose(times, expected, atol=2e-3)


def test_start_and_end(tmp_path):
    path = videos.write_video(tmp_path / "a.mp4", videos.counting_images(50))
    assert [frame.index for frame in frames_of(path, start=0.4, end=0.8)] == list(range(10, 20))
    assert [frame.index for frame in frames_of(path, only=[3, 7])] == [3, 7]


def test_stride_can_be_raised_on_the_way(tmp_path):
    path = videos.write_video(tmp_path / "a.mp4", videos.counting_images(20))
    reader = VideoReader(open_video(path))
    seen = []
    for frame in reader:
        seen.append(frame.index)
        if frame.index == 5:
            reader.stride = 4
    assert seen == [0, 1, 2, 3, 4, 5, 8, 12, 16]


def test_half_a_file_is_read_as_far_as_it_goes(tmp_path):
    path = videos.write_video(tmp_path / "a.avi", videos.counting_images(60), codec="MJPG")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    reader = VideoReader(open_video(path))
    frames = list(reader)
    assert 15 < len(frames) < 45 and reader.reached_end
    assert reader.info.num_frames == 60  # what it announces is not what it holds


@pytest.mark.skipif(os.name == "nt", reason="names are text there")
def test_a_name_that_is_no_text(tmp_path):
    """In a process of its own: OpenCV answers to such names with a segmentation fault."""
    path = videos.write_video(tmp_path / "a.mp4", videos.counting_images(5)).rename(
        tmp_path / os.fsdecode(b"\xff.mp4")
    )
    count = (
        "import sys, likeness.preprocess.video as v; print(sum(1 for _ in "
        "v.VideoReader(v.open_video(sys.argv[1]))))"
    )
    done = subprocess.run(
        [sys.executable, "-c", count, path], capture_output=True, text=True, cwd=ROOT
    )
    assert (done.stdout, done.stderr) == ("5\n", "")


def test_damaged_frames_are_passed_over(tmp_path, monkeypatch):
    path = videos.write_video(tmp_path / "a.mp4", videos.counting_images(40))
    cv2 = import_cv2()
    real = cv2.VideoCapture

    class Damaged:
        """Fails at some frames and then goes on, as FFmpeg does at a broken packet."""

        def __init__(self, *args):
            self._capture, self._count = real(*args), 0

        def grab(self):
            self._count += 1
            return self._capture.grab() and self._count not in (8, 9, 20)

        def __getattr__(self, name):
            return getattr(self._capture, name)

    monkeypatch.setattr(cv2, "VideoCapture", Damaged)
    reader = VideoReader(open_video(path))
    numbers = [videos.read_number(frame.image) for frame in reader]
    assert (
        reader.num_decoded == len(numbers) == 37 and reader.num_damaged == 3 and reader.reached_end
    )
    np.testing.assert_allclose(numbers, [n for n in range(40) if n not in (7, 8, 19)], atol=1)


def test_focal_length_from_metadata(tmp_path):
    path = videos.write_video(tmp_path / "a.mp4", videos.counting_images(3))
    assert focal_length_35mm(path) is None
    videos.add_focal_metadata(path, 26.5)
    assert focal_length_35mm(path) == pytest.approx(26.5)
    assert open_video(path).focal_35mm == pytest.approx(26.5)
    assert len(frames_of(path)) == 3


def make_bad_file(kind, folder):
    path = folder / "video.mp4"
    if kind == "folder":
        path.mkdir()
    elif kind == "empty":
        path.touch()
    elif kind == "text":
        path.write_text("this is not a video\n" * 100)
    elif kind == "noise":
        path.write_bytes(np.random.default_rng(0).bytes(100_000))
    elif kind == "cut off":
        videos.write_video(path, videos.counting_images(40))
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    return path


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("missing", "no such file"),
        ("folder", "a folder"),
        ("empty", "empty file"),
        ("text", "not a video"),
        ("noise", "not a video"),
        ("cut off", "cut off"),
    ],
)
def test_unreadable_files_give_one_clear_line(tmp_path, capfd, kind, message):
    path = make_bad_file(kind, tmp_path)
    with pytest.raises(UserError, match=message) as caught:
        open_video(path)
    assert "\n" not in str(caught.value) and str(path) in str(caught.value)
    assert capfd.readouterr().err == ""  # FFmpeg's own chatter does not reach the terminal


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_permission(tmp_path):
    path = videos.write_video(tmp_path / "a.mp4", videos.counting_images(3))
    path.chmod(0)
    with pytest.raises(UserError, match="cannot be read"):
        open_video(path)


def test_timestamps_that_do_not_grow_give_way_to_the_frame_rate(tmp_path, monkeypatch):
    path = videos.write_video(tmp_path / "a.mp4", videos.counting_images(20))
    cv2 = import_cv2()
    real = cv2.VideoCapture

    class Stuck:
        def __init__(self, *args):
            self._capture = real(*args)

        def get(self, prop):
            return 0.0 if prop == cv2.CAP_PROP_POS_MSEC else self._capture.get(prop)

        def __getattr__(self, name):
            return getattr(self._capture, name)

    monkeypatch.setattr(cv2, "VideoCapture", Stuck)
    reader = VideoReader(open_video(path))
    times = [frame.time_s for frame in reader]
    np.testing.assert_allclose(times, np.arange(20) / 25, atol=1e-9)
    assert reader.num_untimed == 19


def test_prefetch_hands_on_items_and_errors_and_stops_early():
    assert list(prefetch(iter(range(100)))) == list(range(100))

    def failing():
        yield 1
        raise RuntimeError("broken")

    received = []
    with pytest.raises(RuntimeError, match="broken"):
        for item in prefetch(failing()):
            received.append(item)
    assert received == [1]

    made = []

    def endless():
        number = 0
        while True:
            made.append(number)
            yield number
            number += 1

    for item in prefetch(endless(), depth=2):
        if item == 5:
            break
    assert len(made) < 20
