"""From a video to a capture: synthetic videos with a plain matting model, then real footage with
the real one."""

from __future__ import annotations

import dataclasses
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

import likeness.preprocess.pipeline as pipeline
from likeness.preprocess import cache, frames
from likeness.preprocess.crop import Crop
from likeness.preprocess.frames import FrameFiles, read_image
from likeness.preprocess.matting import MATTING
from likeness.preprocess.photometric.config import PhotometricConfig
from likeness.preprocess.pipeline import PreprocessConfig, build_capture, find_or_build
from likeness.preprocess.tracking.config import TrackerConfig
from likeness.preprocess.video import import_cv2
from likeness.scene.capture import Capture
from likeness.scene.errors import UserError
from likeness.scene.transforms import mean_transform
from tests.preprocess import videos

SIZE = 96
OPTIONS = PreprocessConfig(
    size=SIZE,
    matting="oval",
    tracker=TrackerConfig(iterations=5),
    photometric=PhotometricConfig(num_gaussians=600, visits=6),
)
FRAMES = 36


class OvalMatting:
    """A stand-in that costs nothing: everything below a line and within an oval."""

    name = "oval"
    seen = 0

    def mattes(self, pictures):
        for frame in pictures:
            OvalMatting.seen += 1
            y, x = np.mgrid[: frame.shape[0], : frame.shape[1]] / frame.shape[0]
            person = (((x - 0.5) / 0.4) ** 2 + ((y - 0.5) / 0.45) ** 2 < 1) | (y > 0.8)
            yield 255 * person.astype(np.uint8)


@pytest.fixture(scope="module", autouse=True)
def oval_matting():
    MATTING["oval"] = lambda choice: OvalMatting()
    yield
    del MATTING["oval"]


@pytest.fixture(scope="module")
def face_video(tmp_path_factory):
    folder = tmp_path_factory.mktemp("videos")
    return videos.write_video(folder / "face.avi", videos.face_images(FRAMES), codec="MJPG")


@pytest.fixture(scope="module")
def cache_root(tmp_path_factory):
    return tmp_path_factory.mktemp("captures")


@pytest.fixture(scope="module")
def built(face_video, cache_root):
    """A capture that tests only read."""
    return find_or_build(face_video, cache_root, OPTIONS, download=False, progress=False)


def build(video, root, options=OPTIONS):
    return build_capture(video, root, options, download=False, progress=False)


def test_a_made_video_becomes_a_capture(built):
    capture = built
    again = Capture.load(built.root)
    assert len(capture.frames) == len(again.frames) == FRAMES
    assert again.fps == pytest.approx(25) and again.source_hash == capture.source_hash
    assert again.test == tuple(range(FRAMES - 4, FRAMES)) and again.train == tuple(
        range(FRAMES - 4)
    )
    assert (again.cameras.width, again.cameras.height) == (SIZE, SIZE)
    for frame in again.frames[::10]:
        image, matte = read_image(frame.image_path), read_image(frame.matte_path)
        assert image.shape == (SIZE, SIZE, 3) and matte.shape == (SIZE, SIZE)
        assert image.dtype == matte.dtype == np.uint8

    states = again.states
    body = states.T_world_body
    train = list(again.train)  # shoulders sway around the mean head pose of the training frames
    torch.testing.assert_close(
        mean_transform(body[train]), mean_transform(states.T_world_head[train]), atol=5e-3, rtol=0
    )
    assert (
        again.report["photometric"]["error"]["after"]
        < again.report["photometric"]["error"]["before"]
    )
    assert (states.T_world_head[:, 2, 3] > 0.1).all()  # before the camera
    assert max(frame.residual_px for frame in again.frames) < 0.06 * SIZE

    report = again.report
    assert report["frames"]["used"] == FRAMES and report["frames"]["dropped"] == {}
    assert set(report["seconds"]) >= {
        "landmarks",
        "tracking",
        "frames",
        "quality",
        "picture tracking",
        "total",
    }
    assert {warning["what"] for warning in report["warnings"]} and all(
        w["remedy"] for w in report["warnings"]
    )


def test_the_colour_inside_the_matte_is_the_video_s(built):
    capture = built
    crop = Crop(**{name: capture.report["crop"][name] for name in ("left", "top", "side")})
    first = next(iter(videos.face_images(1)))
    seen = read_image(capture.frames[0].image_path).astype(float)
    expected = crop.apply(first, SIZE).astype(float)
    inside = import_cv2().erode(read_image(capture.frames[0].matte_path), np.ones((9, 9))) == 255
    assert np.abs(seen - expected)[inside].mean() < 8  # MJPG's loss


def test_a_finished_capture_is_not_made_twice(built, face_video, cache_root, tmp_path):
    work = OvalMatting.seen
    copied = tmp_path / "copied under another name.avi"
    copied.write_bytes(face_video.read_bytes())
    again = find_or_build(copied, cache_root, OPTIONS, download=False, progress=False)
    assert again.root == built.root and OvalMatting.seen == work
    other = dataclasses.replace(OPTIONS, end=1.3)
    with pytest.raises(UserError, match="another video or of other settings"):
        build(face_video, built.root, other)


@pytest.mark.parametrize("stage", ["scan", "track", "frames", "assemble", "save"])
def test_work_goes_on_where_it_was_broken_off(face_video, tmp_path, monkeypatch, stage):
    root = tmp_path / "capture"
    calls = {"scan": 0, "track": 0}
    import likeness.preprocess.tracking.tracker as tracker

    def counted(name, function):
        def call(*args, **kwargs):
            calls[name] += 1
            return function(*args, **kwargs)

        return call

    monkeypatch.setattr(frames, "_WARM_UP", 8)
    monkeypatch.setattr(pipeline, "scan", counted("scan", pipeline.scan))
    monkeypatch.setattr(tracker, "track", counted("track", tracker.track))
    whole = OvalMatting.mattes

    def killed(*args, **kwargs):
        raise KeyboardInterrupt

    def killed_midway(self, pictures):
        for number, matte in enumerate(whole(self, pictures)):
            if number == 20:
                raise KeyboardInterrupt
            yield matte

    with monkeypatch.context() as broken:
        if stage == "frames":
            broken.setattr(OvalMatting, "mattes", killed_midway)
        elif stage == "save":
            broken.setattr(Capture, "save", killed)
        elif stage == "track":
            broken.setattr(tracker, "track", killed)
        else:
            broken.setattr(pipeline, stage, killed)
        with pytest.raises(KeyboardInterrupt):
            build(face_video, root)
    with pytest.raises(UserError, match="not a capture"):
        Capture.load(root)
    if stage == "frames":
        done = sum(FrameFiles(root).done(position) for position in range(FRAMES))
        assert 10 <= done <= 20
        kept = FrameFiles(root).image(0).stat().st_mtime_ns
    calls_before = dict(calls)
    # what a kill in mid-write leaves
    (root / "work" / ".tracking.1.partial.npz").write_bytes(b"half")

    OvalMatting.seen = 0
    capture = build(face_video, root)
    assert len(capture.frames) == FRAMES
    order = ["scan", "track", "frames", "assemble", "save"]
    expected_new = {
        "scan": 1 if stage == "scan" else 0,
        "track": 1 if order.index(stage) <= 1 else 0,
    }
    assert {name: calls[name] - calls_before[name] for name in calls} == expected_new
    if stage == "frames":
        assert FrameFiles(root).image(0).stat().st_mtime_ns == kept
        assert OvalMatting.seen < FRAMES  # only the missing ones, and a few before them to warm up
    if order.index(stage) > 2:
        assert OvalMatting.seen == 0
    assert not list(root.rglob(".*.partial*"))


def test_resumed_and_uninterrupted_work_are_equal(built, face_video, tmp_path):
    half = cache.link_capture(built.root, tmp_path / "half")
    shutil.copytree(built.root / "work", half.root / "work")
    files = FrameFiles(half.root)
    for position in range(20, FRAMES):
        files.image(position).unlink()
    (half.root / "manifest.json").unlink()
    half = build(face_video, half.root)
    for a, b in zip(built.frames, half.frames):
        assert a.image_path.read_bytes() == b.image_path.read_bytes()
        assert a.matte_path.read_bytes() == b.matte_path.read_bytes()
    torch.testing.assert_close(built.states.T_world_head, half.states.T_world_head)


DAMAGE = {  # what becomes of a file, and which stages are done again
    "landmarks.npz": ("cut", ["scan", "track"]),
    "tracking.npz": ("empty", ["track"]),
    "state.json": ("empty", ["scan", "track"]),
}


@pytest.mark.parametrize("name", list(DAMAGE))
def test_damaged_work_files_are_made_anew(built, face_video, tmp_path, monkeypatch, name):
    root = cache.link_capture(built.root, tmp_path / "half").root
    shutil.copytree(built.root / "work", root / "work")
    (root / "manifest.json").unlink()
    path, (how, stages) = root / "work" / name, DAMAGE[name]
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2] if how == "cut" else b"")
    FrameFiles(root).matte(3).unlink()  # it is a link to the other capture's
    FrameFiles(root).matte(3).touch()
    import likeness.preprocess.tracking.tracker as tracker

    made = []
    for stage in ("scan", "track"):
        module = pipeline if stage == "scan" else tracker
        real = getattr(module, stage)
        monkeypatch.setattr(
            module, stage, lambda *a, _n=stage, _r=real, **k: made.append(_n) or _r(*a, **k)
        )
    half = build(face_video, root)
    assert made == stages
    assert half.frames[3].matte_path.read_bytes() == built.frames[3].matte_path.read_bytes()
    for field in ("expression", "T_world_head", "secondary_motion"):
        assert torch.equal(getattr(half.states, field), getattr(built.states, field))


@pytest.mark.parametrize("name", ["states.safetensors", "mattes/000007.png"])
def test_a_damaged_capture_is_mended(built, face_video, tmp_path, name):
    root = tmp_path / "capture"
    shutil.copytree(built.root, root)
    data = (root / name).read_bytes()
    (root / name).write_bytes(data[: len(data) // 2])
    seen = OvalMatting.seen
    mended = build(face_video, root)
    assert torch.equal(mended.states.expression, built.states.expression)
    assert mended.frames[7].matte_path.read_bytes() == built.frames[7].matte_path.read_bytes()
    assert (OvalMatting.seen > seen) == name.endswith("png")  # the rest is read again


def test_long_videos_are_sampled_down_and_the_rate_follows(face_video, tmp_path):
    options = dataclasses.replace(OPTIONS, max_frames=12, min_frames=10)
    capture = build(face_video, tmp_path / "capture", options)
    assert len(capture.frames) == 12 and capture.fps == pytest.approx(25 / 3, rel=1e-3)
    frames = 25 * capture.frames.times_s.numpy()
    np.testing.assert_allclose(frames, frames.round(), atol=0.02)
    assert frames[0] < 3 and frames[-1] > 31 and np.diff(frames).min() > 0.9


def test_start_and_end(face_video, tmp_path):
    options = dataclasses.replace(OPTIONS, start=0.2, end=1.0, min_frames=10)
    capture = build(face_video, tmp_path / "capture", options)
    assert len(capture.frames) == 20 and capture.frames[0].time_s == pytest.approx(0.2)


def test_a_half_readable_video_is_used_with_a_warning(face_video, tmp_path):
    damaged = tmp_path / "damaged.avi"
    data = face_video.read_bytes()
    damaged.write_bytes(data[: int(len(data) * 0.6)])
    capture = build(damaged, tmp_path / "capture", dataclasses.replace(OPTIONS, min_frames=10))
    assert 15 < len(capture.frames) < 26
    assert any("announces 36 frames" in warning["what"] for warning in capture.report["warnings"])


def gray(count, value, size=96):
    return [np.full((size, size, 3), value, np.uint8)] * count


BAD = {
    "black": (lambda: gray(40, 0), "black"),
    "no face": (lambda: gray(40, 128), "no face was found in any of its 40 frames"),
    "one frame": (lambda: list(videos.face_images(1)), "1 frame to look at; at least 30"),
    "few frames": (lambda: list(videos.face_images(8)), "8 frames to look at; at least 30"),
    "16x16": (lambda: gray(40, 100, 16), "16x16 pixels"),
    "face in a few": (
        lambda: [*videos.face_images(7, 96), *gray(40, 128)],
        r"only [67] of 47 frames can be used \(.*no face found: 4",
    ),
}


@pytest.mark.parametrize("kind", list(BAD))
def test_unusable_videos_give_one_clear_line(tmp_path, kind):
    make, message = BAD[kind]
    video = videos.write_video(tmp_path / "a.avi", make(), codec="MJPG")
    with pytest.raises(UserError, match=message) as caught:
        build(video, tmp_path / "capture")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"size": 5}, "size"),
        ({"start": -1.0}, "start"),
        ({"start": 3.0, "end": 2.0}, "end"),
        ({"focal": 0.0}, "focal"),
        ({"min_frames": 0}, "min_frames"),
        ({"test_fraction": 1.0}, "test_fraction"),
    ],
)
def test_senseless_settings_are_refused(change, message):
    with pytest.raises(UserError, match=message):
        PreprocessConfig(**change)


def test_unknown_names_are_refused(face_video, tmp_path):
    with pytest.raises(UserError, match="matting"):
        build(face_video, tmp_path / "a", dataclasses.replace(OPTIONS, matting="chroma"))
    with pytest.raises(UserError, match="head_model"):
        build(face_video, tmp_path / "b", dataclasses.replace(OPTIONS, head_model="nobody"))


def test_a_folder_that_cannot_be_made(face_video, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UserError, match="cannot write there"):
        build(face_video, tmp_path / "file" / "capture")


def test_a_capture_is_named_by_video_settings_and_version_alone(tmp_path, monkeypatch):
    """No file of the program is read: an edited comment leaves everybody's captures as they are."""
    video = tmp_path / "me.mp4"
    video.write_bytes(b"pictures")
    read, open_file = [], Path.open
    with monkeypatch.context() as watched:
        watched.setattr(Path, "open", lambda path, *how: read.append(path) or open_file(path, *how))
        key = cache.source_hash(video, {"size": 512})
    assert read == [video] and key == cache.source_hash(video, {"size": 512})
    others = [cache.source_hash(video, {"size": 256})]
    with monkeypatch.context() as newer:
        newer.setattr(cache, "PIPELINE_VERSION", cache.PIPELINE_VERSION + 1)
        others.append(cache.source_hash(video, {"size": 512}))
    video.write_bytes(b"other pictures")
    others.append(cache.source_hash(video, {"size": 512}))
    assert len({key, *others}) == 4


def test_linking_a_capture_into_a_run(built, tmp_path):
    linked = cache.link_capture(built.root, tmp_path / "run" / "capture")
    loaded = Capture.load(tmp_path / "run" / "capture")
    assert linked.root == loaded.root and len(loaded.frames) == FRAMES
    assert os.path.samefile(built.frames[3].image_path, loaded.frames[3].image_path)
    assert not (loaded.root / "work").exists()
    assert cache.link_capture(built.root, loaded.root).source_hash == built.source_hash
    dataclasses.replace(loaded, source_hash="0").save()
    with pytest.raises(UserError, match="another capture"):
        cache.link_capture(built.root, loaded.root)


def test_two_processes_do_not_work_on_the_same_capture(tmp_path):
    root = tmp_path / "capture"
    hold = (
        "import sys, time, pathlib; from likeness.preprocess.cache import locked\n"
        "with locked(pathlib.Path(sys.argv[1])): print('held', flush=True); time.sleep(0.8)"
    )
    repository = Path(__file__).parents[2]
    other = subprocess.Popen(
        [sys.executable, "-c", hold, str(root)], stdout=subprocess.PIPE, cwd=repository
    )
    assert other.stdout.readline().strip() == b"held"
    begun = time.perf_counter()
    with cache.locked(root):
        assert time.perf_counter() - begun > 0.3
    assert other.wait(10) == 0
    other.stdout.close()


def test_real_footage_end_to_end(shared_clip, tmp_path, capfd):
    quick = PhotometricConfig(num_gaussians=2000, visits=8)
    options = PreprocessConfig(end=2.0, size=256, matting="selfie", photometric=quick)
    capture = build(shared_clip("subject_c"), tmp_path / "capture", options)
    assert len(capture.frames) == 60 and capture.fps == pytest.approx(30)
    assert capture.report["tracking"]["residual_percent"]["median"] < 2.0
    assert capture.report["tracking"]["saturated"] < 0.05
    matte = read_image(capture.frames[30].matte_path)
    assert 0.25 < (matte > 127).mean() < 0.8
    frame = capture.frames[30]
    x, y = frame.landmarks.numpy().astype(int).T
    assert (matte[y.clip(0, 255), x.clip(0, 255)] > 200).mean() > 0.95
    assert capfd.readouterr().err == ""
