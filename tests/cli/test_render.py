"""likeness render from end to end on a small made avatar: films, folders, pictures, and
mistakes."""

from __future__ import annotations

import json
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
import torch

from likeness.playback.player import Player
from likeness.playback.state_file import save_states
from tests import toys
from tests.contract.test_avatars import EXTENDED, make
from tests.programs import called


@pytest.fixture(scope="module")
def avatar(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("avatar")
    toys.bundle(make("headgas", EXTENDED), 40).save(folder)
    return folder


@pytest.fixture
def program(avatar):
    """Runs the command in this process with options; gives its exit code, its output and the line
    of error."""

    def run(*options: object, avatar: Path = avatar) -> tuple[int, str, str]:
        result = called("render", avatar, *options)
        errors = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
        assert len(errors) == (1 if result.returncode == 2 else 0), result.stderr
        return result.returncode, result.stdout, errors[0] if errors else ""

    return run


def read(path: Path) -> np.ndarray:
    picture = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    return picture[..., [2, 1, 0, 3][: picture.shape[2]]]


def test_a_frame_by_the_camera_that_recorded_it_is_the_player_s_picture(program, avatar, tmp_path):
    code, printed, _ = program(
        "--trajectory", "still", "--frame", 4, "--out", tmp_path / "a.png", "--extrapolate"
    )
    assert code == 0 and printed.strip() == str(tmp_path / "a.png")
    player = Player(avatar)
    expected = player.step(player.bundle.recording[4], None, torch.ones(3)).rgb.clamp(0, 1)
    assert np.abs(read(tmp_path / "a.png") - 255 * expected.numpy()).max() <= 0.51


def test_coarse_pictures_are_those_without_the_screen_refiner(program, tmp_path):
    bundle = toys.refined(toys.bundle(make("rigged", EXTENDED), 40))
    bundle.save(tmp_path / "bundle")
    options = ("--trajectory", "still", "--extrapolate", "--out")
    for flags, refine in (((), True), (("--coarse",), False)):
        assert (
            program(*options, tmp_path / f"{refine}.png", *flags, avatar=tmp_path / "bundle")[0]
            == 0
        )
        expected = (
            Player(bundle, refine=refine)
            .step(bundle.default_state, None, torch.ones(3))
            .rgb.clamp(0, 1)
        )
        assert np.abs(read(tmp_path / f"{refine}.png") - 255 * expected.numpy()).max() <= 0.51
    assert not np.array_equal(read(tmp_path / "True.png"), read(tmp_path / "False.png"))
    assert program(*options, tmp_path / "pngs", avatar=tmp_path / "bundle")[0] == 0
    code, _, error = program(*options, tmp_path / "pngs", "--coarse", avatar=tmp_path / "bundle")
    assert code == 2 and "other views" in error  # the refined ones are not mixed with coarse ones


def test_pngs_with_depth_and_normals_are_gone_on_with(program, tmp_path):
    out = tmp_path / "frames"
    options = (
        "--sequence",
        "recording",
        "--end",
        0.16,
        "--background",
        "transparent",
        "--depth",
        "--normals",
        "--size",
        "32x24",
        "--out",
        out,
    )
    assert program(*options)[0] == 0
    assert sorted(p.name for p in out.iterdir()) == [
        *[f"{i:06d}.png" for i in range(4)],
        "depth",
        "normals",
        "views.json",
    ]
    colour, depth = (
        read(out / "000002.png"),
        np.load(out / "depth" / "000002.npy", allow_pickle=False),
    )
    normals = np.load(out / "normals" / "000002.npy", allow_pickle=False)
    assert colour.shape == (24, 32, 4) and depth.shape == (24, 32) and normals.shape == (24, 32, 3)
    solid = colour[..., 3] > 200
    assert solid.any() and (colour[..., 3] == 0).any()
    assert (
        (depth[solid] > 0.6).all()
        and (depth[solid] < 1.2).all()
        and (depth[colour[..., 3] == 0] < 1e-6).all()
    )
    lengths = np.linalg.norm(normals, axis=-1)
    assert (
        np.all((np.abs(lengths - 1) < 1e-4) | (lengths == 0))
        and (normals[lengths > 0][:, 2] < 0.5).all()
    )
    assert json.loads((out / "views.json").read_text())["moments"] == 4

    before = {path: path.stat().st_mtime_ns for path in out.rglob("*.png")}
    (out / "000001.png").unlink()
    assert program(*options)[0] == 0
    after = {path: path.stat().st_mtime_ns for path in out.rglob("*.png")}
    assert {p for p in after if after[p] != before[p]} == {
        out / n for n in ("000001.png", "depth/000001.png", "normals/000001.png")
    }
    code, _, error = program(*options, "--expression", "e3=1")
    assert code == 2 and "holds other views; choose another --out, or give --overwrite" in error
    assert program("--frame", 0, "--trajectory", "still", "--out", out, "--overwrite")[0] == 0
    assert sorted(p.name for p in out.rglob("*.*")) == ["000000.png", "views.json"]


def test_folders_with_other_things_are_left_alone(program, tmp_path):
    (tmp_path / "mine.txt").write_text("keep")
    code, _, error = program("--out", tmp_path, "--overwrite", "--trajectory", "still")
    assert code == 2 and "holds other things" in error
    assert [p.name for p in tmp_path.iterdir()] == ["mine.txt"]


def test_grids_are_tiled_in_a_picture_and_named_in_a_folder(program, tmp_path):
    options = (
        "--trajectory",
        "grid",
        "--yaws",
        -20,
        0,
        20,
        "--pitches",
        0,
        10,
        "--expression",
        "e1=0.5,e2=1",
    )
    assert program(*options, "--depth", "--out", tmp_path / "grid.png")[0] == 0
    assert read(tmp_path / "grid.png").shape == (80, 120, 3)
    assert np.load(tmp_path / "grid_depth.npy").shape == (6, 40, 40)
    assert program(*options, "--out", tmp_path / "grid")[0] == 0
    names = {p.name for p in (tmp_path / "grid").glob("*.png")}
    assert len(names) == 6 and "000000_yaw-20_pitch+10.png" in names


def test_films(program, tmp_path):
    states = toys.random_states((5,), seed=2)
    bundle_names = tuple(f"e{i}" for i in range(52))
    save_states(tmp_path / "s.npz", states, 12.5, bundle_names, ("a", "b"))
    options = ("--sequence", tmp_path / "s.npz", "--around", "head", "--normals")
    assert program(*options, "--out", tmp_path / "a.mp4")[0] == 0
    for name in ("a.mp4", "a_normals.mp4"):
        with av.open(str(tmp_path / name)) as film:
            assert (
                film.streams.video[0].frames == 5
                and float(film.streams.video[0].average_rate) == 12.5
            )
    spiral = ("--trajectory", "spiral", "--seconds", 0.2, "--background", "transparent")
    assert program(*spiral, "--out", tmp_path / "b.webm")[0] == 0
    with av.open(str(tmp_path / "b.webm")) as film:
        assert film.streams.video[0].metadata.get("ALPHA_MODE", "0") == "1"
    code, _, error = program(*spiral, "--out", tmp_path / "b.webm")
    assert code == 2 and "exists already" in error
    assert program(*spiral, "--out", tmp_path / "b.webm", "--overwrite")[0] == 0


def test_a_camera_path(program, avatar, tmp_path):
    entry = {"fov_degrees": 25, "eye": [0.2, 0, 0.8], "target": [0, 0, -0.06]}
    keys = [{**entry, "time_s": 0}, {**entry, "eye": [-0.2, 0, 0.8], "time_s": 0.12}]
    top = {
        "format": "camera_path",
        "format_version": 1,
        "fps": 25,
        "width": 36,
        "height": 30,
        "relative_to": "rest",
    }
    (tmp_path / "path.json").write_text(json.dumps({**top, "keyframes": keys}))
    assert program("--path", tmp_path / "path.json", "--out", tmp_path / "a")[0] == 0
    assert len(list((tmp_path / "a").glob("*.png"))) == 4 and read(
        tmp_path / "a" / "000003.png"
    ).shape == (30, 36, 3)
    assert program("--path", tmp_path / "path.json", "--out", tmp_path / "b", "--size", 72)[0] == 0
    assert read(tmp_path / "b" / "000000.png").shape == (60, 72, 3)
    (tmp_path / "path.json").write_text(json.dumps({**top, "frames": [{**entry, "eye": [0, 0]}]}))
    code, _, error = program("--path", tmp_path / "path.json", "--out", tmp_path / "c")
    assert code == 2 and "path.json: frames[0]: eye: expected 3 numbers, got 2" in error


@pytest.mark.parametrize(
    "options, words",
    [
        (("--expression", "e511=1"), "no expression 'e511'; did you mean e51?"),
        (("--frame", 99), "frames 0 to 11"),
        (("--sequence", "nothing.npz"), "nothing.npz: not found"),
        (("--background", "no.png"), "no.png: not found"),
        (("--out", "a.gif"), "a.gif: expected a film"),
        (("--out", "a.png"), "one image, but 100 moments"),
        (("--out", "a.mp4", "--background", "transparent"), "holds no transparency"),
        (("--start", 1), "--start and --end need --sequence"),
        (("--trajectory", "still", "--yaw", 3), "--yaw: has no meaning with --trajectory still"),
        (("--path", "p.json", "--fov", 3), "--fov: has no meaning with --path"),
        (("--path", "p.json"), "p.json: not found"),
        (("--size", "0x3"), "expected W or WxH"),
        (("--seconds", "1e6"), "--seconds 1e+06: 25000000 images; expected at most 100000"),
        (("--yaw", "200"), "expected an angle from 0 to 180"),
        (
            ("--trajectory", "grid", "--yaws", "0", "nan"),
            "expected an angle from -180 to 180, got 'nan'",
        ),
    ],
)
def test_mistakes(program, tmp_path, monkeypatch, options, words):
    monkeypatch.chdir(tmp_path)
    code, _, error = program(*options)
    assert code == 2 and words in error, error
    assert list(tmp_path.iterdir()) == []


def test_other_folders_are_no_avatars(program, tmp_path):
    (tmp_path / "run.json").write_text("{}")
    for folder, words in (
        (tmp_path, "its fit has not finished"),
        (tmp_path / "x", "no such folder"),
    ):
        code, _, error = program(avatar=folder)
        assert code == 2 and words in error
