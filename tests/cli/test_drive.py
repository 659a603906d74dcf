"""likeness drive and likeness evaluate --driver from the command line, on toy avatars."""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from benchmarks import live
from likeness.cli import drive, evaluate
from likeness.fitting.images import to_uint8
from likeness.playback.player import Player
from likeness.playback.state_file import load_states
from likeness.playback.transfer.running import at_rate, rows, until_interrupted
from likeness.preprocess.video import VideoReader, open_video
from likeness.scene.errors import UserError
from tests import arkit, toys
from tests.preprocess.videos import counting_images, face_images, write_video
from tests.programs import program

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """An avatar and curves for it."""
    root = tmp_path_factory.mktemp("transfer")
    bundle = toys.arkit_bundle(48)
    bundle.save(root / "avatar")
    states, times = toys.performance(40)
    arkit.write(root / "phone.csv", arkit.table(states, bundle.expression_names, times, 30))
    return root


@pytest.fixture
def run(monkeypatch, capsys):
    """The program inside this process, which is quicker: raises what it would print as an error."""
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)

    def called(*arguments, main=drive.main) -> str:
        monkeypatch.setattr(sys, "argv", ["drive", *map(str, arguments)])
        main()
        return capsys.readouterr().out

    return called


def frames(path: Path):
    return [frame.image for frame in VideoReader(open_video(path))]


def test_curves_become_a_film_and_states(folder, tmp_path, run):
    out, kept = tmp_path / "film.mp4", tmp_path / "states.npz"
    options = ("--out", out, "--save-states", kept, "--size", 32)
    result = program(
        "drive", folder / "avatar", "--driver", folder / "phone.csv", *options, timeout=120
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines() == [f"states: {kept}", f"film: {out}"]
    pictures = frames(out)
    assert len(pictures) == 40 and pictures[0].shape == (32, 32, 3)
    bundle = toys.arkit_bundle()
    states, fps = load_states(kept, bundle.expression_names, bundle.joint_names)
    assert len(states) == 40 and fps == pytest.approx(25, abs=0.1)
    assert (states.expression <= bundle.expression_range[1] + 1e-5).all()
    run(
        folder / "avatar",
        "--driver",
        kept,
        "--out",
        tmp_path / "again.mp4",
        "--frames",
        3,
        "--pose",
        "none",
    )
    assert len(frames(tmp_path / "again.mp4")) == 3


def test_films_hold_the_avatar_where_a_driver_turns_further_than_it_was_seen(folder):
    player = Player(folder / "avatar")
    state = dataclasses.replace(player.bundle.default_state, T_world_head=toys.head_pose(1.0))
    driver = SimpleNamespace(fps=25, frames_at=lambda fps: [0], images=None)
    [[shown]] = rows(player, driver, state.map(lambda tensor: tensor[None]), player.camera.height)
    held, plain = (
        to_uint8(player.step(state, None, torch.ones(3), clamp_views=clamp).rgb)
        for clamp in (True, False)
    )
    assert np.array_equal(shown, held) and not np.array_equal(shown, plain)


def test_a_captures_pictures_stand_beside_the_avatars(folder, tmp_path, run):
    toys.make_capture(tmp_path / "capture", frames=6, size=40, test=2)
    out = tmp_path / "film.mp4"
    run(folder / "avatar", "--driver", tmp_path / "capture", "--out", out, "--size", 32)
    assert frames(out)[0].shape == (32, 64, 3)


def test_playing_files_loads_no_preprocessing(folder, tmp_path):
    code = (
        "import sys; from pathlib import Path; from likeness.playback.bundles import load_bundle;"
        "from likeness.playback.player import Player;"
        "from likeness.playback.drivers import open_driver;"
        "from likeness.playback.transfer.running import transfer, rows;"
        "b = load_bundle(Path(sys.argv[1])); d = open_driver(sys.argv[2], b);"
        "list(rows(Player(b), d, transfer(b, d), 16));"
        "print([m for m in sys.modules if m.split('.')[0] in ('preprocess', 'mediapipe')])"
    )
    command = [sys.executable, "-c", code, str(folder / "avatar"), str(folder / "phone.csv")]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert result.stdout.strip() == "[]", result.stdout + result.stderr[-500:]


def test_a_file_in_the_webcams_place_drives_live(folder, tmp_path, run):
    camera = write_video(tmp_path / "cam.mp4", face_images(60))
    run(folder / "avatar", "--webcam", camera, "--out", tmp_path / "live.mp4", "--size", 32)
    pictures = frames(tmp_path / "live.mp4")
    assert 10 <= len(pictures) <= 48 and pictures[0].shape == (32, 64, 3)
    figures = live.measure(folder / "avatar", str(camera), 32, 8)
    assert figures["frames"] == 8 and 0 < figures["detection_ms"] < figures["median_ms"]
    parts = sum(figures[name] for name in ("detection_ms", "tracking_ms", "avatar_ms"))
    assert parts == pytest.approx(figures["median_ms"], rel=0.5) and "| median |" in live.markdown(
        figures
    )


def test_a_video_is_tracked_once_and_drives(folder, tmp_path, run, monkeypatch):
    monkeypatch.setattr("likeness.playback.drivers.video._SIZE", 128)
    video = write_video(tmp_path / "friend.mp4", face_images(36))
    options = (
        "--driver",
        video,
        "--cache",
        tmp_path / "cache",
        "--offline",
        "--size",
        32,
        "--frames",
        2,
    )
    run(folder / "avatar", *options, "--out", tmp_path / "a.mp4")
    assert frames(tmp_path / "a.mp4")[0].shape == (32, 64, 3)
    made = (next((tmp_path / "cache").iterdir()) / "manifest.json").stat().st_mtime_ns
    run(folder / "avatar", *options, "--out", tmp_path / "b.mp4")
    assert (next((tmp_path / "cache").iterdir()) / "manifest.json").stat().st_mtime_ns == made


def test_nothing_is_overwritten_unless_asked(folder, tmp_path, run):
    out = tmp_path / "film.mp4"
    out.write_bytes(b"mine")
    options = (
        folder / "avatar",
        "--driver",
        folder / "phone.csv",
        "--size",
        32,
        "--frames",
        2,
        "--out",
        out,
    )
    with pytest.raises(UserError, match="film.mp4: exists already"):
        run(*options)
    assert out.read_bytes() == b"mine"
    run(*options, "--overwrite")
    assert len(frames(out)) == 2


def test_options_that_would_not_be_read_are_refused(folder, run, capsys):
    cases = [
        (drive.main, ("--webcam", "0", "--smoothing", "0"), "--smoothing is for --driver"),
        (evaluate.main, ("--neutral", "3"), "--neutral has no meaning without --driver"),
        (
            evaluate.main,
            ("--driver", "x", "--frames", "all"),
            "--frames has no meaning with --driver",
        ),
    ]
    for main, arguments, message in cases:
        with pytest.raises(SystemExit) as ended:
            run(folder / "avatar", *arguments, main=main)
        assert ended.value.code == 2 and message in capsys.readouterr().err


def test_a_live_film_runs_as_fast_as_what_was_filmed():
    seen = (("a", 5.0), ("b", 5.3), ("c", 5.32), ("d", 5.5))
    rows = [SimpleNamespace(images=name, frame=SimpleNamespace(time_s=time)) for name, time in seen]
    assert "".join(at_rate(rows, 10)) == "aaabcd"


def test_ctrl_c_ends_a_live_film_and_keeps_it():
    def endless():
        yield 1
        os.kill(os.getpid(), signal.SIGINT)
        yield 2
        yield 3

    before = signal.getsignal(signal.SIGINT)
    assert list(until_interrupted(endless())) == [1, 2]
    assert signal.getsignal(signal.SIGINT) is before


def test_errors_are_said_in_one_line(folder, tmp_path, run):
    faceless = write_video(tmp_path / "wall.mp4", counting_images(40))
    (tmp_path / "notes.txt").write_text("x")
    avatar, out = folder / "avatar", tmp_path / "x.mp4"
    no_screen = "no screen here for a window" if sys.platform == "linux" else "no webcam"
    cases = [
        (
            (avatar, "--driver", faceless, "--cache", tmp_path / "cache", "--offline"),
            "no face was found",
        ),
        ((avatar, "--driver", tmp_path / "notes.txt"), "not recognised as a driver"),
        ((tmp_path, "--driver", folder / "phone.csv"), "no avatar in it"),
        ((avatar, "--webcam", "77", "--out", out), "--webcam 77: no webcam there"),
        ((avatar, "--webcam", "77"), no_screen),
        ((avatar, "--webcam", faceless, "--out", out), "showed no face"),
        (
            (avatar, "--driver", folder / "phone.csv", "--neutral", "40", "--out", out),
            "frames 0 to 39",
        ),
    ]
    for arguments, message in cases:
        with pytest.raises(UserError, match=message):
            run(*arguments)
    assert not out.exists()
    with pytest.raises(UserError, match="not a run directory"):
        run(tmp_path, "--driver", folder / "phone.csv", main=evaluate.main)
    result = program("drive", avatar, "--driver", tmp_path / "notes.txt", timeout=120)
    assert (
        result.returncode == 2
        and result.stderr.startswith("error: ")
        and result.stderr.count("\n") == 1
    )
