"""How long a fit lasts, and what is said of it before it starts."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from likeness.fitting import length
from likeness.fitting.config import FitConfig, ScheduleConfig
from likeness.fitting.length import announce, budget_of
from likeness.fitting.loop import Budget
from likeness.scene.config_files import load_preset, presets
from tests import toys

PAPERS = {"headgas": (50_000, 10_000), "gaussianhead": (80_000, 16_000)}
OTHERS = [name for name in presets() if name not in PAPERS]


def untimed() -> float:
    raise AssertionError("no step is to be timed")


@pytest.mark.parametrize("preset", ["default", "headgas-plus", "gaussianhead-plus"])
def test_presets_for_short_fits_have_minutes_of_their_own_on_a_cpu(preset):
    config = load_preset(preset, FitConfig)
    assert budget_of(config, "cpu", None, None) == Budget(minutes=10)
    assert budget_of(config, "cuda", None, None) == Budget(iterations=config.schedule.iterations)
    assert budget_of(config, "cpu", None, 7) == Budget(iterations=7)
    assert budget_of(config, "cuda", 3.0, None) == Budget(minutes=3.0)


@pytest.mark.parametrize("preset", PAPERS)
def test_the_papers_presets_run_their_length_on_a_cpu_and_say_how_long_that_is(preset, caplog):
    config = load_preset(preset, FitConfig)
    budget = budget_of(config, "cpu", None, None)
    assert budget == Budget(iterations=PAPERS[preset][0])
    with caplog.at_level("INFO"):
        line = announce(config, budget, "cpu", lambda: 0.36)
    hours = PAPERS[preset][0] * 0.36 / 3600
    assert (
        f"about {hours:.1f} hours" in line
        and "0.36 s" in line
        and "--resume" in line
        and "--minutes" in line
    )
    assert [record.getMessage() for record in caplog.records] == [line]
    assert announce(config, budget_of(config, "cuda", None, None), "cuda", untimed) is None


@pytest.mark.parametrize("preset", PAPERS)
def test_a_fit_that_is_too_short_for_its_preset_says_so(preset, caplog):
    config = load_preset(preset, FitConfig)
    line = announce(config, Budget(minutes=3), "cpu", lambda: 0.3)
    for part in (
        "3 minutes",
        "600 iterations",
        "0.3 s",
        *map(str, PAPERS[preset]),
        "default",
        f"{preset}-plus",
    ):
        assert part in line
    assert "\n" not in line and caplog.records[0].levelname == "WARNING"
    short = announce(config, Budget(iterations=PAPERS[preset][1] - 1), "cuda", untimed)
    assert f"{PAPERS[preset][1] - 1} iterations are too few" in short
    assert announce(config, Budget(iterations=PAPERS[preset][1]), "cuda", untimed) is None
    assert announce(config, Budget(minutes=3), "cuda", lambda: 1e-4) is None


@pytest.mark.parametrize("preset", OTHERS)
def test_other_presets_time_and_say_nothing(preset):
    assert announce(load_preset(preset, FitConfig), Budget(minutes=0.01), "cpu", untimed) is None


def test_a_step_is_timed_over_the_whole_course():
    """The first step, which waits for what is loaded once, does not count."""

    def fit(config, budget, listeners):
        for step in range(budget.iterations):
            seconds = 100 + 0.5 * step
            for listener in listeners:
                listener.on_step(dataclasses.make_dataclass("Info", ["seconds"])(seconds), None)

    for device in ("cpu", "cuda"):
        assert length.timed_step(fit, FitConfig(), device) == pytest.approx(0.5)


def test_a_run_says_it_before_the_first_step_and_notes_it(tmp_path: Path, caplog, monkeypatch):
    from likeness.fitting import subject

    capture = toys.make_capture(tmp_path / "capture", frames=6, size=16, test=2)
    config = load_preset("headgas", FitConfig, ["objective.perceptual=0", "densifier=none"])
    config = dataclasses.replace(config, schedule=ScheduleConfig(min_iterations=10**9))
    said: list[int] = []

    class Heard:
        def on_step(self, info, avatar):
            said.append(len(caplog.records))

        def on_end(self, avatar):
            return None

    from likeness.fitting.run_directory import RunDirectory

    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    options = subject.FitOptions(Budget(minutes=0.002), download=False)
    result = subject.fit_run(
        RunDirectory(tmp_path / "run"), capture, config, options, lambda text: Heard()
    )
    assert said and min(said) >= 1
    assert "too few for this preset" in result.notes["length"]
    assert (
        caplog.records[0].getMessage()
        == result.notes["length"]
        == result.bundle.facts["notes"]["length"]
    )
