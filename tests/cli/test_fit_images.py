"""fit_subject.py --image as a person uses it, what goes on with such a run, and everything that can
go wrong."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from likeness.scene.errors import UserError
from tests import synthetic_images
from tests.programs import inside, program

SMALL = ("--size", "224", "--offline", "--device", "cpu", "--set", "seeds.num_gaussians=4000")


@pytest.fixture(scope="module")
def picture(tmp_path_factory) -> Path:
    return synthetic_images.save(
        tmp_path_factory.mktemp("pictures") / "me.jpg", synthetic_images.picture(), quality=95
    )


@pytest.fixture(scope="module")
def finished(picture, tmp_path_factory) -> Path:
    run = tmp_path_factory.mktemp("runs") / "me"
    result = program("fit", "--image", picture, "--out", run, "--refine", "0.5", *SMALL)
    assert result.returncode == 0, result.stderr[-3000:]
    assert str(run / "report.html") in result.stdout and not list(run.parent.glob(".pictures-*"))
    return run


class TestARun:
    def test_holds_everything(self, finished):
        metrics = json.loads((finished / "metrics.json").read_text())
        assert metrics["heldout"]["psnr"] is None and metrics["source"]["psnr"] > 18
        assert metrics["notes"]["held_out"].startswith("nothing")
        assert set(metrics["seconds"]) >= {
            "start",
            "reading",
            "face",
            "head",
            "matte",
            "seeds",
            "refine",
            "measuring",
        }
        assert {path.name for path in (finished / "pictures").iterdir()} == {
            "source_0.png",
            "turntable.png",
            "expressions.png",
        }
        report = (finished / "report.html").read_text()
        assert "The avatar of these images" in report and "none held out" in report
        assert json.loads((finished / "bundle" / "manifest.json").read_text())["avatar"] == "rigged"

    def test_says_that_nothing_is_held_out(self, finished, tmp_path):
        with pytest.raises(UserError, match="nothing of it is held out; --frames train"):
            inside("evaluate", finished, "--offline")
        out = tmp_path / "train.json"
        inside("evaluate", finished, "--offline", "--frames", "train", "--json", out)
        source = json.loads((finished / "metrics.json").read_text())["source"]
        assert json.loads(out.read_text())["heldout"]["psnr"] == pytest.approx(
            source["psnr"], abs=1e-4
        )

    def test_is_seen_from_other_sides_and_exported(self, finished, tmp_path):
        inside(
            "render",
            finished,
            "--out",
            tmp_path / "views",
            "--trajectory",
            "grid",
            "--yaws",
            -30,
            0,
        )
        assert len(list((tmp_path / "views").glob("*.png"))) == 2
        inside("export", finished, "--format", "ply", "--out", tmp_path / "me.ply")
        assert (tmp_path / "me.ply").stat().st_size > 10_000

    def test_drives_and_is_driven(self, finished, tmp_path):
        inside("drive", finished, "--driver", finished, "--out", tmp_path / "driven.mp4")
        assert (tmp_path / "driven.mp4").stat().st_size > 0

    def test_is_not_resumed(self, finished):
        with pytest.raises(UserError, match="made from images"):
            inside("fit", "--resume", finished)

    def test_an_edited_picture_changes_a_copy(self, finished, tmp_path):
        edited = synthetic_images.picture()
        edited[40:110] = (0.5 * edited[40:110] + [0, 0, 110]).clip(0, 255).astype(np.uint8)
        path = synthetic_images.save(tmp_path / "edited.png", edited)
        before = (finished / "bundle" / "tensors.safetensors").read_bytes()
        run = tmp_path / "edited"
        inside("fit", "--image", path, "--base", finished, "--out", run, *SMALL[:5])
        assert (finished / "bundle" / "tensors.safetensors").read_bytes() == before
        metrics = json.loads((run / "metrics.json").read_text())
        assert (
            metrics["recoloured"]["gaussians_changed"] > 20
            and (run / "pictures" / "edit_0.png").is_file()
        )
        with pytest.raises(UserError, match="--base: takes everything from its run"):
            inside("fit", "--image", path, "--base", finished, "--out", tmp_path / "x", *SMALL)


class TestErrors:
    @pytest.mark.parametrize(
        "options, words",
        [
            (("--image", "me.jpg", "--minutes", "1"), "--minutes has no meaning with --image"),
            (("--demo", "--refine", "1"), "--refine has no meaning without --image"),
            (("--image", "me.jpg", "--video", "x.mp4"), "not allowed with"),
        ],
    )
    def test_options_that_have_no_meaning(self, options, words, capsys):
        with pytest.raises(SystemExit) as stopped:
            inside("fit", *options)
        assert stopped.value.code == 2 and words in capsys.readouterr().err

    def test_pictures_that_cannot_be_used(self, tmp_path, picture):
        blank = synthetic_images.save(tmp_path / "blank.png", np.full((200, 200, 3), 90, np.uint8))
        with pytest.raises(UserError, match="no face was found"):
            inside("fit", "--image", blank, "--out", tmp_path / "run", *SMALL)
        assert not (tmp_path / "run").exists() and not list(tmp_path.glob(".pictures-*"))
        with pytest.raises(UserError, match="initializer"):
            inside(
                "fit", "--image", picture, "--init", "nothing", "--out", tmp_path / "run", *SMALL
            )

    def test_a_base_that_is_none(self, tmp_path, picture, finished):
        with pytest.raises(UserError, match="not a run directory"):
            inside("fit", "--image", picture, "--base", tmp_path)
        broken = Path(shutil.copytree(finished, tmp_path / "broken"))
        (broken / "bundle" / "manifest.json").unlink()
        with pytest.raises(UserError, match="not an avatar"):
            inside("fit", "--image", picture, "--base", broken)
