"""A thinned capture is a capture: smaller, of the same split, and fitted like any other."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from likeness.fitting import loop
from likeness.fitting.loop import Budget
from likeness.renderers import create
from likeness.scene.capture import Capture
from likeness.scene.errors import UserError
from tests import toys
from tests.fitting.test_loop import SMALL
from tools.thin_capture import thin

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def capture(tmp_path_factory):
    return toys.make_capture(
        tmp_path_factory.mktemp("whole") / "capture", frames=14, size=32, test=4
    )


def test_every_third_frame_of_both_parts_of_the_split(capture, tmp_path):
    thinned = thin(capture, 3, tmp_path / "thin")
    kept = {"train": capture.train[::3], "test": capture.test[::3]}
    assert len(thinned.frames) == 4 + 2 and thinned.fps == pytest.approx(25 / 3)
    assert thinned.source_hash != capture.source_hash
    for part, originals in kept.items():
        for index, original in zip(getattr(thinned, part), originals, strict=True):
            found, wanted = thinned.frames[index], capture.frames[original]
            assert found.time_s == wanted.time_s and torch.equal(found.landmarks, wanted.landmarks)
            assert torch.equal(found.state.T_world_head, wanted.state.T_world_head)
            assert found.image_path.read_bytes() == wanted.image_path.read_bytes()
            assert found.matte_path.read_bytes() == wanted.matte_path.read_bytes()
    times = [frame.time_s for frame in thinned.frames]
    assert times == sorted(times) and len(list((tmp_path / "thin" / "images").iterdir())) == 6


def test_a_fit_takes_a_thinned_capture(capture, tmp_path):
    thinned = thin(capture, 2, tmp_path / "thin")
    avatar = loop.fit(thinned, create("cpu"), SMALL, Budget(iterations=2))
    assert torch.isfinite(avatar.per_gaussian["means"]).all()


def test_nothing_is_overwritten_and_nothing_half_is_left(capture, tmp_path):
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "mine.txt").write_text("x")
    with pytest.raises(UserError, match="not overwritten"):
        thin(capture, 2, tmp_path / "there")
    broken = Capture.load(toys.make_capture(tmp_path / "broken", frames=4, size=16, test=1).root)
    broken.frames[2].matte_path.unlink()
    with pytest.raises(UserError, match="missing from the capture"):
        thin(broken, 1, tmp_path / "thin")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["broken", "there"]


def test_the_program(capture, tmp_path):
    def call(*arguments):
        return subprocess.run(
            [sys.executable, "-m", "tools.thin_capture", *map(str, arguments)],
            capture_output=True,
            text=True,
            cwd=ROOT,
        )

    done = call(capture.root, "--every", 5, "--out", tmp_path / "thin")
    assert done.returncode == 0 and "3 of 14 frames (2 to train on, 1 to test)" in done.stdout, (
        done.stderr
    )
    assert len(Capture.load(tmp_path / "thin").frames) == 3
    for arguments in (
        (tmp_path, "--out", tmp_path / "x"),
        (capture.root, "--every", 0, "--out", tmp_path / "x"),
    ):
        failed = call(*arguments)
        assert (
            failed.returncode == 2
            and "Traceback" not in failed.stderr
            and not (tmp_path / "x").exists()
        )
    failed = call(capture.root, "--out", Path(__file__) / "x")
    assert failed.returncode == 2 and "cannot write there" in failed.stderr
