"""A tracked video: what preprocessing writes and fitting reads. On disk a folder with a manifest."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from scene.camera import Camera
from scene.errors import UserError
from scene.files import read_json, write_json
from scene.head_state import HeadState
from scene.tensor_files import load_tensors, save_tensors

FORMAT_VERSION = 1
MANIFEST = "manifest.json"
_STATES = "states.safetensors"


@dataclasses.dataclass(frozen=True)
class Identity:
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
    residual_px: root mean square distance of landmarks and projected mesh, in pixels, as the landmark tracker left it
        (tracking by the picture goes on from there, by other measures).
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
class Capture:
    """A person's tracked video with a fixed split into training and test frames.

    head_model: name in HEAD_MODELS. expression_names, joint_names: what the states' columns mean.
    train, test: positions in ``frames``. source_hash: of the video and the settings that made the capture.
    report: what preprocessing found out: plain JSON values, for the report and for people.
    """

    root: Path
    head_model: str
    expression_names: tuple[str, ...]
    joint_names: tuple[str, ...]
    identity: Identity
    fps: float
    frames: tuple[TrackedFrame, ...]
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
        return Camera.stack([frame.camera for frame in self.frames])

    @property
    def states(self) -> HeadState:
        """All frames' states as one batch [T]."""
        return HeadState.stack([frame.state for frame in self.frames])

    def unswayed(self) -> Capture:
        """The same without what was tracked of hair, neck and clothes: as a driver who is somebody else knows it."""
        frames = (dataclasses.replace(frame, state=frame.state.unswayed()) for frame in self.frames)
        return dataclasses.replace(self, frames=tuple(frames))

    def save(self) -> None:
        """Writes manifest and states into ``root`` (images and mattes are there already); the manifest comes last."""
        states, cameras = self.states, self.cameras
        tensors = {
            "expression": states.expression,
            "joints": states.joints,
            "T_world_head": states.T_world_head,
            "T_world_body": states.T_world_body,
            "sway": states.sway,
            "K": cameras.K,
            "T_cam_world": cameras.T_cam_world,
            "landmarks": torch.stack([frame.landmarks for frame in self.frames]),
            "confidence": torch.stack([frame.confidence for frame in self.frames]),
            "identity_coefficients": self.identity.coefficients,
            "identity_offsets": self.identity.offsets,
        }
        save_tensors(self.root / _STATES, {name: tensor.float() for name, tensor in tensors.items()})
        manifest = {
            "format": "capture",
            "format_version": FORMAT_VERSION,
            "head_model": self.head_model,
            "expression_names": list(self.expression_names),
            "joint_names": list(self.joint_names),
            "fps": self.fps,
            "width": cameras.width,
            "height": cameras.height,
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
                for frame in self.frames
            ],
            "report": self.report,
        }
        write_json(self.root / MANIFEST, manifest)

    @classmethod
    def load(cls, root: Path) -> Capture:
        """Reads a capture folder. Raises UserError when it is not one, is newer than this program, or misses a file."""
        root = Path(root)
        manifest_path = root / MANIFEST
        if not manifest_path.is_file():
            raise UserError(f"{root}: not a capture (no {MANIFEST} in it); give the folder that fit_subject.py wrote")
        manifest = read_json(manifest_path, "manifest of a capture")
        check_format(manifest, manifest_path, "capture", FORMAT_VERSION)
        tensors = load_tensors(root / _STATES)
        try:
            return cls._assemble(root, manifest, tensors)
        except (KeyError, TypeError, ValueError, IndexError) as error:
            if isinstance(error, UserError):
                raise
            raise UserError(f"{manifest_path}: damaged ({error!r}); preprocess the video again") from None

    @classmethod
    def _assemble(cls, root: Path, manifest: dict[str, Any], tensors: dict[str, Tensor]) -> Capture:
        poses = (tensors[name] for name in ("expression", "joints", "T_world_head", "T_world_body"))
        states = HeadState(*poses, tensors.get("sway"))  # captures of earlier programs have none
        cameras = Camera(tensors["K"], tensors["T_cam_world"], manifest["width"], manifest["height"])
        entries = manifest["frames"]
        if len(entries) != len(states):
            raise ValueError(f"{len(entries)} frames in the manifest, {len(states)} states")
        frames = tuple(
            TrackedFrame(
                image_path=_inside(root, entry["image"]),
                matte_path=_inside(root, entry["matte"]),
                time_s=float(entry["time_s"]),
                camera=cameras[index],
                state=states[index],
                landmarks=tensors["landmarks"][index],
                confidence=tensors["confidence"][index],
                residual_px=float(entry["residual_px"]),
            )
            for index, entry in enumerate(entries)
        )
        return cls(
            root=root,
            head_model=manifest["head_model"],
            expression_names=tuple(manifest["expression_names"]),
            joint_names=tuple(manifest["joint_names"]),
            identity=Identity(tensors["identity_coefficients"], tensors["identity_offsets"]),
            fps=float(manifest["fps"]),
            frames=frames,
            train=tuple(manifest["train"]),
            test=tuple(manifest["test"]),
            source_hash=manifest["source_hash"],
            report=manifest["report"],
        )


def _inside(root: Path, relative: str) -> Path:
    """A file of the capture; refuses paths that lead out of it."""
    path = root / relative
    if not path.resolve().is_relative_to(root.resolve()):
        raise UserError(f"{root / MANIFEST}: the frame {relative!r} lies outside the capture; the manifest is not ours")
    if not path.is_file():
        raise UserError(f"{path}: missing from the capture; preprocess the video again")
    return path


def check_format(manifest: Any, path: Path, kind: str, version: int) -> None:
    """Raises UserError unless a manifest is of this kind and of a version that this program knows."""
    given = manifest.get("format") if isinstance(manifest, dict) else None
    if given != kind:
        raise UserError(f"{path}: format: expected {kind!r}, got {str(given)[:40]!r}; this file is of another kind")
    found = manifest.get("format_version")
    if not isinstance(found, int) or found > version:
        raise UserError(f"{path}: {kind} format {found} is newer than this program's {version}; update the program")
