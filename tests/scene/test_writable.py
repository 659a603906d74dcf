"""A place where nothing can be written is said before the work whose result was to be there."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

from likeness.fitting.bundle import AvatarBundle
from likeness.fitting.run_directory import RunDirectory
from likeness.scene import files
from likeness.scene.errors import UserError
from likeness.scene.files import atomic_path, check_writable, new_folder, write_json
from tests import toys
from tests.programs import called, fails


def test_a_place_that_can_be_written_is_left_as_it_was(tmp_path):
    for path in (tmp_path, tmp_path / "a.json", tmp_path / "no" / "such" / "folder" / "a.json"):
        check_writable(path)
    assert list(tmp_path.iterdir()) == []


def test_places_that_cannot_are_one_line(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    for path in (
        tmp_path / "file" / "a.json",
        tmp_path / "file" / "b" / "a.json",
        tmp_path / ("ü" * 128),
    ):
        with pytest.raises(UserError, match="cannot write there") as error:
            check_writable(path)
        assert str(path) in str(error.value) and "\n" not in str(error.value)

    def refused(**_):
        raise PermissionError(13, "Permission denied")

    # the tests may run as root, who may do anything
    monkeypatch.setattr(files.tempfile, "TemporaryFile", refused)
    with pytest.raises(
        UserError, match=r"a\.json: cannot write there \(Permission denied\); choose another folder"
    ):
        check_writable(tmp_path / "a.json")


@pytest.mark.parametrize(
    "command, arguments",
    [
        ("export", ["--format", "ply", "--out"]),
        ("render", ["--out"]),
        ("drive", ["--driver", "states.npz", "--out"]),
        ("drive", ["--driver", "states.npz", "--save-states"]),
        ("evaluate", ["--json"]),
    ],
)
def test_commands_say_it_before_they_work(command, arguments, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    out = tmp_path / "file" / ("a.mp4" if command != "evaluate" else "a.json")

    def work(*_, **__):
        raise AssertionError("worked first")

    if command == "render":  # the avatar says how many pictures there are
        toys.arkit_bundle(16).save(tmp_path / "run" / "bundle")
        monkeypatch.setattr("likeness.playback.views.files.write_views", work)
    else:
        monkeypatch.setattr(AvatarBundle, "load", work)
        monkeypatch.setattr(RunDirectory, "open", work)
        monkeypatch.setattr("likeness.playback.bundles.load_bundle", work)
    command = importlib.import_module(f"likeness.cli.{command}")
    with pytest.raises(UserError, match="cannot write there"):
        command.main([str(tmp_path / "run"), *arguments, str(out)])


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="no /proc on this system")
def test_folders_that_the_system_makes_for_nobody(tmp_path):
    """It calls them missing, as it calls a file that a program forgot to write."""
    for path in (Path("/proc/x/a"), Path("/proc/x/y/a")):
        with pytest.raises(UserError, match=f"{path}: cannot write there"):
            write_json(path, {})
        with pytest.raises(UserError, match=f"{path}: cannot write there"), new_folder(path):
            pass
    with pytest.raises(FileNotFoundError), atomic_path(tmp_path / "a"):
        pass
    (tmp_path / "a.mp4").write_bytes(b"x")
    (tmp_path / "list.txt").write_text("a.mp4")
    for program in (["collect", tmp_path], ["fit", "--list", tmp_path / "list.txt"]):
        fails(called(*program, "--out", "/proc/x", "--offline"), "/proc/x", "cannot write there")
