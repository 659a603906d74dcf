"""What reads files from outside, each with small valid files to damage and the call that reads
them.

A reader is one entry of ``READERS``. Its ``make`` writes valid files into an empty folder and
returns which of them are damaged, as what kind (``benchmarks.common.damage.KINDS``). Its ``read``
reads the folder as the programs do, and uses what it got far enough that parts that do not belong
together would show.
"""

from __future__ import annotations

import dataclasses
import functools
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from benchmarks.common.damage import Reader, Targets
from likeness.collection import state
from likeness.collection.report import heldout
from likeness.collection.subjects import read_list
from likeness.export.spz import read_spz, write_spz
from likeness.fitting import checkpoint as fit_checkpoint
from likeness.fitting.bundle import AvatarBundle
from likeness.fitting.config import FitConfig
from likeness.fitting.densify import AdaptiveDensifier
from likeness.fitting.listeners import JsonLog
from likeness.fitting.networks import NetworksConfig
from likeness.fitting.optimizers import make_optimizer
from likeness.fitting.report import tracking, write_report
from likeness.head_models.anny import ASSET
from likeness.head_models.asset import read_head_model
from likeness.head_models.landmarks import NUM_LANDMARKS
from likeness.one_shot import weights
from likeness.playback.drivers import arkit_csv, kind_of
from likeness.playback.state_file import load_states, save_states
from likeness.playback.views.camera_path import load_camera_path
from likeness.playback.views.files import _prepare
from likeness.preprocess import mp4
from likeness.preprocess.portraits.reading import read_still
from likeness.preprocess.scan import _THUMBNAIL, Scan
from likeness.preprocess.tracking.tracker import Tracking
from likeness.preprocess.weights import load_state_dict
from likeness.preprocess.work import Work, load_tracking, save_tracking
from likeness.runs import open_run
from likeness.scene.capture import Capture, Identity
from likeness.scene.config_files import load_preset, to_yaml
from likeness.scene.expression_tuning import ExpressionTuning
from likeness.scene.frame_images import load_rgba
from likeness.synthetic import truth
from likeness.synthetic.truth import DemoTruth
from likeness.training import checkpoint
from likeness.training.samples import find_captures
from tests import arkit, toys
from tests.collection.fake_work import task
from tests.contract.test_avatars import EXTENDED, EYE
from tests.contract.test_avatars import make as make_avatar
from tests.one_shot import tiny


def _make_capture(folder: Path) -> Targets:
    toys.make_capture(folder, frames=4, test=1)
    return [
        ("manifest.json", "json"),
        ("states.safetensors", "safetensors"),
        ("images/000001.png", "bytes"),
        ("mattes/000002.png", "bytes"),
    ]


def _read_capture(folder: Path) -> None:
    kind_of(folder)
    capture = Capture.load(folder)
    for index in (*capture.train[:3], *capture.test[:3]):
        load_rgba(capture.frames[index])
    tracking.section(capture)


_NAMES, _JOINTS = ("jawOpen", "mouthClose", "eyeBlinkLeft"), ("eye_left", "eye_right")


def _make_states(folder: Path) -> Targets:
    save_states(folder / "states.npz", toys.random_states((5,), 3, 2), 25.0, _NAMES, _JOINTS)
    return [("states.npz", "npz")]


def _read_states(folder: Path) -> None:
    load_states(folder / "states.npz", _NAMES, _JOINTS)


@functools.cache
def _arkit_bundle():
    return toys.arkit_bundle()


def _make_curves(folder: Path) -> Targets:
    states, times = toys.performance(12)
    arkit.write(folder / "phone.csv", arkit.table(states, _arkit_bundle().expression_names, times))
    return [("phone.csv", "text")]


def _read_curves(folder: Path) -> None:
    arkit_csv.recognizes(folder / "phone.csv")
    arkit_csv.load(folder / "phone.csv", _arkit_bundle())


def _make_path(folder: Path) -> Targets:
    aim = {"eye": [0.3, 0, 0.9], "target": [0, 0, -0.06], "up": [0, 1, 0], "fov_degrees": 25}
    top = {"format": "camera_path", "format_version": 1, "fps": 25, "width": 64, "height": 64}
    top["relative_to"] = "head"
    eye = [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 1], [0, 0, 0, 1]]
    posed = {"K": [[100, 0, 32], [0, 100, 32], [0, 0, 1]], "T_cam_head": eye}
    (folder / "frames.json").write_text(json.dumps({**top, "frames": [aim, posed]}))
    keyframes = [{**aim, "time_s": 0}, {**posed, "time_s": 0.4}, {**aim, "time_s": 1}]
    (folder / "keyframes.json").write_text(json.dumps({**top, "keyframes": keyframes}))
    return [("frames.json", "json"), ("keyframes.json", "json")]


def _read_path(folder: Path) -> None:
    for name in ("frames.json", "keyframes.json"):
        load_camera_path(folder / name, toys.camera(64))


def _make_list(folder: Path) -> Targets:
    for name in ("a.mp4", "b c.mp4"):
        (folder / name).touch()
    lines = (
        "# people",
        "a.mp4 name=anna minutes=5 seed=3 matting=selfie",
        "'b c.mp4' iterations=9",
        "",
    )
    (folder / "list.txt").write_text("\n".join(lines))
    return [("list.txt", "text")]


def _read_list(folder: Path) -> None:
    read_list(folder / "list.txt")


def _make_task(folder: Path) -> Targets:
    one = task(folder, "a")
    one.folder.mkdir(parents=True)
    state.save(one, state.TaskState(state.DONE, options={"minutes": 3}, seconds=4.0))
    return [(one.state.relative_to(folder).as_posix(), "json")]


def _read_task(folder: Path) -> None:
    state.finished(task(folder, "a"))


def _make_views(folder: Path) -> Targets:
    (folder / "views.json").write_text(
        json.dumps({"format": "views", "format_version": 1, "key": "abc", "views": []})
    )
    return [("views.json", "json")]


def _read_views(folder: Path) -> None:
    _prepare(folder, {"key": "abc"}, False)


def _make_head_model(folder: Path) -> Targets:
    (folder / "head.safetensors").write_bytes(ASSET.read_bytes())
    return [("head.safetensors", "safetensors")]


def _read_head_model(folder: Path) -> None:
    read_head_model(folder / "head.safetensors", "install again")


def _make_spz(folder: Path) -> Targets:
    write_spz(folder / "a.spz", toys.blob(50))
    write_spz(folder / "b.spz", toys.blob(50), 2)
    return [("a.spz", "bytes"), ("b.spz", "bytes")]


def _read_spz(folder: Path) -> None:
    for name in ("a.spz", "b.spz"):
        read_spz(folder / name)


def _make_published(folder: Path) -> Targets:
    torch.save(
        {"features.0.weight": torch.zeros(4, 3), "features.0.bias": torch.zeros(4)},
        folder / "net.pth",
    )
    return [("net.pth", "bytes")]


def _read_published(folder: Path) -> None:
    load_state_dict(folder / "net.pth")


def _make_image(folder: Path) -> Targets:
    pixels = (np.indices((80, 96)).sum(0)[..., None] * [1, 2, 1] % 256).astype(np.uint8)
    for name in ("a.png", "b.jpg", "c.webp", "d.tiff"):
        Image.fromarray(pixels).save(folder / name, exif=Image.Exif())
    return [(name, "bytes") for name in ("a.png", "b.jpg", "c.webp", "d.tiff")]


def _read_image(folder: Path) -> None:
    for path in sorted(folder.iterdir()):
        read_still(path)


def _make_captures(folder: Path) -> Targets:
    (folder / "one").mkdir()
    _make_capture(folder / "one")
    (folder / "captures.txt").write_text("# people\none\n")
    return [("captures.txt", "text")]


def _read_captures(folder: Path) -> None:
    for root in find_captures([folder / "captures.txt"]):
        Capture.load(root)


def _make_index(folder: Path) -> Targets:
    content = b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom\0\0\0\x40moov\0\0\0\x38meta"
    content += b"\0\0\0\x10keys\0\0\0\0\0\0\0\1" + bytes(40)
    (folder / "a.mp4").write_bytes(content)
    return [("a.mp4", "bytes")]


def _read_index(folder: Path) -> None:
    mp4.has_index(folder / "a.mp4")
    mp4.focal_length_35mm(folder / "a.mp4")


def _make_work(folder: Path) -> Targets:
    frames = np.arange(6)
    lone = np.zeros(6, np.float32)
    Scan(
        index=frames,
        time_s=frames / 25,
        thumbnails=np.zeros((6, *_THUMBNAIL, 3), np.uint8),
        luminance=lone,
        face_frame=frames,
        points=np.zeros((6, NUM_LANDMARKS, 2), np.float32),
        sharpness=lone,
        face_luminance=lone,
        damaged=np.zeros((1, 2)),
        num_decoded=6,
        num_damaged=0,
        num_untimed=0,
        stride=1,
        duration_s=0.24,
        reached_end=True,
    ).save(folder / "landmarks.npz")
    residual = torch.tensor([1.0, float("nan"), 1.0, 1.0, 1.0, 1.0])
    tracked = ~residual.isnan()
    tracking = Tracking(
        toys.random_states((6,), 52, 2),
        Identity(torch.zeros(60), torch.zeros(10, 3)),
        tracked,
        residual,
        residual,
        100.0,
        {"jawOpen": 0.5},
        (3.0, 2.0),
        1.0,
    )
    save_tracking(folder / "tracking.npz", tracking)
    Work(folder, "key", progress=False)
    return [("landmarks.npz", "npz"), ("tracking.npz", "npz"), ("state.json", "json")]


def _read_work(folder: Path) -> None:
    Work(folder, "key", progress=False)
    Scan.load(folder / "landmarks.npz")
    load_tracking(folder / "tracking.npz", 6)


def _make_truth(folder: Path) -> Targets:
    config = truth.DemoConfig(frames=5, size=64)
    identity = Identity(torch.zeros(60), torch.zeros(10, 3))
    truth._write_tensors(truth.DemoTruth(folder, config, toys.random_states((5,), 52, 2), identity))
    (folder / "truth.json").write_text(
        json.dumps({"format": "demo", "key": "k", "config": dataclasses.asdict(config)})
    )
    return [("truth.json", "json"), ("truth.safetensors", "safetensors")]


def _read_truth(folder: Path) -> None:
    DemoTruth.load(folder)


def _bundle(kind: str, encoded: bool = False, refined: bool = False) -> Reader:
    def make(folder: Path) -> Targets:
        bundle = toys.bundle(make_avatar(kind, EXTENDED))
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
        bundle = AvatarBundle.load(folder)
        NetworksConfig.of_bundle(bundle.facts)
        with torch.no_grad():
            avatar, state = bundle.avatar.compile(), bundle.tuned(bundle.recording[0])
            avatar(state, bundle.default_camera.in_frame(state.T_world_head).center)

    return Reader(make, read)


def _make_run(folder: Path) -> Targets:
    options = {"demo": False, "minutes": 3.0, "iterations": None, "seed": 1, "device": "cpu"}
    options |= {"offline": True, "weights": None}
    run = {"format": "run", "format_version": 1, "options": options, "versions": {"torch": "2"}}
    (folder / "run.json").write_text(json.dumps(run))
    (folder / "config.yaml").write_text(to_yaml(FitConfig()))
    return [("run.json", "json"), ("config.yaml", "yaml")]


def _read_run(folder: Path) -> None:
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
    words = (folder / "set.txt").read_bytes().decode("utf-8", "surrogateescape").split(",")
    load_preset("default", FitConfig, words)


def _fit(kind: str) -> tuple[Any, Any, Any]:
    avatar = make_avatar(kind, EXTENDED)
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
        fit_checkpoint.save(
            folder / "avatar.safetensors", *_fit(kind), fit_checkpoint.Progress(3, 1.5)
        )
        return [("avatar.safetensors", "safetensors")]

    def read(folder: Path) -> None:
        avatar, optimizer, densifier = _fit(kind)
        fit_checkpoint.load(folder / "avatar.safetensors", avatar, optimizer, densifier)
        for parameter in avatar.parameters():
            parameter.grad = None if not parameter.requires_grad else parameter.detach().clone()
        optimizer.step()

    return Reader(make, read)


def _network():
    network = tiny.network().train().requires_grad_(True)
    return network, torch.optim.AdamW(network.parameters(), lr=1e-3)


def _make_weights(folder: Path) -> Targets:
    weights.save(
        folder / "one.safetensors", tiny.network().state_dict(), tiny.MODEL, "anny", {"steps": 1}
    )
    return [("one.safetensors", "safetensors")]


def _read_weights(folder: Path) -> None:
    weights.load(folder / "one.safetensors", download=False)
    weights.start_from(folder / "one.safetensors", _network()[0], "anny")


def _make_training(folder: Path) -> Targets:
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
    "capture": Reader(_make_capture, _read_capture),
    "head states (.npz)": Reader(_make_states, _read_states),
    "ARKit curves (.csv)": Reader(_make_curves, _read_curves),
    "camera path": Reader(_make_path, _read_path),
    "list of subjects": Reader(_make_list, _read_list),
    "state of a task": Reader(_make_task, _read_task),
    "folder of views": Reader(_make_views, _read_views),
    "list of captures": Reader(_make_captures, _read_captures),
    "head model": Reader(_make_head_model, _read_head_model),
    "compressed cloud (.spz)": Reader(_make_spz, _read_spz),
    "published weights (.pth)": Reader(_make_published, _read_published),
    "work files of preprocessing": Reader(_make_work, _read_work),
    "truth of the demo": Reader(_make_truth, _read_truth),
    "portrait": Reader(_make_image, _read_image),
    "index of a video (.mp4)": Reader(_make_index, _read_index),
}
