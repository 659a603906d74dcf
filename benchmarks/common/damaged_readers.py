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

from benchmarks.common import damaged_fits
from benchmarks.common.damage import Reader, Targets


def _make_capture(folder: Path) -> Targets:
    from tests import toys

    toys.make_capture(folder, frames=4, test=1)
    return [
        ("manifest.json", "json"),
        ("states.safetensors", "safetensors"),
        ("images/000001.png", "bytes"),
        ("mattes/000002.png", "bytes"),
    ]


def _read_capture(folder: Path) -> None:
    from likeness.fitting.report import tracking
    from likeness.playback.drivers import kind_of
    from likeness.scene.capture import Capture
    from likeness.scene.frame_images import load_rgba

    kind_of(folder)
    capture = Capture.load(folder)
    for index in (*capture.train[:3], *capture.test[:3]):
        load_rgba(capture.frames[index])
    tracking.section(capture)


_NAMES, _JOINTS = ("jawOpen", "mouthClose", "eyeBlinkLeft"), ("eye_left", "eye_right")


def _make_states(folder: Path) -> Targets:
    from likeness.playback.state_file import save_states
    from tests import toys

    save_states(folder / "states.npz", toys.random_states((5,), 3, 2), 25.0, _NAMES, _JOINTS)
    return [("states.npz", "npz")]


def _read_states(folder: Path) -> None:
    from likeness.playback.state_file import load_states

    load_states(folder / "states.npz", _NAMES, _JOINTS)


@functools.cache
def _arkit_bundle():
    from tests import toys

    return toys.arkit_bundle()


def _make_curves(folder: Path) -> Targets:
    from tests import arkit, toys

    states, times = toys.performance(12)
    arkit.write(folder / "phone.csv", arkit.table(states, _arkit_bundle().expression_names, times))
    return [("phone.csv", "text")]


def _read_curves(folder: Path) -> None:
    from likeness.playback.drivers import arkit_csv

    arkit_csv.recognizes(folder / "phone.csv")
    arkit_csv.load(folder / "phone.csv", _arkit_bundle())


def _make_path(folder: Path) -> Targets:
    aim = {"eye": [0.3, 0, 0.9], "target": [0, 0, -0.06], "up": [0, 1, 0], "fov_degrees": 25}
    top = {
        "format": "camera_path",
        "format_version": 1,
        "fps": 25,
        "width": 64,
        "height": 64,
        "relative_to": "head",
    }
    eye = [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 1], [0, 0, 0, 1]]
    posed = {"K": [[100, 0, 32], [0, 100, 32], [0, 0, 1]], "T_cam_head": eye}
    (folder / "frames.json").write_text(json.dumps({**top, "frames": [aim, posed]}))
    keyframes = [{**aim, "time_s": 0}, {**posed, "time_s": 0.4}, {**aim, "time_s": 1}]
    (folder / "keyframes.json").write_text(json.dumps({**top, "keyframes": keyframes}))
    return [("frames.json", "json"), ("keyframes.json", "json")]


def _read_path(folder: Path) -> None:
    from likeness.playback.views.camera_path import load_camera_path
    from tests import toys

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
    from likeness.collection.subjects import read_list

    read_list(folder / "list.txt")


def _make_task(folder: Path) -> Targets:
    from likeness.collection import state
    from tests.collection.fake_work import task

    one = task(folder, "a")
    one.folder.mkdir(parents=True)
    state.save(one, state.TaskState(state.DONE, options={"minutes": 3}, seconds=4.0))
    return [(one.state.relative_to(folder).as_posix(), "json")]


def _read_task(folder: Path) -> None:
    from likeness.collection import state
    from tests.collection.fake_work import task

    state.finished(task(folder, "a"))


def _make_views(folder: Path) -> Targets:
    (folder / "views.json").write_text(
        json.dumps({"format": "views", "format_version": 1, "key": "abc", "views": []})
    )
    return [("views.json", "json")]


def _read_views(folder: Path) -> None:
    from likeness.playback.views.files import _prepare

    _prepare(folder, {"key": "abc"}, False)


def _make_head_model(folder: Path) -> Targets:
    from likeness.head_models.anny import ASSET

    (folder / "head.safetensors").write_bytes(ASSET.read_bytes())
    return [("head.safetensors", "safetensors")]


def _read_head_model(folder: Path) -> None:
    from likeness.head_models.asset import read_head_model

    read_head_model(folder / "head.safetensors", "install again")


def _make_spz(folder: Path) -> Targets:
    from likeness.export.spz import write_spz
    from tests import toys

    write_spz(folder / "a.spz", toys.blob(50))
    write_spz(folder / "b.spz", toys.blob(50), 2)
    return [("a.spz", "bytes"), ("b.spz", "bytes")]


def _read_spz(folder: Path) -> None:
    from likeness.export.spz import read_spz

    for name in ("a.spz", "b.spz"):
        read_spz(folder / name)


def _make_published(folder: Path) -> Targets:
    import torch

    torch.save(
        {"features.0.weight": torch.zeros(4, 3), "features.0.bias": torch.zeros(4)},
        folder / "net.pth",
    )
    return [("net.pth", "bytes")]


def _read_published(folder: Path) -> None:
    from likeness.preprocess.weights import load_state_dict

    load_state_dict(folder / "net.pth")


def _make_picture(folder: Path) -> Targets:
    import numpy as np
    from PIL import Image

    pixels = (np.indices((80, 96)).sum(0)[..., None] * [1, 2, 1] % 256).astype(np.uint8)
    for name in ("a.png", "b.jpg", "c.webp", "d.tiff"):
        Image.fromarray(pixels).save(folder / name, exif=Image.Exif())
    return [(name, "bytes") for name in ("a.png", "b.jpg", "c.webp", "d.tiff")]


def _read_picture(folder: Path) -> None:
    from likeness.preprocess.portraits.reading import read_still

    for path in sorted(folder.iterdir()):
        read_still(path)


def _make_captures(folder: Path) -> Targets:
    (folder / "one").mkdir()
    _make_capture(folder / "one")
    (folder / "captures.txt").write_text("# people\none\n")
    return [("captures.txt", "text")]


def _read_captures(folder: Path) -> None:
    from likeness.scene.capture import Capture
    from likeness.training.samples import find_captures

    for root in find_captures([folder / "captures.txt"]):
        Capture.load(root)


def _make_index(folder: Path) -> Targets:
    content = b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom\0\0\0\x40moov\0\0\0\x38meta"
    content += b"\0\0\0\x10keys\0\0\0\0\0\0\0\1" + bytes(40)
    (folder / "a.mp4").write_bytes(content)
    return [("a.mp4", "bytes")]


def _read_index(folder: Path) -> None:
    from likeness.preprocess import mp4

    mp4.has_index(folder / "a.mp4")
    mp4.focal_length_35mm(folder / "a.mp4")


def _make_work(folder: Path) -> Targets:
    import numpy as np
    import torch

    from likeness.head_models.landmarks import NUM_LANDMARKS
    from likeness.preprocess.scan import _THUMBNAIL, Scan
    from likeness.preprocess.tracking import Tracking
    from likeness.preprocess.work import Work, save_tracking
    from likeness.scene.capture import Identity
    from tests import toys

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
    found = ~residual.isnan()
    tracking = Tracking(
        toys.random_states((6,), 52, 2),
        Identity(torch.zeros(60), torch.zeros(10, 3)),
        found,
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
    from likeness.preprocess.scan import Scan
    from likeness.preprocess.work import Work, load_tracking

    Work(folder, "key", progress=False)
    Scan.load(folder / "landmarks.npz")
    load_tracking(folder / "tracking.npz", 6)


def _make_truth(folder: Path) -> Targets:
    import torch

    from likeness.scene.capture import Identity
    from likeness.synthetic import truth
    from tests import toys

    config = truth.DemoConfig(frames=5, size=64)
    identity = Identity(torch.zeros(60), torch.zeros(10, 3))
    truth._write_tensors(truth.DemoTruth(folder, config, toys.random_states((5,), 52, 2), identity))
    (folder / "truth.json").write_text(
        json.dumps({"format": "demo", "key": "k", "config": dataclasses.asdict(config)})
    )
    return [("truth.json", "json"), ("truth.safetensors", "safetensors")]


def _read_truth(folder: Path) -> None:
    from likeness.synthetic.truth import DemoTruth

    DemoTruth.load(folder)


READERS: dict[str, Reader] = {
    **damaged_fits.READERS,
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
    "portrait": Reader(_make_picture, _read_picture),
    "index of a video (.mp4)": Reader(_make_index, _read_index),
}
