"""What a run was asked for, as --resume reads it, and one process at a time."""

from __future__ import annotations

import json

import pytest

from likeness.fitting.run_directory import RunDirectory
from likeness.scene.errors import UserError


@pytest.fixture
def write(tmp_path):
    def write(content) -> RunDirectory:
        text = (
            content
            if isinstance(content, str)
            else json.dumps({"format": "run", "format_version": 1, **content})
        )
        (tmp_path / "run.json").write_text(text)
        return RunDirectory.open(tmp_path)

    return write


def test_options_are_typed(write):
    found = write(
        {"options": {"minutes": 3, "seed": 7, "demo": True, "later": "unknown"}, "versions": {}}
    ).options()
    assert (found.minutes, found.seed, found.demo, found.device, found.images) == (
        3.0,
        7,
        True,
        None,
        None,
    )
    assert write({}).options().seed == 0
    assert write({"options": {"images": ["a.png"], "refine": None}}).options().images == ["a.png"]


@pytest.mark.parametrize(
    "content, message",
    [
        ({"options": None}, "options: expected an object, got null"),
        ({"options": [1]}, "options: expected an object, got a list"),
        ({"options": {"seed": "x"}}, "options.seed: expected a whole number, got text"),
        ({"options": {"seed": -1}}, "options.seed: expected a whole number >= 0"),
        ({"options": {"minutes": 3, "iterations": 5}}, "minutes and iterations are both given"),
        ({"options": {"minutes": 1e7}}, "options.minutes"),
        ({"options": {"minutes": 0}}, "options.minutes: expected a number > 0"),
        ({"options": {"weights": 1}}, "options.weights: expected text or null"),
        ({"format_version": 2}, "newer than this program"),
        ({"format": "capture"}, "of another kind"),
        ("[" * 100_000, "nested too deeply|expected an object"),
        ('{"format": "run", "format_version": ' + "1" * 5000 + "}", "hundreds of digits"),
    ],
)
def test_settings_that_are_damaged_are_one_line(write, tmp_path, content, message):
    with pytest.raises(UserError, match=message) as error:
        write(content)
    assert str(tmp_path / "run.json") in str(error.value)


def test_a_run_is_fitted_by_one_process_at_a_time(write):
    run = write({})
    with (
        run.held(),
        pytest.raises(UserError, match="another process is at work on this run"),
        run.held(),
    ):
        pass
    with run.held():
        pass
