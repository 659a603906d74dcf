"""What reads files from outside, each with small valid files to damage and the call that reads them.

A reader is one entry of ``READERS``. Its ``make`` writes valid files into an empty folder and returns which of them are
damaged, as what kind (``benchmarks.damage.KINDS``). Its ``read`` reads the folder as the programs do, and uses what it
got far enough that parts that do not belong together would show.
"""

from __future__ import annotations

import dataclasses
import json
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Any

Targets = list[tuple[str, str]]


@dataclasses.dataclass(frozen=True)
class Reader:
    """make(folder) -> [(path in it, kind)]. read(folder): raises UserError for what is damaged."""

    make: Callable[[Path], Targets]
    read: Callable[[Path], object]


def _bundle(kind: str, encoded: bool = False, refined: bool = False) -> Reader:
    def make(folder: Path) -> Targets:
        from scene.expression_tuning import ExpressionTuning
        from tests import toys
        from tests.contract.test_avatars import EXTENDED, make

        bundle = toys.bundle(make(kind, EXTENDED))
        tuning = dataclasses.replace(ExpressionTuning.identity(52), neutral=0.1 * bundle.expression_range[0])
        bundle = dataclasses.replace(toys.refined(bundle) if refined else bundle, tuning=tuning)
        names = [n for n, t in bundle.tensors().items() if n.startswith("avatar.per_gaussian") and t.ndim > 1]
        kinds = {n: "narrowed" if not bundle.tensors()[n].is_floating_point() else "int8" for n in names}
        bundle.save(folder, kinds if encoded else None)
        return [("manifest.json", "json"), ("tensors.safetensors", "safetensors")]

    def read(folder: Path) -> None:
        import torch

        from fitting.bundle import AvatarBundle
        from fitting.networks import NetworksConfig

        bundle = AvatarBundle.load(folder)
        NetworksConfig.of_bundle(bundle.facts)
        with torch.no_grad():
            bundle.avatar.freeze()
            state = bundle.tuned(bundle.recording[0])
            bundle.avatar(state, bundle.default_camera.in_frame(state.T_world_head).center)

    return Reader(make, read)


def _make_capture(folder: Path) -> Targets:
    from tests import toys

    toys.make_capture(folder, frames=4, test=1)
    return [("manifest.json", "json"), ("states.safetensors", "safetensors"), ("images/000001.png", "bytes"),
            ("mattes/000002.png", "bytes")]  # fmt: skip


def _read_capture(folder: Path) -> None:
    from fitting.report import tracking
    from playback.drivers.capture import kind_of
    from scene.capture import Capture
    from scene.pictures import load_rgba

    kind_of(folder)
    capture = Capture.load(folder)
    for index in (*capture.train[:3], *capture.test[:3]):
        load_rgba(capture.frames[index])
    tracking.section(capture)


def _make_run(folder: Path) -> Targets:
    from fitting.config import FitConfig
    from fitting.config_files import to_yaml

    options = {"demo": False, "minutes": 3.0, "iterations": None, "seed": 1, "device": "cpu", "offline": True}
    run = {"format": "run", "format_version": 1, "options": options | {"weights": None}, "versions": {"torch": "2"}}
    (folder / "run.json").write_text(json.dumps(run))
    (folder / "config.yaml").write_text(to_yaml(FitConfig()))
    return [("run.json", "json"), ("config.yaml", "yaml")]


def _read_run(folder: Path) -> None:
    import fit_subject

    fit_subject._resumed(Namespace(resume=folder))


def _make_report(folder: Path) -> Targets:
    frames = [{"name": f"{n:06d}", "time_s": n / 25, "psnr": 30.0 + n, "regions": {"face": 29.0}} for n in range(4)]
    figures = {"psnr": 30.1, "ssim": 0.9, "lpips": 0.1, "l1": 0.02}
    metrics = {
        "headline": figures, "heldout": figures, "unswayed": {"heldout": figures}, "regions": {"face": figures},
        "error_share": {"border": 0.4, "face": 0.2}, "baseline": {"heldout": figures}, "per_frame": frames,
        "num_gaussians": 10_000, "bundle_mb": 3.5, "seconds": {"fit": 10.0}, "notes": {"a": "b"},
        "versions": {"x": "1"}, "train": {"psnr": 33.0}, "num_frames": {"train": 9, "test": 1},
    }  # fmt: skip
    (folder / "metrics.json").write_text(json.dumps(metrics))
    lines = [json.dumps({"step": n, "loss": 1 / n, "psnr": 20.0 + n, "num_gaussians": 100}) for n in range(1, 30)]
    (folder / "log.jsonl").write_text("\n".join(lines) + "\n")
    (folder / "run.json").write_text(json.dumps({"format": "run", "format_version": 1, "options": {}, "versions": {}}))
    (folder / "config.yaml").write_text("a: 1\n")
    return [("metrics.json", "json"), ("log.jsonl", "text"), ("run.json", "json"), ("config.yaml", "bytes")]


def _read_report(folder: Path) -> None:
    from fitting.listeners import JsonLog
    from fitting.report import write_report
    from fleet.summary import _heldout

    write_report(folder)
    _heldout(folder / "metrics.json")
    log = JsonLog(folder / "log.jsonl")
    log._open(5)
    log.on_end(None)  # type: ignore[arg-type]


def _make_preset(folder: Path) -> Targets:
    text = (
        "extends: default\navatar: headgas\nheadgas:\n  feature_size: 16\n  rates:\n    means: [1e-4, 1e-6]\n"
        "  anchoring:\n    two_frames: true\ngaussianhead:\n  scales: [1, 2]\ninitializer: mesh\nseeds:\n"
        "  num_gaussians: 100\n  weights: a/b\nobjective:\n  l1: 0.8\n  background: random\nschedule.iterations: 500\n"
    )
    (folder / "mine.yaml").write_text(text)
    return [("mine.yaml", "yaml")]


def _read_preset(folder: Path) -> None:
    from fitting.config import FitConfig
    from fitting.config_files import load_preset, to_yaml

    to_yaml(load_preset(folder / "mine.yaml", FitConfig))


def _make_settings(folder: Path) -> Targets:
    words = ("headgas.feature_size=16", "objective.l1=0.5", "schedule.batch=2", "seeds.weights=a", "avatar=headgas")
    (folder / "set.txt").write_text(",".join(words))
    return [("set.txt", "text")]


def _read_settings(folder: Path) -> None:
    from fitting.config import FitConfig
    from fitting.config_files import load_preset

    words = (folder / "set.txt").read_bytes().decode("utf-8", "surrogateescape").split(",")
    load_preset("default", FitConfig, words)


def _fit(kind: str) -> tuple[Any, Any, Any]:
    import torch

    from fitting.config import FitConfig
    from fitting.densify import AdaptiveDensifier
    from fitting.optimizers import make_optimizer
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
        from fitting import checkpoint

        checkpoint.save(folder / "avatar.safetensors", *_fit(kind), checkpoint.Progress(3, 1.5))
        return [("avatar.safetensors", "safetensors")]

    def read(folder: Path) -> None:
        from fitting import checkpoint

        avatar, optimizer, densifier = _fit(kind)
        checkpoint.load(folder / "avatar.safetensors", avatar, optimizer, densifier)
        for parameter in avatar.parameters():
            parameter.grad = None if not parameter.requires_grad else parameter.detach().clone()
        optimizer.step()

    return Reader(make, read)


def _network():
    import torch

    from tests.fitting.one_shot import tiny

    network = tiny.network().train().requires_grad_(True)
    return network, torch.optim.AdamW(network.parameters(), lr=1e-3)


def _make_weights(folder: Path) -> Targets:
    from fitting.initializers.one_shot import weights
    from tests.fitting.one_shot import tiny

    weights.save(folder / "one.safetensors", tiny.network().state_dict(), tiny.MODEL, "anny", {"steps": 1})
    return [("one.safetensors", "safetensors")]


def _read_weights(folder: Path) -> None:
    from fitting.initializers.one_shot import weights

    weights.load(folder / "one.safetensors", download=False)
    weights.start_from(folder / "one.safetensors", _network()[0], "anny")


def _make_training(folder: Path) -> Targets:
    from fitting.initializers.one_shot.training import checkpoint

    network, optimizer = _network()
    for parameter in network.parameters():
        parameter.grad = parameter.detach().clone()
    optimizer.step()
    average = {name: p.detach().clone() for name, p in network.named_parameters()}
    checkpoint.save(folder / "c.safetensors", network, average, optimizer, checkpoint.Progress(3, 1.0, 9), "tiny")
    return [("c.safetensors", "safetensors")]


def _read_training(folder: Path) -> None:
    from fitting.initializers.one_shot.training import checkpoint

    network, optimizer = _network()
    average = {name: p.detach().clone() for name, p in network.named_parameters()}
    checkpoint.load(folder / "c.safetensors", network, average, optimizer, "tiny")
    for parameter in network.parameters():
        parameter.grad = parameter.detach().clone()
    optimizer.step()


_NAMES, _JOINTS = ("jawOpen", "mouthClose", "eyeBlinkLeft"), ("eye_left", "eye_right")


def _make_states(folder: Path) -> Targets:
    from playback.state_file import save_states
    from tests import toys

    save_states(folder / "states.npz", toys.random_states((5,), 3, 2), 25.0, _NAMES, _JOINTS)
    return [("states.npz", "npz")]


def _read_states(folder: Path) -> None:
    from playback.state_file import load_states

    load_states(folder / "states.npz", _NAMES, _JOINTS)


_KEPT: dict[str, Any] = {}


def _arkit_bundle():
    from tests import toys

    return _KEPT.setdefault("arkit", None) or _KEPT.update(arkit=toys.arkit_bundle()) or _KEPT["arkit"]


def _make_curves(folder: Path) -> Targets:
    from tests import arkit, toys

    states, times = toys.performance(12)
    arkit.write(folder / "phone.csv", arkit.table(states, _arkit_bundle().expression_names, times))
    return [("phone.csv", "text")]


def _read_curves(folder: Path) -> None:
    from playback.drivers import arkit_csv

    arkit_csv.recognizes(folder / "phone.csv")
    arkit_csv.load(folder / "phone.csv", _arkit_bundle())


def _make_path(folder: Path) -> Targets:
    aim = {"eye": [0.3, 0, 0.9], "target": [0, 0, -0.06], "up": [0, 1, 0], "fov_degrees": 25}
    top = {"format": "camera_path", "format_version": 1, "fps": 25, "width": 64, "height": 64, "relative_to": "head"}
    eye = [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 1], [0, 0, 0, 1]]
    posed = {"K": [[100, 0, 32], [0, 100, 32], [0, 0, 1]], "T_cam_head": eye}
    (folder / "frames.json").write_text(json.dumps({**top, "frames": [aim, posed]}))
    keyframes = [{**aim, "time_s": 0}, {**posed, "time_s": 0.4}, {**aim, "time_s": 1}]
    (folder / "keyframes.json").write_text(json.dumps({**top, "keyframes": keyframes}))
    return [("frames.json", "json"), ("keyframes.json", "json")]


def _read_path(folder: Path) -> None:
    from playback.views.camera_path import load_camera_path
    from tests import toys

    for name in ("frames.json", "keyframes.json"):
        load_camera_path(folder / name, toys.camera(64))


def _make_list(folder: Path) -> Targets:
    for name in ("a.mp4", "b c.mp4"):
        (folder / name).touch()
    lines = ("# people", "a.mp4 name=anna minutes=5 seed=3 matting=selfie", "'b c.mp4' iterations=9", "")
    (folder / "list.txt").write_text("\n".join(lines))
    return [("list.txt", "text")]


def _read_list(folder: Path) -> None:
    from fleet.subjects import read_list

    read_list(folder / "list.txt")


def _make_fleet(folder: Path) -> Targets:
    from fleet import claims, state
    from tests.fleet.fake_work import task

    one = task(folder, "a")
    one.folder.mkdir(parents=True)
    state.save(one, state.TaskState(state.DONE, options={"minutes": 3}, seconds=4.0))
    assert claims.take(one.folder, one.stage) is not None
    names = [path.relative_to(folder).as_posix() for path in sorted(one.folder.iterdir())]
    return [(name, "json") for name in names]


def _read_fleet(folder: Path) -> None:
    from fleet import claims, state
    from tests.fleet.fake_work import task

    one = task(folder, "a")
    state.finished(one)
    claims.owner(one.folder, one.stage)
    taken = claims.take(one.folder, one.stage)
    if taken is not None:
        taken.release()


def _make_views(folder: Path) -> Targets:
    (folder / "views.json").write_text(json.dumps({"format": "views", "format_version": 1, "key": "abc", "views": []}))
    return [("views.json", "json")]


def _read_views(folder: Path) -> None:
    from playback.views.files import _prepare

    _prepare(folder, {"key": "abc"}, False)


def _make_head_model(folder: Path) -> Targets:
    from preprocess.head_models.anny import ASSET

    (folder / "head.safetensors").write_bytes(ASSET.read_bytes())
    return [("head.safetensors", "safetensors")]


def _read_head_model(folder: Path) -> None:
    from preprocess.head_models.asset import read_head_model

    read_head_model(folder / "head.safetensors", "install again")


def _make_spz(folder: Path) -> Targets:
    from playback.export.spz import write_spz
    from tests import toys

    write_spz(folder / "a.spz", toys.blob(50))
    write_spz(folder / "b.spz", toys.blob(50), 2)
    return [("a.spz", "bytes"), ("b.spz", "bytes")]


def _read_spz(folder: Path) -> None:
    from playback.export.spz import read_spz

    for name in ("a.spz", "b.spz"):
        read_spz(folder / name)


def _make_published(folder: Path) -> Targets:
    import torch

    torch.save({"features.0.weight": torch.zeros(4, 3), "features.0.bias": torch.zeros(4)}, folder / "net.pth")
    return [("net.pth", "bytes")]


def _read_published(folder: Path) -> None:
    from preprocess.weights import load_state_dict

    load_state_dict(folder / "net.pth")


def _make_picture(folder: Path) -> Targets:
    import numpy as np
    from PIL import Image

    pixels = (np.indices((80, 96)).sum(0)[..., None] * [1, 2, 1] % 256).astype(np.uint8)
    for name in ("a.png", "b.jpg", "c.webp", "d.tiff"):
        Image.fromarray(pixels).save(folder / name, exif=Image.Exif())
    return [(name, "bytes") for name in ("a.png", "b.jpg", "c.webp", "d.tiff")]


def _read_picture(folder: Path) -> None:
    from preprocess.portraits.reading import read_still

    for path in sorted(folder.iterdir()):
        read_still(path)


def _make_captures(folder: Path) -> Targets:
    (folder / "one").mkdir()
    _make_capture(folder / "one")
    (folder / "captures.txt").write_text("# people\none\n")
    return [("captures.txt", "text")]


def _read_captures(folder: Path) -> None:
    from fitting.initializers.one_shot.training.samples import find_captures
    from scene.capture import Capture

    for root in find_captures([folder / "captures.txt"]):
        Capture.load(root)


def _make_index(folder: Path) -> Targets:
    content = b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom\0\0\0\x40moov\0\0\0\x38meta\0\0\0\x10keys\0\0\0\0\0\0\0\1"
    content += bytes(40)
    (folder / "a.mp4").write_bytes(content)
    return [("a.mp4", "bytes")]


def _read_index(folder: Path) -> None:
    from preprocess import mp4

    mp4.has_index(folder / "a.mp4")
    mp4.focal_length_35mm(folder / "a.mp4")


def _make_work(folder: Path) -> Targets:
    import numpy as np
    import torch

    from preprocess.landmarks import NUM_LANDMARKS
    from preprocess.scan import _THUMBNAIL, Scan
    from preprocess.tracking import Tracking
    from preprocess.work import Work, save_tracking
    from scene.capture import Identity
    from tests import toys

    frames = np.arange(6)
    lone = np.zeros(6, np.float32)
    Scan(
        index=frames, time_s=frames / 25, thumbnails=np.zeros((6, *_THUMBNAIL, 3), np.uint8), luminance=lone,
        face_frame=frames, points=np.zeros((6, NUM_LANDMARKS, 2), np.float32), sharpness=lone, face_luminance=lone,
        damaged=np.zeros((1, 2)), num_decoded=6, num_damaged=0, num_untimed=0, stride=1, duration_s=0.24,
        reached_end=True,
    ).save(folder / "landmarks.npz")  # fmt: skip
    residual = torch.tensor([1.0, float("nan"), 1.0, 1.0, 1.0, 1.0])
    found = ~residual.isnan()
    tracking = Tracking(
        toys.random_states((6,), 52, 2), Identity(torch.zeros(60), torch.zeros(10, 3)), found, residual, residual,
        100.0, {"jawOpen": 0.5}, (3.0, 2.0), 1.0,
    )  # fmt: skip
    save_tracking(folder / "tracking.npz", tracking)
    Work(folder, "key", progress=False)
    return [("landmarks.npz", "npz"), ("tracking.npz", "npz"), ("state.json", "json")]


def _read_work(folder: Path) -> None:
    from preprocess.scan import Scan
    from preprocess.work import Work, load_tracking

    Work(folder, "key", progress=False)
    Scan.load(folder / "landmarks.npz")
    load_tracking(folder / "tracking.npz", 6)


def _make_truth(folder: Path) -> Targets:
    import torch

    from preprocess.demo_subject import truth
    from scene.capture import Identity
    from tests import toys

    config = truth.DemoConfig(frames=5, size=64)
    identity = Identity(torch.zeros(60), torch.zeros(10, 3))
    truth._write_tensors(truth.DemoTruth(folder, config, toys.random_states((5,), 52, 2), identity))
    (folder / "truth.json").write_text(json.dumps({"format": "demo", "key": "k", "config": dataclasses.asdict(config)}))
    return [("truth.json", "json"), ("truth.safetensors", "safetensors")]


def _read_truth(folder: Path) -> None:
    from preprocess.demo_subject.truth import DemoTruth

    DemoTruth.load(folder)


READERS: dict[str, Reader] = {
    "avatar (headgas)": _bundle("headgas"),
    "avatar (gaussianhead)": _bundle("gaussianhead"),
    "avatar (linear, fewer bits)": _bundle("linear", encoded=True),
    "avatar (rigged, refined)": _bundle("rigged", refined=True),
    "capture": Reader(_make_capture, _read_capture),
    "run, as --resume reads it": Reader(_make_run, _read_run),
    "report of a run": Reader(_make_report, _read_report),
    "preset": Reader(_make_preset, _read_preset),
    "settings (--set)": Reader(_make_settings, _read_settings),
    "checkpoint (headgas)": _checkpoint("headgas"),
    "checkpoint (gaussianhead)": _checkpoint("gaussianhead"),
    "one-shot weights": Reader(_make_weights, _read_weights),
    "training checkpoint": Reader(_make_training, _read_training),
    "head states (.npz)": Reader(_make_states, _read_states),
    "ARKit curves (.csv)": Reader(_make_curves, _read_curves),
    "camera path": Reader(_make_path, _read_path),
    "list of subjects": Reader(_make_list, _read_list),
    "tasks and claims": Reader(_make_fleet, _read_fleet),
    "folder of views": Reader(_make_views, _read_views),
    "list of captures": Reader(_make_captures, _read_captures),
    "head model": Reader(_make_head_model, _read_head_model),
    "compressed cloud (.spz)": Reader(_make_spz, _read_spz),
    "published weights (.pth)": Reader(_make_published, _read_published),
    "work files of preprocessing": Reader(_make_work, _read_work),
    "truth of the demo": Reader(_make_truth, _read_truth),
    "portrait": Reader(_make_picture, _read_picture),
    "index of a video (.mp4)": Reader(_make_index, _read_index),
}
