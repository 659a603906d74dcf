"""Synthetic people whose clip shows a calm face, and what else their face can do, as truth.

The clip: mouth under 0.1, no smile, no blink, the head within 10° of the front, a little gaze. The
truth: 30 expressions and mixtures, the sounds of speech, and views from up to 45° aside.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import math
from pathlib import Path

import numpy as np
import torch

from likeness.head_models import HEAD_MODELS
from likeness.head_models.base import HeadModel
from likeness.scene.camera import Camera
from likeness.scene.capture import MANIFEST, Capture
from likeness.scene.files import new_folder, write_json
from likeness.scene.gaze import gaze_expression, gaze_quats
from likeness.scene.head_state import HeadState
from likeness.scene.transforms import (
    invert_transform,
    make_transform,
    mean_transform,
    rotvecs_to_matrices,
)
from likeness.synthetic.moments import random_person
from likeness.synthetic.motion import GRIMACES, VISEMES
from likeness.synthetic.people import write_capture
from likeness.synthetic.subject import SyntheticSubject

FPS = 25.0
CLIP_S = 8.0
EVERY = 4  # frames of the clip for each of a capture of the truth
_FIRST_SEED = 7_000_000  # people that no network was trained on
_NECK = (0.0, -0.105, -0.085)  # the point about which the head turns, in the head frame
_LABELS = "labels.json"
_VERSION = 2  # of what the clip and the truth show: another one is drawn anew

# Coefficients by name; one without Left or Right means both sides.
MOUTH: dict[str, dict[str, float]] = {
    "jaw half open": {"jawOpen": 0.5},
    "jaw open": {"jawOpen": 1.0},
    "smile": {"mouthSmile": 1.0, "cheekSquint": 0.4},
    "broad smile": {"mouthSmile": 1.0, "mouthUpperUp": 0.5, "mouthLowerDown": 0.4, "jawOpen": 0.1},
    "laugh": {"mouthSmile": 0.9, "jawOpen": 0.5, "mouthUpperUp": 0.4, "cheekSquint": 0.6},
    "pucker": {"mouthPucker": 1.0},
    "funnel": {"mouthFunnel": 1.0, "jawOpen": 0.3},
    "frown": {"mouthFrown": 1.0, "mouthShrugLower": 0.5},
    "teeth": {"mouthUpperUp": 0.8, "mouthLowerDown": 0.8, "mouthStretch": 0.4},
    "stretch": {"mouthStretch": 1.0, "jawOpen": 0.15},
    "lips rolled in": {"mouthRollLower": 0.8, "mouthRollUpper": 0.8},
    "mouth left": {"mouthLeft": 1.0},
    "jaw right": {"jawRight": 0.8, "jawOpen": 0.3},
    "cheeks puffed": {"cheekPuff": 1.0},
    "tongue out": {"tongueOut": 1.0, "jawOpen": 0.5},
    "smile on one side": {"mouthSmileLeft": 0.9, "mouthDimpleLeft": 0.4},
}
EYES: dict[str, dict[str, float]] = {
    "lids half closed": {"eyeBlink": 0.5},
    "lids closed": {"eyeBlink": 1.0},
    "wink": {"eyeBlinkLeft": 1.0, "cheekSquintLeft": 0.4},
    "eyes wide": {"eyeWide": 1.0},
    "squint": {"eyeSquint": 1.0, "cheekSquint": 0.5},
    "brows down": {"browDown": 1.0},
    "brows up": {"browInnerUp": 1.0, "browOuterUp": 1.0},
    "look left": {},
    "look up": {},
    "look down": {},
}
# yaw to the subject's left, pitch up
GAZES = {"look left": (30.0, 0.0), "look up": (0.0, 20.0), "look down": (0.0, -25.0)}
MIXTURES: dict[str, dict[str, float]] = {
    "laugh, lids closed": {
        "mouthSmile": 1.0,
        "jawOpen": 0.6,
        "mouthUpperUp": 0.5,
        "cheekSquint": 0.8,
        "eyeBlink": 0.9,
    },
    **{name: GRIMACES[name] for name in ("fright", "roar", "disgust")},
}
_TALKING = {"jawOpen": 0.45, "mouthLowerDown": 0.25, "mouthUpperUp": 0.15}
VIEWS = (20, 30, 45)
CALM = "calm"


@dataclasses.dataclass(frozen=True)
class Label:
    """What a frame of the truth shows. group: mouth, eyes, mixtures, speech, calm, or view20,
    view30, view45."""

    name: str
    group: str


@dataclasses.dataclass(frozen=True)
class Person:
    """The capture of one, whose training frames are the clip and whose test frames are the truth,
    and what each of these is."""

    capture: Capture
    labels: tuple[Label, ...]


def coefficients(names: tuple[str, ...], shape: dict[str, float]) -> torch.Tensor:
    """[E] of a shape whose names without Left or Right mean both sides."""
    values = torch.zeros(len(names))
    for name, value in shape.items():
        sides = [full for full in (name, f"{name}Left", f"{name}Right") if full in names]
        for full in sides:
            values[names.index(full)] = value
    return values


def calm_states(model: HeadModel, rest: torch.Tensor, frames: int, seed: int) -> HeadState:
    """States [frames] of a calm clip of CLIP_S seconds; rest: T_world_head [4, 4] at rest."""
    rng = np.random.default_rng((seed, 31))
    t = np.linspace(0, CLIP_S, frames, endpoint=False)

    def wave(*terms: tuple[float, float]) -> np.ndarray:
        return np.sum(
            [a * np.sin(2 * np.pi * (t / period + rng.random())) for a, period in terms], 0
        )

    yaw, pitch, roll = wave((7, 5.3), (2.5, 2.1)), wave((3, 4.1), (1.5, 1.7)), wave((2, 5.1))
    moved = np.stack([wave((0.005, 6.1)), wave((0.003, 3.9)), wave((0.006, 5.3))], 1)
    angles = np.radians(np.stack([pitch, np.clip(yaw, -9.8, 9.8), roll], 1)).astype(np.float32)
    gaze = np.stack([wave((8, 2.9), (3, 1.3)), wave((3, 3.3))], 1) - np.stack([0.7 * yaw, pitch], 1)
    gaze = torch.from_numpy(np.radians(np.clip(gaze, -15, 15))).float()
    gaze = gaze[:, None].expand(-1, 2, -1)
    names = model.expression_names
    expression = gaze_expression(gaze, names)
    for name, top in (
        ("jawOpen", 0.06),
        ("mouthPress", 0.08),
        ("mouthShrugLower", 0.06),
        ("browInnerUp", 0.2),
        ("browDown", 0.15),
        ("eyeSquint", 0.12),
    ):
        curve = 0.5 * top * (1 + wave((1, rng.uniform(1.5, 4))))
        shape = torch.stack([coefficients(names, {name: float(value)}) for value in curve])
        expression = expression + shape
    return HeadState(
        expression.clamp(0, 1),
        _joints(model, gaze),
        rest @ _turned(torch.from_numpy(angles), torch.from_numpy(moved).float()),
        rest.expand(frames, 4, 4).contiguous(),
    )


def truth_states(model: HeadModel, rest: torch.Tensor) -> tuple[list[Label], HeadState, list[int]]:
    """What the truth shows: labels, states [T] and by how many degrees the camera stands aside."""
    names, labels, views = model.expression_names, [], []
    expressions, gazes = [], []

    def add(name: str, group: str, shape: dict[str, float], view: int = 0) -> None:
        labels.append(Label(name, group))
        gaze = torch.tensor(GAZES.get(name, (0.0, 0.0))).deg2rad().expand(2, 2)
        expression = torch.maximum(
            coefficients(names, shape), gaze_expression(gaze[None], names)[0]
        )
        expressions.append(expression), gazes.append(gaze), views.append(view)

    for group, shapes in (("mouth", MOUTH), ("eyes", EYES), ("mixtures", MIXTURES)):
        for name, shape in shapes.items():
            add(name, group, shape)
    for sound, shape in VISEMES.items():
        add(f"speech, {sound}", "speech", shape)
    for view in VIEWS:
        for yaw in (-view, view):
            add(f"{yaw:+d}°", f"view{view}", {}, yaw)
            add(f"{yaw:+d}°, talking", f"view{view}", _TALKING, yaw)
    pose = rest.expand(len(labels), 4, 4).contiguous()
    states = HeadState(torch.stack(expressions), _joints(model, torch.stack(gazes)), pose, pose)
    return labels, states, views


def _joints(model: HeadModel, gaze: torch.Tensor) -> torch.Tensor:
    """[T, J, 4] of gaze angles [T, 2, 2]: a head model's joints are its eyes."""
    sides = [0 if name.endswith("left") else 1 for name in model.joint_names]
    return gaze_quats(gaze[:, sides])


def _turned(angles: torch.Tensor, moved: torch.Tensor) -> torch.Tensor:
    """[T, 4, 4] by pitch, yaw and roll [T, 3] in radians about the neck, and metres [T, 3]."""
    axes = torch.eye(3)
    pitch, yaw, roll = (rotvecs_to_matrices(angles[:, k : k + 1] * axes[k]) for k in range(3))
    rotation, neck = yaw @ pitch @ roll, torch.tensor(_NECK)
    return make_transform(rotation, neck - rotation @ neck + moved)


def orbited(camera: Camera, rest: torch.Tensor, degrees: float) -> Camera:
    """The camera turned about a resting head, to the subject's left."""
    centre = (rest @ torch.tensor([0.0, -0.03, -0.06, 1.0]))[:3]
    rotation = rotvecs_to_matrices(torch.tensor([0.0, -math.radians(degrees), 0.0]))
    T_world_cam = make_transform(rotation, centre - rotation @ centre)
    return dataclasses.replace(camera, T_cam_world=invert_transform(T_world_cam))


def load_person(folder: Path) -> Person:
    """What ``make`` has made."""
    labels = json.loads((folder / _LABELS).read_text())
    return Person(Capture.load(folder), tuple(Label(**label) for label in labels))


def make(root: Path, number: int, size: int) -> Path:
    """The folder of a person's capture with the truth as its tracking, made unless it is there:
    50 frames of the clip, of which the last 5 are held out (group calm), and the truth's. About 20
    s."""
    seed, model = _FIRST_SEED + number, _model()
    folder = Path(root) / f"person{number}-{size}-{_key(model)}"
    if (folder / MANIFEST).is_file():
        return folder
    subject, camera, rest = _scene(number, size)
    clip = calm_states(model, rest, round(CLIP_S * FPS), seed)[::EVERY]
    labels, states, views = truth_states(model, rest)
    held_out = len(clip) // 10
    labels = [Label(f"calm {k + 1}", CALM) for k in range(held_out)] + labels
    every = HeadState.cat([clip, states])
    cameras = [camera] * len(clip) + [orbited(camera, rest, view) for view in views]
    first = len(clip) - held_out
    with new_folder(folder) as partial:
        capture = write_capture(partial, subject, every, Camera.stack(cameras), f"unseen-{number}")
        dataclasses.replace(
            capture, train=tuple(range(first)), test=tuple(range(first, len(every)))
        ).save()
        write_json(partial / _LABELS, [dataclasses.asdict(label) for label in labels])
    return folder


def make_tracked(root: Path, number: int, size: int, download: bool = False) -> Path:
    """The folder of the capture that preprocessing makes of the person's video, as a user's: with
    mattes, poses and expressions of its own; told the true focal length."""
    import cv2

    from likeness.preprocess.pipeline import PreprocessConfig, build_capture
    from likeness.scene.files import atomic_path

    model = _model()
    folder = Path(root) / f"person{number}-{size}-{_key(model)}-tracked"
    video = folder.with_suffix(".mp4")
    subject, camera, rest = _scene(number, size)
    if not video.is_file():
        states = calm_states(model, rest, round(CLIP_S * FPS), _FIRST_SEED + number)
        wall, rng = subject.wall(size, size), np.random.default_rng((number, 32))
        with atomic_path(video) as path:
            writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), FPS, (size, size))
            for index in range(len(states)):
                rgb, alpha = subject.render(states[index], camera)
                image = 255 * (rgb + (1 - alpha[..., None]) * wall)
                image += 1.2 * rng.standard_normal(image.shape, np.float32)
                pixels = np.clip(np.round(image), 0, 255).astype(np.uint8)
                writer.write(np.ascontiguousarray(pixels[..., ::-1]))
            writer.release()
    focal = float(camera.K[0, 0]) / size
    build_capture(
        video, folder, PreprocessConfig(size=size, focal=focal), download=download, progress=False
    )
    return folder


def in_tracked_frames(person: Person, tracked: Capture, number: int) -> Capture:
    """The truth's test frames with states as an avatar of ``tracked`` understands them.

    Its head frame differs from the true one by a constant transform, its neutral face by a constant
    expression: both are the mean difference over the clip. Cameras and body stand in the same
    world.
    """
    frames, capture = tracked.frames, person.capture
    true = calm_states(
        _model(), capture.states.T_world_body[0], round(CLIP_S * FPS), _FIRST_SEED + number
    )[(frames.times_s * FPS).round().long()]
    offset = mean_transform(invert_transform(true.T_world_head) @ frames.states.T_world_head)
    neutral = (frames.states.expression - true.expression).mean(0)
    states = capture.states
    body = mean_transform(frames.states.T_world_body).expand(len(states), 4, 4)
    mapped = dataclasses.replace(
        states,
        expression=(states.expression + neutral).clamp(0, 1),
        T_world_head=states.T_world_head @ offset,
        T_world_body=body.contiguous(),
    )
    return capture.with_states(mapped)


def _scene(number: int, size: int) -> tuple[SyntheticSubject, Camera, torch.Tensor]:
    """The person, the camera, and T_world_head at rest."""
    model, seed = _model(), _FIRST_SEED + number
    rng = np.random.default_rng((seed, 33))
    # the field's width in metres: head and shoulders, as preprocessing frames them
    focal, field = float(rng.uniform(1.8, 3.2)), float(rng.uniform(0.34, 0.40))
    K = torch.tensor([[focal * size, 0, size / 2], [0, focal * size, size / 2], [0, 0, 1.0]])
    camera = Camera(K, torch.eye(4), size, size)
    rest = torch.diag(torch.tensor([1.0, -1.0, -1.0, 1.0]))
    rest[:3, 3] = torch.tensor([0.0, -0.03, focal * field])
    return SyntheticSubject(model, random_person(model, seed), min(2 * size, 1024)), camera, rest


@functools.lru_cache(maxsize=1)
def _model() -> HeadModel:
    return HEAD_MODELS["anny"]()


def _key(model: HeadModel) -> str:
    """Of what decides the images: the programs that draw, and the head model."""
    import likeness.synthetic as synthetic

    digest = hashlib.sha256(str(_VERSION).encode())
    for path in sorted(Path(next(iter(synthetic.__path__))).glob("*.py")):
        digest.update(path.read_bytes())
    for tensor in (model.template, model.identity_basis, model.expression_basis, model.uvs):
        digest.update(tensor.numpy().tobytes())
    return digest.hexdigest()[:8]
