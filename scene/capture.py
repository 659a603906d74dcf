"""A tracked video: what preprocessing writes and fitting reads. On disk a folder with a
manifest."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, overload

import msgspec
import torch
from torch import Tensor

from likeness.scene.camera import Camera
from likeness.scene.checks import check_same_batch, check_shape
from likeness.scene.errors import UserError
from likeness.scene.files import write_json
from likeness.scene.head_state import HeadState
from likeness.scene.lattice import NUM_POINTS
from likeness.scene.reading import Names, Side, damage, read_versioned
from likeness.scene.records import TensorRecord
from likeness.scene.tensor_files import Array, read_tensors, save_tensors

FORMAT_VERSION = 1
MANIFEST = "manifest.json"
_STATES = "states.safetensors"
_REMEDY = "it is damaged: preprocess the video again"
_MAX_FRAMES = 200_000

_Number = Annotated[float, msgspec.Meta(ge=-1e9, le=1e9)]
_Indices = Annotated[list[Annotated[int, msgspec.Meta(ge=0)]], msgspec.Meta(max_length=_MAX_FRAMES)]


class _FrameEntry(msgspec.Struct):
    image: str
    matte: str
    time_s: _Number
    residual_px: _Number


class _Error(msgspec.Struct):
    before: _Number
    after: _Number


class _Median(msgspec.Struct):
    median: _Number


class _Sway(msgspec.Struct):
    rms: _Number = 0.0


class _Photometric(msgspec.Struct):
    error: _Error
    rotation_deg: _Median
    fallen_back: list[Any]
    sway_mm: _Sway = msgspec.field(default_factory=_Sway)


class _Frames(msgspec.Struct):
    dropped: dict[str, Any] | None = None


class _Report(msgspec.Struct):
    """What programs read of ``Capture.report``; it may hold more."""

    video: dict[str, Any] | None = None
    frames: _Frames | None = None
    matting: dict[str, Any] | None = None
    tracking: dict[str, Any] | None = None
    crop: dict[str, Any] | None = None
    photometric: _Photometric | None = None
    seconds: dict[str, Any] | None = None
    warnings: list[Any] | None = None
    pictures: list[dict[str, Any]] | dict[str, Any] | None = None


class _Manifest(msgspec.Struct):
    """What ``manifest.json`` of a capture holds beside its format."""

    head_model: str
    expression_names: Names
    joint_names: Names
    fps: Annotated[float, msgspec.Meta(gt=0, le=1e5)]
    width: Side
    height: Side
    source_hash: str
    train: _Indices
    test: _Indices
    frames: Annotated[list[_FrameEntry], msgspec.Meta(min_length=1, max_length=_MAX_FRAMES)]
    report: _Report


# T frames, E expressions, J joints, L landmarks, I identity components, V vertices. Captures of
# earlier programs have no sway.
_TENSORS = {
    "expression": Array(("T", "E"), low=-100, high=100),
    "joints": Array(("T", "J", 4), low=-100, high=100),
    "T_world_head": Array(("T", 4, 4), low=-1e4, high=1e4),
    "T_world_body": Array(("T", 4, 4), low=-1e4, high=1e4),
    "sway": Array(("T", NUM_POINTS, 2), low=-10, high=10, optional=True),
    "K": Array(("T", 3, 3), low=-1e7, high=1e7),
    "T_cam_world": Array(("T", 4, 4), low=-1e4, high=1e4),
    "landmarks": Array(("T", "L", 2), low=-1e6, high=1e6),
    "confidence": Array(("T", "L"), low=0, high=1),
    "identity_coefficients": Array(("I",), low=-1e4, high=1e4),
    "identity_offsets": Array(("V", 3), low=-10, high=10),
}


@dataclasses.dataclass(frozen=True)
class Identity(TensorRecord):
    """The shape of one person in the terms of a head model.

    coefficients: [I] of the model's identity components.
    offsets: [V, 3] metres, added to the rest vertices; what the components cannot say.
    """

    coefficients: Tensor
    offsets: Tensor


@dataclasses.dataclass(frozen=True)
class TrackedFrame:
    """One frame of a capture.

    image_path: RGB with the background's colour removed from the matte's soft edge.
    matte_path: 8-bit alpha.
    time_s: seconds from the start of the video.
    landmarks: [L, 2] pixels, in the order of the detector; confidence: [L] in [0, 1].
    residual_px: root mean square distance of landmarks and projected mesh, in pixels, as the
        landmark tracker left it (photometric tracking starts from there and has other measures).
    """

    image_path: Path
    matte_path: Path
    time_s: float
    camera: Camera
    state: HeadState
    landmarks: Tensor
    confidence: Tensor
    residual_px: float


@dataclasses.dataclass(frozen=True)
class TrackedFrames(Sequence[TrackedFrame]):
    """The T frames of a capture as batches; each field holds those of TrackedFrame for all frames,
    and an item is a view of one of them.

    times_s, residuals_px: [T] float64. cameras, states: [T]. landmarks: [T, L, 2]; confidence:
    [T, L].
    """

    image_paths: tuple[Path, ...]
    matte_paths: tuple[Path, ...]
    times_s: Tensor
    cameras: Camera
    states: HeadState
    landmarks: Tensor
    confidence: Tensor
    residuals_px: Tensor

    def __post_init__(self) -> None:
        owner, count = "TrackedFrames", len(self.image_paths)
        for name in ("times_s", "residuals_px"):
            check_shape(owner, name, getattr(self, name), (count,))
        check_shape(owner, "landmarks", self.landmarks, (count, "L", 2))
        check_shape(owner, "confidence", self.confidence, (count, "L"))
        batches = {"cameras": self.cameras.batch_shape, "states": self.states.batch_shape}
        check_same_batch(owner, batches | {"matte_paths": (len(self.matte_paths),)})
        if not (self.times_s.diff() > 0).all():
            raise ValueError("frames: expected time_s to rise from frame to frame")

    @classmethod
    def stack(cls, frames: Sequence[TrackedFrame]) -> TrackedFrames:
        """A batch from single frames, in the order of their times."""
        return cls(
            image_paths=tuple(frame.image_path for frame in frames),
            matte_paths=tuple(frame.matte_path for frame in frames),
            times_s=torch.tensor([frame.time_s for frame in frames], dtype=torch.float64),
            cameras=Camera.stack([frame.camera for frame in frames]),
            states=HeadState.stack([frame.state for frame in frames]),
            landmarks=torch.stack([frame.landmarks for frame in frames]),
            confidence=torch.stack([frame.confidence for frame in frames]),
            residuals_px=torch.tensor([frame.residual_px for frame in frames], dtype=torch.float64),
        )

    def __len__(self) -> int:
        return len(self.image_paths)

    @overload
    def __getitem__(self, index: int) -> TrackedFrame: ...
    @overload
    def __getitem__(self, index: slice) -> TrackedFrames: ...
    def __getitem__(self, index: int | slice) -> TrackedFrame | TrackedFrames:
        if isinstance(index, slice):
            return self.select(range(len(self))[index])
        return TrackedFrame(
            image_path=self.image_paths[index],
            matte_path=self.matte_paths[index],
            time_s=float(self.times_s[index]),
            camera=self.cameras[index],
            state=self.states[index],
            landmarks=self.landmarks[index],
            confidence=self.confidence[index],
            residual_px=float(self.residuals_px[index]),
        )

    def select(self, indices: Sequence[int]) -> TrackedFrames:
        """Some of the frames, in the order of their times."""
        rows = list(indices)
        return TrackedFrames(
            image_paths=tuple(self.image_paths[row] for row in rows),
            matte_paths=tuple(self.matte_paths[row] for row in rows),
            times_s=self.times_s[rows],
            cameras=self.cameras[rows],
            states=self.states[rows],
            landmarks=self.landmarks[rows],
            confidence=self.confidence[rows],
            residuals_px=self.residuals_px[rows],
        )


@dataclasses.dataclass(frozen=True)
class Capture:
    """A person's tracked video with a fixed split into training and test frames.

    head_model: name in HEAD_MODELS. expression_names, joint_names: what the states' columns mean.
    train, test: positions in ``frames``. source_hash: of the video and the settings that made the
        capture.
    report: what preprocessing measured: plain JSON values, for the report and for people.
    """

    root: Path
    head_model: str
    expression_names: tuple[str, ...]
    joint_names: tuple[str, ...]
    identity: Identity
    fps: float
    frames: TrackedFrames
    train: tuple[int, ...]
    test: tuple[int, ...]
    source_hash: str
    report: dict[str, Any]

    def __post_init__(self) -> None:
        indices = (*self.train, *self.test)
        if set(self.train) & set(self.test):
            raise ValueError("Capture: train and test share frames")
        if indices and not (0 <= min(indices) and max(indices) < len(self.frames)):
            raise ValueError(f"Capture: split indices reach outside the {len(self.frames)} frames")

    @property
    def cameras(self) -> Camera:
        """All frames' cameras as one batch [T]."""
        return self.frames.cameras

    @property
    def states(self) -> HeadState:
        """All frames' states as one batch [T]."""
        return self.frames.states

    def with_states(self, states: HeadState) -> Capture:
        """The same with other states [T]."""
        return dataclasses.replace(self, frames=dataclasses.replace(self.frames, states=states))

    def without_secondary_motion(self) -> Capture:
        """The same without what was tracked of hair, neck and clothes: as a driver who is somebody
        else knows it."""
        return self.with_states(self.states.without_secondary_motion())

    def select(self, indices: Sequence[int]) -> Capture:
        """The same with some of the frames alone, in the order of their times, and their split."""
        place = {index: number for number, index in enumerate(indices)}
        return dataclasses.replace(
            self,
            frames=self.frames.select(indices),
            train=tuple(place[index] for index in self.train if index in place),
            test=tuple(place[index] for index in self.test if index in place),
        )

    def save(self) -> None:
        """Writes manifest and states into ``root`` (images and mattes are there already); the
        manifest comes last."""
        frames = self.frames
        tensors = frames.states.to_tensors() | {
            **frames.cameras.fields(),
            "landmarks": frames.landmarks,
            "confidence": frames.confidence,
            "identity_coefficients": self.identity.coefficients,
            "identity_offsets": self.identity.offsets,
        }
        save_tensors(
            self.root / _STATES, {name: tensor.float() for name, tensor in tensors.items()}
        )
        manifest = {
            "format": "capture",
            "format_version": FORMAT_VERSION,
            "head_model": self.head_model,
            "expression_names": list(self.expression_names),
            "joint_names": list(self.joint_names),
            "fps": self.fps,
            "width": frames.cameras.width,
            "height": frames.cameras.height,
            "source_hash": self.source_hash,
            "train": list(self.train),
            "test": list(self.test),
            "frames": [
                {
                    "image": frame.image_path.relative_to(self.root).as_posix(),
                    "matte": frame.matte_path.relative_to(self.root).as_posix(),
                    "time_s": frame.time_s,
                    "residual_px": frame.residual_px,
                }
                for frame in frames
            ],
            "report": self.report,
        }
        write_json(self.root / MANIFEST, manifest)

    @classmethod
    def load(cls, root: Path) -> Capture:
        """Reads a capture folder. Raises UserError when it is not one, is newer than this program,
        or misses a file."""
        root = Path(root)
        manifest_path = root / MANIFEST
        if not os.path.isfile(manifest_path):
            raise UserError(
                f"{root}: not a capture (no {MANIFEST} in it); give the folder "
                "`capture` of a run, or one that likeness preprocess wrote"
            )
        what = "manifest of a capture"
        manifest, content = read_versioned(
            manifest_path, _Manifest, what, "capture", FORMAT_VERSION, remedy=_REMEDY
        )
        sizes = {
            "T": len(manifest.frames),
            "E": len(manifest.expression_names),
            "J": len(manifest.joint_names),
        }
        tensors = read_tensors(
            root / _STATES, "states of a capture", _TENSORS, sizes, remedy=_REMEDY
        )
        with damage(manifest_path, what, _REMEDY):
            return cls._assemble(root, manifest, tensors, content["report"])

    @classmethod
    def _assemble(
        cls, root: Path, manifest: _Manifest, tensors: dict[str, Tensor], report: dict[str, Any]
    ) -> Capture:
        cameras = Camera(tensors["K"], tensors["T_cam_world"], manifest.width, manifest.height)
        if not (cameras.K.diagonal(dim1=-2, dim2=-1) > 0).all():
            raise ValueError("K: expected focal lengths above 0")
        entries = manifest.frames
        frames = TrackedFrames(
            image_paths=tuple(_inside(root, entry.image) for entry in entries),
            matte_paths=tuple(_inside(root, entry.matte) for entry in entries),
            times_s=torch.tensor([entry.time_s for entry in entries], dtype=torch.float64),
            cameras=cameras,
            states=HeadState.from_tensors(tensors),
            landmarks=tensors["landmarks"],
            confidence=tensors["confidence"],
            residuals_px=torch.tensor([e.residual_px for e in entries], dtype=torch.float64),
        )
        return cls(
            root=root,
            head_model=manifest.head_model,
            expression_names=tuple(manifest.expression_names),
            joint_names=tuple(manifest.joint_names),
            identity=Identity(tensors["identity_coefficients"], tensors["identity_offsets"]),
            fps=manifest.fps,
            frames=frames,
            train=tuple(manifest.train),
            test=tuple(manifest.test),
            source_hash=manifest.source_hash,
            report=report,
        )


def _inside(root: Path, relative: str) -> Path:
    """A file of the capture; refuses paths that lead out of it."""
    path = root / relative
    if not path.resolve().is_relative_to(root.resolve()):
        raise UserError(
            f"{root / MANIFEST}: the frame {relative!r} lies outside the capture; the manifest is "
            "not ours"
        )
    if not path.is_file():
        raise UserError(f"{path}: missing from the capture; preprocess the video again")
    return path
