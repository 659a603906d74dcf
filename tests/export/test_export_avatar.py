"""likeness export from end to end on a toy, what every format promises, and its errors."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from likeness.export import codes, distil
from likeness.export.base import ExportOptions
from likeness.export.fidelity import agreement, images
from likeness.export.formats import EXPORTERS, export_avatar
from likeness.fitting.bundle import AvatarBundle
from likeness.playback.player import Player
from likeness.scene.errors import UserError
from tests import toys
from tests.contract.test_avatars import EXTENDED, make
from tests.documentation import code_under
from tests.programs import called, fails, inside


@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("avatar")
    toys.bundle(make("headgas", EXTENDED), 40).save(folder / "bundle")
    return folder / "bundle"


@pytest.fixture(autouse=True)
def _few_steps(monkeypatch) -> None:
    """These tests are of files, not of how well the network is fitted."""
    monkeypatch.setitem(distil.distil.__kwdefaults__, "states", 200)
    for module in (codes, distil):
        monkeypatch.setattr(module, "CODER_STEPS", 300)


@pytest.mark.parametrize("name", EXPORTERS)
def test_every_format_writes_whole_files_and_overwrites_none(name, saved, tmp_path):
    bundle, exporter = AvatarBundle.load(saved), EXPORTERS[name]
    states = bundle.recording[:1]
    facts = exporter.write(bundle, states, tmp_path / exporter.name, ExportOptions())
    written = [
        path
        for path in (tmp_path / exporter.name, *(tmp_path / exporter.name).rglob("*"))
        if path.is_file()
    ]
    assert facts["bytes"] == sum(path.stat().st_size for path in written) > 0
    assert facts["psnr"] is None or facts["psnr"] > 30
    assert [path.name for path in tmp_path.iterdir()] == [exporter.name]  # and nothing beside
    before = [path.read_bytes() for path in written]
    with pytest.raises(UserError, match="not overwritten"):
        exporter.write(bundle, states, tmp_path / exporter.name, ExportOptions())
    assert [path.read_bytes() for path in written] == before


def test_the_exporter_of_the_documentation_is_one(saved, tmp_path, monkeypatch):
    (code,) = code_under("docs/extending.md", "An exporter")
    module: dict = {}
    exec(code, module)
    monkeypatch.setitem(EXPORTERS, "csv", module["CSV"])
    bundle = AvatarBundle.load(saved)
    facts = export_avatar(bundle, tmp_path / "a.csv", "csv", bundle.recording[:1])
    lines = (tmp_path / "a.csv").read_text().splitlines()
    assert len(lines) == bundle.avatar.num_gaussians and facts["bytes"] > 0


@pytest.mark.parametrize("name", EXPORTERS)
def test_every_format_takes_options_that_exist(name):
    assert EXPORTERS[name].takes <= {"states", *ExportOptions.__dataclass_fields__}


@pytest.mark.parametrize(
    "format, options", [("web", {"axes": "z-up"}), ("ply", {"codes": 3}), ("bundle", {})]
)
def test_what_a_format_does_not_read_is_refused(format, options, saved, tmp_path):
    bundle = AvatarBundle.load(saved)
    with pytest.raises(UserError, match=f"the format {format} does not read it"):
        export_avatar(
            bundle, tmp_path / "out", format, bundle.recording[:1], ExportOptions(**options)
        )


def test_a_playback_bundle_plays_like_the_avatar(saved, tmp_path, capsys):
    inside("export", saved, "--format", "bundle", "--codes", 6, "--out", tmp_path / "small")
    assert "6" in capsys.readouterr().out
    small, own = AvatarBundle.load(tmp_path / "small"), AvatarBundle.load(saved)
    assert small.avatar.kind == "linear" and torch.equal(
        small.recording.expression, own.recording.expression
    )
    export = json.loads((tmp_path / "small" / "manifest.json").read_text())["export"]
    found = agreement(images(small, own.recording), images(own, own.recording))
    assert found > 30 and export["psnr_to_avatar"] > 30
    assert Player(tmp_path / "small").step(own.default_state).rgb.shape == (40, 40, 3)
    # It can be exported again; it is not distilled twice.
    inside("export", tmp_path / "small", "--format", "bundle", "--out", tmp_path / "again")
    assert AvatarBundle.load(tmp_path / "again").avatar.config == small.avatar.config


def test_an_exact_bundle_is_half_as_large_and_looks_the_same(saved, tmp_path):
    inside("export", saved, "--format", "bundle", "--exact", "--out", tmp_path / "exact")
    exact, own = AvatarBundle.load(tmp_path / "exact"), AvatarBundle.load(saved)
    assert exact.avatar.kind == "headgas"
    assert agreement(images(exact, own.recording), images(own, own.recording)) > 50
    sizes = [
        (folder / "tensors.safetensors").stat().st_size for folder in (tmp_path / "exact", saved)
    ]
    assert sizes[0] < 0.7 * sizes[1]


def test_default_places_are_beside_the_bundle_and_in_the_run(saved):
    inside("export", saved, "--format", "spz", "--expression", "e3=0.5", "--frame", 2)
    inside("export", saved, "--format", "ply", "--sequence", "--end", 0.1)
    assert (saved.parent / "export" / "avatar.spz").is_file()
    assert len(list((saved.parent / "export" / "ply_sequence").iterdir())) == 3


ERRORS = [
    (["--format", "splat"], "format splat: unknown"),
    (["--format", "plyy"], "did you mean ply"),
    (["--format", "ply", "--expression", "e33x=1"], "did you mean e33?"),
    (["--format", "ply", "--expression", "e3"], "expected NAME=VALUE"),
    (["--format", "ply", "--expression", "e3=nan"], "expected a number"),
    (["--format", "ply", "--frame", "12"], "frames 0 to 11"),
    (["--format", "ply", "--frame", "-1"], "frames 0 to 11"),
    (["--format", "ply", "--end", "1"], "give --sequence"),
    (["--format", "ply", "--sequence", "--start", "99"], "no frame lies between"),
    (["--format", "ply", "--exact"], "--exact: --format ply does not read it"),
    (["--format", "bundle", "--frame", "1"], "--frame: --format bundle does not read it"),
    (["--format", "spz", "--axes", "z-up"], "--axes: --format spz does not read it"),
    (["--format", "bundle", "--exact", "--codes", "3"], "--exact excludes"),
]


@pytest.mark.parametrize("arguments, message", ERRORS)
def test_errors_are_one_line(saved, tmp_path, arguments, message):
    with pytest.raises(UserError, match=message.replace("?", r"\?")) as error:
        inside("export", saved, *arguments, "--out", tmp_path / "out")
    assert "\n" not in str(error.value) and not (tmp_path / "out").exists()


def test_the_program_ends_with_2_and_one_line(saved, tmp_path):
    (tmp_path / "a.ply").write_text("mine")
    result = called("export", saved, "--format", "ply", "--out", tmp_path / "a.ply")
    fails(result, "exists already and is not overwritten")
    result = called("export", saved, "--format", "ply", "--frame", 1, "--sequence")
    fails(result, "--sequence: not allowed with argument --frame")
    assert (tmp_path / "a.ply").read_text() == "mine"


@pytest.fixture(scope="module")
def refined(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("refined") / "bundle"
    toys.refined(toys.bundle(make("linear", EXTENDED), 40)).save(folder)
    return folder


@pytest.mark.parametrize("name", ["ply", "spz", "web"])
def test_files_leave_the_screen_refiner_out_and_say_so(
    name, refined, saved, tmp_path, caplog, capsys
):
    inside("export", refined, "--format", name, "--out", tmp_path / "out")
    said = [
        record for record in caplog.records if "the screen refiner is left out" in record.message
    ]
    assert len(said) == 1 and "refiner left out" in capsys.readouterr().out
    if name == "web":
        assert json.loads((tmp_path / "out" / "avatar.json").read_text())["refiner"] == "left out"
    # has none to leave out
    inside("export", saved, "--format", "ply", "--out", tmp_path / "other.ply")
    assert len(caplog.records) == 1 and "refiner" not in capsys.readouterr().out


@pytest.mark.parametrize("how", [[], ["--exact"]])
def test_a_playback_bundle_keeps_the_screen_refiner(how, refined, tmp_path, capsys):
    inside("export", refined, "--format", "bundle", *how, "--out", tmp_path / "small")
    small, own = AvatarBundle.load(tmp_path / "small"), AvatarBundle.load(refined)
    assert "refiner kept" in capsys.readouterr().out and small.facts["export"]["refiner"] == "kept"
    assert agreement(images(small, own.recording), images(own, own.recording)) > 35
    assert agreement(images(small, own.recording), images(own.coarse(), own.recording)) < 30
