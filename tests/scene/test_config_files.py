"""Presets over dataclasses: what differs, what is refused, and in which words."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Literal

import pytest

from likeness.fitting.config import FitConfig
from likeness.scene import config_files
from likeness.scene.config_files import load_preset
from likeness.scene.errors import UserError
from likeness.training.config import TrainConfig
from tests.redundant_keys import redundant_keys


@dataclasses.dataclass(frozen=True)
class Densify:
    start: int = 500
    """First step."""
    threshold: float = 2e-4
    """Gradient above which a Gaussian is doubled,
    in normalised device coordinates."""
    rates: tuple[float, float] = (1e-3, 1e-4)
    """At the start and at the end."""


@dataclasses.dataclass(frozen=True)
class Base:
    name: str = "me"
    """Of the run."""


@dataclasses.dataclass(frozen=True)
class Fit(Base):
    steps: int = 50_000
    """Length of the fit."""
    minutes: float | None = None
    """Time instead of steps."""
    mode: Literal["on", "off", "auto"] = "auto"
    """Whether."""
    fast: bool = False
    layers: tuple[int, ...] = (64, 64)
    """Sizes."""
    weights: dict[str, float] = dataclasses.field(default_factory=lambda: {"l1": 0.8})
    """Of the loss."""
    folder: Path | None = None
    """Where."""
    densify: Densify = Densify()
    """Growth."""
    extra: Densify | None = None
    """A second one."""

    def __post_init__(self) -> None:
        if self.steps < 0:
            raise ValueError("must not be negative")


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "quick.yaml").write_text("steps: 100\ndensify:\n  threshold: 1e-3\n")
    (tmp_path / "empty.yaml").write_text("# nothing differs\n")
    return tmp_path


def _load(folder: Path, text: str) -> Fit:
    path = folder / "mine.yaml"
    path.write_text(text)
    return load_preset(path, Fit)


def _set(*overrides: str) -> Fit:
    return load_preset(None, Fit, overrides)


def test_a_preset_changes_only_what_it_names(folder):
    assert (
        config_files.defaults(Fit)
        == Fit()
        == load_preset(None, Fit)
        == load_preset("empty", Fit, folder=folder)
    )
    expected = dataclasses.replace(Fit(), steps=100, densify=Densify(threshold=1e-3))
    assert (
        load_preset("quick", Fit, folder=folder)
        == load_preset(folder / "quick.yaml", Fit)
        == expected
    )


def test_overrides_follow_the_preset_and_the_last_one_wins(folder):
    config = load_preset("quick", Fit, ["steps=5", "densify.start=1", "steps=1e1"], folder)
    assert (config.steps, config.densify.start, config.densify.threshold) == (10, 1, 1e-3)
    same = load_preset("quick", Fit, {"steps": 10, "densify.start": 1}, folder)
    assert (
        same == config == load_preset("quick", Fit, {"steps": 10, "densify": {"start": 1}}, folder)
    )


@pytest.mark.parametrize(
    "text, field, value",
    [
        ("densify: {threshold: 1e-3}", "densify.threshold", 1e-3),  # text to PyYAML
        ("densify: {threshold: 1}", "densify.threshold", 1.0),
        ("densify.threshold: .5", "densify.threshold", 0.5),
        ("steps: 5e4", "steps", 50_000),
        ("steps: 50_000", "steps", 50_000),
        ("minutes: null", "minutes", None),
        ("minutes: 3", "minutes", 3.0),
        ("name: '12'", "name", "12"),
        ("name: 1e-3", "name", "1e-3"),
        ("mode: 'off'", "mode", "off"),
        ("layers: [1, 2, 3]", "layers", (1, 2, 3)),
        ("densify: {rates: [1e-2, 1]}", "densify.rates", (1e-2, 1.0)),
        ("weights: {l1: 1, ssim: 1e-1}", "weights", {"l1": 1.0, "ssim": 0.1}),
        ("folder: a/b", "folder", Path("a/b")),
        ("extra: {start: 3}", "extra", Densify(start=3)),
        ("extra: null", "extra", None),
    ],
)
def test_yaml_values(folder, text, field, value):
    found = _load(folder, text)
    for part in field.split("."):
        found = getattr(found, part)
    assert found == value and type(found) is type(value)


@pytest.mark.parametrize(
    "override, field, value",
    [
        ("mode=off", "mode", "off"),  # a boolean to YAML
        ("name=12", "name", "12"),
        ("name=null", "name", "null"),
        ("name=a=b: [", "name", "a=b: ["),
        ("minutes=null", "minutes", None),
        ("minutes=1e-1", "minutes", 0.1),
        ("fast=yes", "fast", True),
        ("layers=[8]", "layers", (8,)),
        ("folder=x/y", "folder", Path("x/y")),
        ("extra.start=2", "extra", Densify(start=2)),
    ],
)
def test_command_line_values(override, field, value):
    found = getattr(_set(override), field)
    assert found == value and type(found) is type(value)


@pytest.mark.parametrize(
    "text, message",
    [
        ("stpes: 1", "mine.yaml: unknown key stpes; did you mean steps?"),
        ("densify: {treshold: 1}", "unknown key densify.treshold; did you mean densify.threshold?"),
        ("threshold: 1", "unknown key threshold; did you mean densify.threshold?"),
        ("densify: {steps: 1}", "unknown key densify.steps; did you mean steps?"),
        ("densfy: {start: 1}", "unknown key densfy; did you mean densify?"),
        ("zzzzzz: 1", "unknown key zzzzzz; known here: densify, extra, fast,"),
        ("steps: many", "mine.yaml: steps: expected a whole number, got 'many'"),
        ("steps: 1.5", "steps: expected a whole number, got 1.5"),
        ("steps: true", "steps: expected a whole number, got true"),
        ("steps: [1]", "steps: expected a whole number, got [1]"),
        ("fast: 1", "fast: expected true or false, got 1"),
        ("name: 12", "name: expected text, got 12"),
        ("minutes: long", "minutes: expected a number or null, got 'long'"),
        ("mode: never", "mode: expected one of on, off, auto, got 'never'"),
        ("mode: off", "got false (YAML reads on, off, yes and no so: put the word in quotes)"),
        ("layers: 64", "layers: expected a list, each item a whole number, got 64"),
        (
            "densify: {rates: [1]}",
            "densify.rates: expected a list of 2 (a number, a number), got [1]",
        ),
        (
            "weights: {l1: big}",
            "weights: expected a mapping from names, each value a number, got {'l1': 'big'}",
        ),
        ("densify: 5", "densify: expected a mapping with start, threshold, rates, got 5"),
        ("densify:", "densify: expected a mapping with start, threshold, rates, got null"),
        ("steps: -1", "mine.yaml: steps: must not be negative"),
        ("1: 2", "expected a name as key, got 1"),
        ("- steps", "mine.yaml: expected lines of key: value, got list"),
        ("steps: 1\nsteps: 2", "mine.yaml: line 2: not valid YAML (steps is given twice)"),
        ("a: [", "mine.yaml: line 1: not valid YAML"),
        ("!!python/object/apply:os.system ['true']", "not valid YAML"),
    ],
)
def test_what_is_refused(folder, text, message):
    with pytest.raises(UserError) as error:
        _load(folder, text)
    assert message in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    "override, message",
    [
        ("stpes=1", "--set stpes=1: unknown key stpes; did you mean steps?"),
        ("steps=x", "--set steps=x: steps: expected a whole number, got 'x'"),
        ("steps.a=1", "--set steps.a=1: steps: expected a whole number, got {'a': "),
        ("steps", "--set steps: expected KEY=VALUE"),
        ("=1", "--set =1: expected KEY=VALUE"),
    ],
)
def test_refused_overrides(override, message):
    with pytest.raises(UserError, match=re.escape(message)):
        _set(override)


def test_unknown_presets(folder):
    with pytest.raises(
        UserError, match="unknown preset 'quik'; did you mean quick[?] known: empty, quick"
    ):
        load_preset("quik", Fit, folder=folder)
    with pytest.raises(UserError, match="unknown preset '[.][.]/quick'"):
        load_preset("../quick", Fit, folder=folder)
    with pytest.raises(UserError, match=r"gone.yaml: no such preset file"):
        load_preset(folder / "gone.yaml", Fit, folder=folder)


def test_a_resolved_file_loads_back_equal(folder):
    config = load_preset(
        "quick", Fit, ["name=1e3", "mode=off", "extra.start=2", "folder=x", "minutes=1e-9"], folder
    )
    assert _load(folder, config_files.to_yaml(config)) == config
    assert _load(folder, config_files.to_yaml(Fit())) == Fit()


def test_keys_that_repeat_the_defaults_are_found(folder):
    (folder / "wordy.yaml").write_text(
        "steps: 50000\ndensify: {start: 1, threshold: 2e-4}\nweights: {l1: 1}\n"
    )
    assert redundant_keys("wordy", Fit, folder) == ["steps", "densify.threshold"]
    (folder / "child.yaml").write_text("extends: wordy\nsteps: 7\ndensify: {start: 1}\n")
    assert redundant_keys("child", Fit, folder) == ["densify.start"]


def test_a_preset_extends_another(folder):
    (folder / "child.yaml").write_text("extends: quick\ndensify: {start: 77}\n")
    (folder / "grandchild.yaml").write_text("extends: child\nname: it\n")
    base, config = (
        load_preset("quick", Fit, folder=folder),
        load_preset("grandchild", Fit, folder=folder),
    )
    assert config == dataclasses.replace(
        base, name="it", densify=dataclasses.replace(base.densify, start=77)
    )
    (folder / "quick.yaml").write_text("extends: grandchild\n")
    with pytest.raises(UserError, match="leads back to itself"):
        load_preset("child", Fit, folder=folder)
    (folder / "odd.yaml").write_text("extends: 3\n")
    with pytest.raises(UserError, match="odd.yaml: extends: expected the name of a preset"):
        load_preset("odd", Fit, folder=folder)


def test_every_field_with_type_default_and_meaning():
    fields = {field.key: field for field in config_files.fields(Fit)}
    assert list(fields)[:3] == ["name", "steps", "minutes"]
    assert fields["name"].doc == "Of the run."
    assert fields["densify.start"] == config_files.Field(
        "densify.start", "a whole number", 500, "First step."
    )
    assert "doubled,\nin normalised" in fields["densify.threshold"].doc
    assert fields["fast"].doc == ""  # the string below belongs to the next field only
    text = config_files.listing(Fit)
    assert "minutes = null    (a number or null)\n    Time instead of steps." in text
    assert "fast = false" in text


@pytest.mark.parametrize("preset", config_files.presets())
def test_shipped_presets_load_and_say_only_what_differs(preset):

    assert isinstance(load_preset(preset, FitConfig), FitConfig)
    # "avatar" may be repeated: it says which of the sections below it counts.
    assert [key for key in redundant_keys(preset, FitConfig) if key != "avatar"] == []


def test_every_setting_of_a_fit_has_a_meaning():

    assert [field.key for field in config_files.fields(FitConfig) if not field.doc] == []


@pytest.mark.parametrize(
    "override, message",
    [
        (
            "headgas.feature_size=-1",
            "headgas.feature_size: expected a whole number from 1 to 2048, got -1",
        ),
        ("headgas.hidden_size=1000000", "headgas.hidden_size: expected a whole number from 1 to"),
        (
            "headgas.rates.basis=[1, -1]",
            "headgas.rates.basis: expected a list of 2 (a number from 0 to 10, ",
        ),
        ("objective.l1=.nan", "objective.l1: expected a number from 0 to"),
        ("objective.l1=" + "9" * 5000, "objective.l1: expected a number from 0 to"),
        ("objective.l1=1e999", "objective.l1: expected a number from 0 to"),
        ("seeds.num_gaussians=1e12", "seeds.num_gaussians: expected a whole number from 1 to"),
        ("gaussianhead.resolution=2000", "resolution, scales, channels: expected at most"),
        ("schedule.batch=0", "schedule.batch: expected a whole number from 1"),
        ("schedule.batch=" + "[" * 5000, "schedule.batch: expected a whole number from 1"),
        ("objective=&a [*a]", "objective: expected a mapping"),
    ],
)
def test_settings_have_bounds(override, message):
    with pytest.raises(UserError) as error:
        load_preset("default", FitConfig, [override])
    assert message in str(error.value) and len(str(error.value)) <= 500


def test_every_number_of_a_fit_has_bounds():
    """So that nan and what no machine can hold are refused wherever they are set."""
    for cls in (FitConfig, TrainConfig):
        for field in config_files.fields(cls):
            if field.type in ("a number", "a whole number"):
                pytest.fail(f"{field.key} has no bounds")


def test_references_and_deep_nesting_are_refused(tmp_path):
    bomb = "a: &a [x, x]\n" + "".join(
        f"b{n}: &b{n} [*{'b' + str(n - 1) if n else 'a'}, *a]\n" for n in range(20)
    )
    for text, message in (
        (bomb, "references"),
        ("steps: " + "[" * 400 + "]" * 400, "nested too deeply"),
    ):
        (tmp_path / "mine.yaml").write_text(text)
        with pytest.raises(UserError, match=f"not valid YAML .*{message}"):
            load_preset(tmp_path / "mine.yaml", Fit)
