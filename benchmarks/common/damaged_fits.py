"""What reads the files of fits: avatars, runs, settings, checkpoints, weights. See
``benchmarks.common.damaged_readers``."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

from benchmarks.common.damage import Reader, Targets


def _bundle(kind: str, encoded: bool = False, refined: bool = False) -> Reader:
    def make(folder: Path) -> Targets:
        from likeness.scene.expression_tuning import ExpressionTuning
        from tests import toys
        from tests.contract.test_avatars import EXTENDED, make

        bundle = toys.bundle(make(kind, EXTENDED))
        tuning = dataclasses.replace(
            ExpressionTuning.identity(52), neutral=0.1 * bundle.expression_range[0]
        )
        bundle = dataclasses.replace(toys.refined(bundle) if refined else bundle, tuning=tuning)
        names = [
            n
            for n, t in bundle.tensors().items()
            if n.startswith("avatar.per_gaussian") and t.ndim > 1
        ]
        kinds = {
            n: "narrowed" if not bundle.tensors()[n].is_floating_point() else "int8" for n in names
        }
        bundle.save(folder, kinds if encoded else None)
        return [("manifest.json", "json"), ("tensors.safetensors", "safetensors")]

    def read(folder: Path) -> None:
        import torch

        from likeness.fitting.bundle import AvatarBundle
        from likeness.fitting.networks import NetworksConfig

        bundle = AvatarBundle.load(folder)
        NetworksConfig.of_bundle(bundle.facts)
        with torch.no_grad():
            avatar, state = bundle.avatar.compile(), bundle.tuned(bundle.recording[0])
            avatar(state, bundle.default_camera.in_frame(state.T_world_head).center)

    return Reader(make, read)


def _make_run(folder: Path) -> Targets:
    from likeness.fitting.config import FitConfig
    from likeness.scene.config_files import to_yaml

    options = {"demo": False, "minutes": 3.0, "iterations": None, "seed": 1, "device": "cpu"}
    options |= {"offline": True, "weights": None}
    run = {"format": "run", "format_version": 1, "options": options, "versions": {"torch": "2"}}
    (folder / "run.json").write_text(json.dumps(run))
    (folder / "config.yaml").write_text(to_yaml(FitConfig()))
    return [("run.json", "json"), ("config.yaml", "yaml")]


def _read_run(folder: Path) -> None:
    from likeness.fitting.config import FitConfig
    from likeness.runs import open_run
    from likeness.scene.config_files import load_preset

    load_preset(open_run(folder).config, FitConfig)


def _make_report(folder: Path) -> Targets:
    frames = [
        {"name": f"{n:06d}", "time_s": n / 25, "psnr": 30.0 + n, "regions": {"face": 29.0}}
        for n in range(4)
    ]
    figures = {"psnr": 30.1, "ssim": 0.9, "lpips": 0.1, "l1": 0.02}
    metrics = {
        "headline": figures,
        "heldout": figures,
        "unswayed": {"heldout": figures},
        "regions": {"face": figures},
        "error_share": {"border": 0.4, "face": 0.2},
        "baseline": {"heldout": figures},
        "per_frame": frames,
        "num_gaussians": 10_000,
        "bundle_mb": 3.5,
        "seconds": {"fit": 10.0},
        "notes": {"a": "b"},
        "versions": {"x": "1"},
        "train": {"psnr": 33.0},
        "num_frames": {"train": 9, "test": 1},
    }
    (folder / "metrics.json").write_text(json.dumps(metrics))
    lines = [
        json.dumps({"step": n, "loss": 1 / n, "psnr": 20.0 + n, "num_gaussians": 100})
        for n in range(1, 30)
    ]
    (folder / "log.jsonl").write_text("\n".join(lines) + "\n")
    (folder / "run.json").write_text(
        json.dumps({"format": "run", "format_version": 1, "options": {}, "versions": {}})
    )
    (folder / "config.yaml").write_text("a: 1\n")
    return [
        ("metrics.json", "json"),
        ("log.jsonl", "text"),
        ("run.json", "json"),
        ("config.yaml", "bytes"),
    ]


def _read_report(folder: Path) -> None:
    from likeness.collection.report import heldout
    from likeness.fitting.listeners import JsonLog
    from likeness.fitting.report import write_report

    write_report(folder)
    heldout(folder / "metrics.json")
    log = JsonLog(folder / "log.jsonl")
    log._open(5)
    log.on_end(None)  # type: ignore[arg-type]


def _make_preset(folder: Path) -> Targets:
    text = """
extends: default
avatar: headgas
headgas: {feature_size: 16, rates: {means: [1e-4, 1e-6]}, anchoring: {two_frames: true}}
gaussianhead: {scales: [1, 2]}
initializer: mesh
seeds: {num_gaussians: 100, weights: a/b}
objective: {l1: 0.8, background: random}
schedule.iterations: 500
"""
    (folder / "mine.yaml").write_text(text)
    return [("mine.yaml", "yaml")]


def _read_preset(folder: Path) -> None:
    from likeness.fitting.config import FitConfig
    from likeness.scene.config_files import load_preset, to_yaml

    to_yaml(load_preset(folder / "mine.yaml", FitConfig))


def _make_settings(folder: Path) -> Targets:
    words = (
        "headgas.feature_size=16",
        "objective.l1=0.5",
        "schedule.batch=2",
        "seeds.weights=a",
        "avatar=headgas",
    )
    (folder / "set.txt").write_text(",".join(words))
    return [("set.txt", "text")]


def _read_settings(folder: Path) -> None:
    from likeness.fitting.config import FitConfig
    from likeness.scene.config_files import load_preset

    words = (folder / "set.txt").read_bytes().decode("utf-8", "surrogateescape").split(",")
    load_preset("default", FitConfig, words)


def _fit(kind: str) -> tuple[Any, Any, Any]:
    import torch

    from likeness.fitting.config import FitConfig
    from likeness.fitting.densify import AdaptiveDensifier
    from likeness.fitting.optimizers import make_optimizer
    from tests import toys
    from tests.contract.test_avatars import EXTENDED, EYE, make

    avatar = make(kind, EXTENDED)
    optimizer = make_optimizer(avatar, FitConfig().optimizer)
    optimizer.zero_grad()
    cloud = avatar(toys.random_states(()), EYE)
    torch.stack([field.square().mean() for field in cloud.fields().values()]).sum().backward()
    optimizer.step()
    densifier = AdaptiveDensifier(FitConfig().densify)
    densifier._forget(avatar.num_gaussians, torch.device("cpu"))
    return avatar, optimizer, densifier


def _checkpoint(kind: str) -> Reader:
    def make(folder: Path) -> Targets:
        from likeness.fitting import checkpoint

        checkpoint.save(folder / "avatar.safetensors", *_fit(kind), checkpoint.Progress(3, 1.5))
        return [("avatar.safetensors", "safetensors")]

    def read(folder: Path) -> None:
        from likeness.fitting import checkpoint

        avatar, optimizer, densifier = _fit(kind)
        checkpoint.load(folder / "avatar.safetensors", avatar, optimizer, densifier)
        for parameter in avatar.parameters():
            parameter.grad = None if not parameter.requires_grad else parameter.detach().clone()
        optimizer.step()

    return Reader(make, read)


def _network():
    import torch

    from tests.one_shot import tiny

    network = tiny.network().train().requires_grad_(True)
    return network, torch.optim.AdamW(network.parameters(), lr=1e-3)


def _make_weights(folder: Path) -> Targets:
    from likeness.one_shot import weights
    from tests.one_shot import tiny

    weights.save(
        folder / "one.safetensors", tiny.network().state_dict(), tiny.MODEL, "anny", {"steps": 1}
    )
    return [("one.safetensors", "safetensors")]


def _read_weights(folder: Path) -> None:
    from likeness.one_shot import weights

    weights.load(folder / "one.safetensors", download=False)
    weights.start_from(folder / "one.safetensors", _network()[0], "anny")


def _make_training(folder: Path) -> Targets:
    from likeness.training import checkpoint

    network, optimizer = _network()
    for parameter in network.parameters():
        parameter.grad = parameter.detach().clone()
    optimizer.step()
    average = {name: p.detach().clone() for name, p in network.named_parameters()}
    checkpoint.save(
        folder / "c.safetensors",
        network,
        average,
        optimizer,
        checkpoint.Progress(3, 1.0, 9),
        "tiny",
    )
    return [("c.safetensors", "safetensors")]


def _read_training(folder: Path) -> None:
    from likeness.training import checkpoint

    network, optimizer = _network()
    average = {name: p.detach().clone() for name, p in network.named_parameters()}
    checkpoint.load(folder / "c.safetensors", network, average, optimizer, "tiny")
    for parameter in network.parameters():
        parameter.grad = parameter.detach().clone()
    optimizer.step()


READERS: dict[str, Reader] = {
    "avatar (headgas)": _bundle("headgas"),
    "avatar (gaussianhead)": _bundle("gaussianhead"),
    "avatar (linear, fewer bits)": _bundle("linear", encoded=True),
    "avatar (rigged, refined)": _bundle("rigged", refined=True),
    "run, as --resume reads it": Reader(_make_run, _read_run),
    "report of a run": Reader(_make_report, _read_report),
    "preset": Reader(_make_preset, _read_preset),
    "settings (--set)": Reader(_make_settings, _read_settings),
    "checkpoint (headgas)": _checkpoint("headgas"),
    "checkpoint (gaussianhead)": _checkpoint("gaussianhead"),
    "one-shot weights": Reader(_make_weights, _read_weights),
    "training checkpoint": Reader(_make_training, _read_training),
}
