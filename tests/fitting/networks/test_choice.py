"""What is chosen to evaluate networks, with a stand-in of tinycudann and a clock that both ways of
evaluation move."""

from __future__ import annotations

import dataclasses
import sys
import types

import pytest
import torch

from likeness.fitting.avatars import AVATARS
from likeness.fitting.avatars.gaussianhead import GaussianHead
from likeness.fitting.config import FitConfig
from likeness.fitting.image_fit import fit_pictures
from likeness.fitting.loop import Budget
from likeness.fitting.networks import (
    NetworksConfig,
    choice,
    choose,
    choose_for,
    describe,
    require,
    settle,
    why_not,
)
from likeness.fitting.subject import FitOptions, fit_run
from likeness.playback import evaluation
from likeness.playback.player import Player
from likeness.scene.config_files import listing
from tests import toys
from tests.contract.test_avatars import EXTENDED, EYE, fields_close, make
from tests.fitting.networks import fake_tinycudann
from tests.fitting.networks.test_layout import make_network

AUTO, FUSED = NetworksConfig(), NetworksConfig("tinycudann")
# that tiny-cuda-nn can represent
NETWORKS = {"headgas": {"mlp"}, "gaussianhead": {"opacity_mlp", "color_mlp"}}


@pytest.fixture(autouse=True)
def _few_repeats(monkeypatch) -> None:
    monkeypatch.setattr(choice, "_WARM_UPS", 1)
    monkeypatch.setattr(choice, "_REPEATS", 2)


class Clock:
    """Seconds that only pass when something is evaluated."""

    now = 0.0

    def __call__(self) -> float:
        return self.now

    def costs(self, seconds: float):
        def pass_by(*_) -> None:
            self.now += seconds

        return pass_by


def even(_) -> float:
    """Milliseconds: as many with any evaluator."""
    return 1.0


def chosen(monkeypatch, config: NetworksConfig, *, fused_s: float, torch_s: float) -> choice.Choice:
    clock, network = Clock(), make_network(9, 20, 5)
    fake_tinycudann.install(monkeypatch, torch.float32, on_evaluation=clock.costs(fused_s))
    network.register_forward_pre_hook(clock.costs(torch_s))
    inputs = [torch.randn(10, 4), torch.randn(10, 5)]

    def time_of(evaluator):
        run = evaluator or (lambda parts: network(torch.cat(parts, -1)))
        return choice.milliseconds(lambda: run(inputs), torch.device("cpu"), clock)

    return choose(network, inputs, config, time_of)


def test_auto_takes_the_faster(monkeypatch):
    fused = chosen(monkeypatch, AUTO, fused_s=1e-3, torch_s=2e-3)
    assert fused.backend == "tinycudann" and fused.evaluator is not None and fused.difference < 1e-5
    assert fused.milliseconds == pytest.approx({"torch": 2.0, "tinycudann": 1.0})
    plain = chosen(monkeypatch, AUTO, fused_s=2e-3, torch_s=1e-3)
    assert plain.backend == "torch" and plain.evaluator is None
    assert chosen(monkeypatch, FUSED, fused_s=2e-3, torch_s=1e-3).backend == "tinycudann"


@pytest.mark.parametrize("config", [AUTO, FUSED])
def test_what_differs_stays_in_pytorch(config, monkeypatch):
    fake_tinycudann.install(monkeypatch, torch.half)
    network, inputs = make_network(9, 20, 5), [torch.randn(100, 9)]
    strict = choose(network, inputs, dataclasses.replace(config, tolerance=1e-6), even)
    assert strict.backend == "torch" and "half precision would change it" in strict.reason
    assert 1e-6 < strict.difference < 5e-3
    beyond = choose(network, [1e6 * inputs[0]], config, even)
    assert beyond.backend == "torch" and beyond.difference == float("inf")


@pytest.mark.parametrize("config", [AUTO, FUSED])
def test_what_cannot_be_represented_stays_in_pytorch(config, monkeypatch):
    fake_tinycudann.install(monkeypatch)
    refused = choose(make_network(9, 200, 5), [torch.randn(3, 9)], config, even)
    assert refused.backend == "torch" and "200 units" in refused.reason


def test_a_failure_is_an_error_only_where_it_was_asked_for(monkeypatch):
    def fail() -> None:
        raise RuntimeError("no kernel\nimage")

    fake_tinycudann.install(monkeypatch, on_evaluation=fail)
    network, inputs = make_network(9, 20, 5), [torch.randn(3, 9)]
    assert "fails (no kernel image)" in choose(network, inputs, AUTO, even).reason
    with pytest.raises(
        ValueError, match=r"tinycudann fails \(no kernel image\); set networks.backend=torch"
    ):
        choose(network, inputs, FUSED, even)


def replaced(choices) -> set[str]:
    return {name for name, chosen in choices.items() if chosen.evaluator}


@pytest.mark.parametrize("kind", AVATARS)
def test_avatars_look_the_same_by_either(kind, monkeypatch):
    fake_tinycudann.install(monkeypatch, torch.float32)
    avatar, state = make(kind, EXTENDED), toys.random_states(())
    avatar.advance(1e9)
    frozen = avatar.compile()
    with torch.no_grad():
        plain = frozen(state, EYE)
        fused, choices = choose_for(frozen, state, EYE, FUSED)
        assert replaced(choices) == NETWORKS.get(kind, set())
        fields_close(fused(state, EYE), plain, 1e-5)
        fake_tinycudann.install(monkeypatch, torch.half)
        half, choices = choose_for(frozen, state, EYE, FUSED)
        assert replaced(choices) == NETWORKS.get(kind, set())
        difference = (half(state, EYE).sh - plain.sh).abs().max()
        assert difference < 0.02 * plain.sh.abs().max() and (difference > 0) == (kind in NETWORKS)
        fields_close(frozen(state, EYE), plain, 0)


@pytest.mark.parametrize(
    "changes, fused",
    [
        ({"blending": "none"}, {"mlp"}),
        ({"blending": "parameters"}, set()),
        ({"hidden_layers": 0}, set()),
        ({"changes": "geometry"}, {"mlp"}),
        ({"sh_degree": 0}, {"mlp"}),
    ],
)
def test_every_headgas_looks_the_same_by_either(changes, fused, monkeypatch):
    fake_tinycudann.install(monkeypatch, torch.float32)
    frozen, state = make("headgas", **changes).compile(), toys.random_states(())
    avatar, choices = choose_for(frozen, state, EYE, FUSED)
    fields_close(avatar(state, EYE), frozen(state, EYE), 1e-5)
    assert replaced(choices) == fused


def test_what_the_evaluation_costs_decides(monkeypatch):
    """Of two networks the one that makes the avatar faster is taken, and the other is not."""
    clock = Clock()
    fake_tinycudann.install(monkeypatch, torch.float32, on_evaluation=clock.costs(2e-3))
    avatar, state = make("gaussianhead"), toys.random_states(())
    networks = avatar.networks()
    networks["opacity_mlp"].register_forward_pre_hook(clock.costs(1e-3))
    networks["color_mlp"].register_forward_pre_hook(clock.costs(3e-3))
    monkeypatch.setattr(GaussianHead, "networks", lambda self: networks)
    _, choices = choose_for(avatar.compile(), state, EYE, AUTO, clock)
    assert {name: chosen.backend for name, chosen in choices.items()} == {
        "deformation": "torch",
        "opacity_mlp": "torch",
        "color_mlp": "tinycudann",
    }
    assert choices["color_mlp"].milliseconds == pytest.approx({"torch": 4.0, "tinycudann": 3.0})
    assert "color_mlp by tinycudann (faster: 3 ms with tinycudann, 4 ms with torch" in describe(
        choices
    )


def test_other_evaluators_make_another_avatar():
    frozen, state = make("headgas").compile(), toys.random_states(())
    broken = frozen.with_networks({"mlp": lambda parts: 1 / 0})
    frozen(state, EYE)
    with pytest.raises(ZeroDivisionError):
        broken(state, EYE)


def test_players_choose_as_they_are_made(monkeypatch, caplog):
    """On a CPU, taken for a device on which tinycudann runs."""
    bundle, state = toys.bundle(make("headgas", EXTENDED)), toys.random_states(())
    plain = Player(bundle)
    expected = plain.cloud(state, EYE)
    assert plain.choices == {}
    fake_tinycudann.install(monkeypatch, torch.float32)
    monkeypatch.setattr(choice, "why_not", lambda device: None)
    fits = dataclasses.replace(bundle, facts={"networks": dataclasses.asdict(FUSED)})
    with caplog.at_level("INFO"):
        player = Player(fits)
    assert player.choices["mlp"].backend == "tinycudann"
    assert sum("mlp by tinycudann" in record.message for record in caplog.records) == 1
    fields_close(player.cloud(state, EYE), expected, 1e-5)
    plain = Player(fits, networks=NetworksConfig("torch"))
    assert plain.choices == {} and plain.cloud(state, EYE).num_gaussians == 40


def test_what_is_asked_for_and_missing_is_said(monkeypatch, caplog):
    assert "CUDA only" in why_not("cpu")
    monkeypatch.setitem(sys.modules, "tinycudann", None)
    assert "cannot be imported" in why_not("cuda")
    with pytest.raises(
        ValueError, match=r"=tinycudann: the package .* \(pip install .*networks.backend=auto"
    ):
        require(FUSED, "cuda")
    bundle = toys.bundle(make("headgas"))
    with pytest.raises(
        ValueError, match=r"CUDA only, not on the device 'cpu'; set networks.backend=auto"
    ):
        Player(bundle, networks=FUSED)
    require(AUTO, "cuda")
    assert settle(AUTO, "cuda").backend == "torch" and not caplog.records
    choice._warn_once.cache_clear()
    for _ in range(2):  # a bundle that was made elsewhere plays all the same
        Player(dataclasses.replace(bundle, facts={"networks": {"backend": "tinycudann"}}))
    assert sum("as the avatar's fit asked for" in record.message for record in caplog.records) == 1


@pytest.mark.parametrize(
    "known", ["torch", {"backend": "onnx"}, {"tolerance": "much"}, {"backend": ["torch"]}]
)
def test_a_damaged_manifest_is_said(known):
    with pytest.raises(
        ValueError, match="manifest of an avatar: networks: .*export the avatar again"
    ):
        Player(dataclasses.replace(toys.bundle(make("headgas")), facts={"networks": known}))


def test_the_setting_is_listed_with_what_it_does_not_do():
    text = " ".join(listing(FitConfig).split())
    assert "networks.backend" in text and "never in the fit itself" in text


def test_fits_begin_with_asking_for_the_backend():
    """Before anything else: none of what they are given is real."""
    config = dataclasses.replace(FitConfig(), networks=FUSED)
    with pytest.raises(ValueError, match="networks.backend=tinycudann"):
        fit_run(None, None, config, FitOptions(Budget(iterations=1)))
    with pytest.raises(ValueError, match="networks.backend=tinycudann"):
        fit_pictures(None, None, config)


def test_what_was_chosen_is_a_note_of_the_run(monkeypatch):
    bundle = toys.bundle(make("headgas"))
    assert evaluation.network_notes(bundle, "cpu") == {}

    def note(choices) -> str:
        stand_in = types.SimpleNamespace(choices=choices)
        monkeypatch.setattr(evaluation, "Player", lambda *_: stand_in)
        return evaluation.network_notes(bundle, "cuda")["networks"]

    times = {"torch": 0.5, "tinycudann": 0.25}
    fused = choice.Choice("tinycudann", "faster", times, 0.00123)
    assert note({"mlp": fused}) == (
        "mlp by tinycudann (faster: 0.25 ms with tinycudann, 0.5 ms with torch; "
        "largest difference 0.0012 of the largest output)"
    )
    monkeypatch.setitem(sys.modules, "tinycudann", None)
    assert note({}).startswith("all by torch (the package tinycudann cannot be imported")
    fake_tinycudann.install(monkeypatch)
    assert note({}) == "all by torch (as asked for)"
