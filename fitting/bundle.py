"""The avatar on disk: safetensors and JSON, nothing that is executed. Loading needs no capture and no head model."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fitting.avatars import AVATARS, AvatarModel, AvatarShape
from fitting.config_files import apply, to_dict
from fitting.screen_refiner import Refinement, RefinerConfig, ScreenRefiner
from scene.camera import Camera
from scene.capture import Capture, check_format
from scene.errors import UserError
from scene.expression_tuning import ExpressionTuning
from scene.files import read_json, write_json
from scene.head_state import HeadState
from scene.quantisation import pack, unpack
from scene.tensor_files import load_tensors, save_tensors
from scene.transforms import mean_transform

FORMAT_VERSION, _OLDEST = 5, 2  # 3 may store tensors in fewer bits; 4 sways; 5 may have a screen refiner
_UNREFINED = 4  # what programs read that know of no refiner
MANIFEST = "manifest.json"
_TENSORS = "tensors.safetensors"
_FEATURES, _NETWORK = "refiner.features", "refiner.network."
_MOST_SIDE = 16384  # pixels of the camera's picture


@dataclasses.dataclass(frozen=True)
class AvatarBundle:
    """A fitted avatar with what is needed to drive it.

    expression_range: [2, E] smallest and largest coefficient seen in training.
    default_camera: one camera of the world; default_state: the neutral head at the mean pose.
    recording: [T] states of the training frames in their order, by their times [T] in seconds: what the person did.
    facts: plain JSON (seed, versions, capture hash, metrics).
    tuning: a neutral face and gains that were set after the fit; None: as it was fitted.
    refinement: what corrects the rendered pictures of this avatar's Gaussians; None: nothing does.
    """

    avatar: AvatarModel
    head_model: str
    expression_names: tuple[str, ...]
    joint_names: tuple[str, ...]
    expression_range: Tensor
    default_camera: Camera
    default_state: HeadState
    recording: HeadState
    times: Tensor
    facts: dict[str, Any]
    tuning: ExpressionTuning | None = None
    refinement: Refinement | None = None

    def tuned(self, state: HeadState) -> HeadState:
        """The states [*b] that the avatar is to be given to show ``state``: what plays or exports it asks this."""
        return state if self.tuning is None else self.tuning.to(state.expression.device)(state)

    def coarse(self) -> AvatarBundle:
        """The same without its screen refiner."""
        return self if self.refinement is None else dataclasses.replace(self, refinement=None)

    @classmethod
    def from_fit(cls, avatar: AvatarModel, capture: Capture, facts: dict[str, Any]) -> AvatarBundle:
        """Packs a fitted avatar with its capture's names, ranges and camera."""
        train = capture.states[list(capture.train)]
        first = capture.frames[capture.train[0]]
        neutral = HeadState.neutral(
            len(capture.expression_names), len(capture.joint_names), mean_transform(train.T_world_body)
        )
        ranges = torch.stack([train.expression.amin(0), train.expression.amax(0)])
        return cls(
            avatar, capture.head_model, capture.expression_names, capture.joint_names, ranges, first.camera, neutral,
            train, torch.tensor([capture.frames[index].time_s for index in capture.train], dtype=torch.float64), facts,
        )  # fmt: skip

    @property
    def extrapolates(self) -> bool:
        """Whether what no recorded frame shows of it was put there on purpose, and not left to chance by a fit."""
        return self.facts.get("extrapolates") is True

    def tensors(self) -> dict[str, Tensor]:
        """All its tensors by the names that they have on disk."""
        tensors = {f"avatar.{name}": value for name, value in self.avatar.state_dict().items()}
        tensors |= {
            "expression_range": self.expression_range,
            "camera.K": self.default_camera.K,
            "camera.T_cam_world": self.default_camera.T_cam_world,
            "state.T_world_head": self.default_state.T_world_head,
            "recording.times": self.times,
        }
        tensors |= {f"recording.{f.name}": getattr(self.recording, f.name) for f in dataclasses.fields(HeadState)}
        if self.refinement is not None:
            tensors[_FEATURES] = self.refinement.features
            tensors |= {f"{_NETWORK}{name}": v for name, v in self.refinement.network.state_dict().items()}
        return tensors

    def save(self, folder: Path, encodings: Mapping[str, str] | None = None) -> None:
        """Writes the bundle; the manifest comes last. encodings: tensors, by their names in ``tensors``, that are to be
        stored in fewer bits, as scene.quantisation says; all others are kept exactly."""
        folder = Path(folder)
        stored, storage = pack(self.tensors(), encodings or {})
        save_tensors(folder / _TENSORS, stored)
        manifest = {
            "format": "avatar",
            "format_version": _UNREFINED if self.refinement is None else FORMAT_VERSION,
            "avatar": self.avatar.kind,
            "config": to_dict(self.avatar.config),
            "head_model": self.head_model,
            "expression_names": list(self.expression_names),
            "joint_names": list(self.joint_names),
            "num_gaussians": self.avatar.num_gaussians,
            "width": self.default_camera.width,
            "height": self.default_camera.height,
            "storage": storage,
            **self.facts,
        }
        if self.tuning is not None and not self.tuning.is_identity:
            manifest["tuning"] = self.tuning.to_json(self.expression_names)
        if self.refinement is not None:
            manifest["screen_refiner"] = to_dict(self.refinement.network.config)
        write_json(folder / MANIFEST, manifest)

    @classmethod
    def load(cls, folder: Path) -> AvatarBundle:
        """Reads a bundle. Raises UserError when it is not one, is newer than this program, or is damaged."""
        folder = Path(folder)
        path = folder / MANIFEST
        if not path.is_file():
            raise UserError(f"{folder}: not an avatar (no {MANIFEST} in it); give the folder `bundle` of a run")
        manifest = read_json(path, "manifest of an avatar")
        check_format(manifest, path, "avatar", FORMAT_VERSION)
        if manifest["format_version"] < _OLDEST:
            raise UserError(f"{path}: an avatar of an earlier version of this program; fit it again")
        tensors = load_tensors(folder / _TENSORS)
        try:
            tensors = unpack(tensors, manifest.get("storage", {}))
            _check_values(tensors)
            return cls._assemble(path, manifest, tensors)
        except UserError:
            raise
        except (KeyError, TypeError, AttributeError, ValueError, RuntimeError, IndexError) as error:
            reason = " ".join(str(error).split())
            raise UserError(f"{path}: damaged ({reason}); export the avatar again") from None

    @classmethod
    def _assemble(cls, path: Path, manifest: dict[str, Any], tensors: dict[str, Tensor]) -> AvatarBundle:
        kind = manifest["avatar"]
        if kind not in AVATARS:
            raise UserError(f"{path}: unknown kind of avatar {kind!r}; this program knows {', '.join(AVATARS)}")
        names, joints = tuple(manifest["expression_names"]), tuple(manifest["joint_names"])
        rig = tensors.get("avatar.rig_shapes")
        shape = AvatarShape(manifest["num_gaussians"], len(names), len(joints), 0 if rig is None else rig.shape[1])
        config = apply(AVATARS[kind].Config(), manifest["config"], str(path))
        avatar = AVATARS[kind](config, shape)
        weights = {name[7:]: tensor for name, tensor in tensors.items() if name.startswith("avatar.")}
        avatar.load_state_dict(weights)
        camera = Camera(tensors["camera.K"], tensors["camera.T_cam_world"], manifest["width"], manifest["height"])
        state = HeadState.neutral(len(names), len(joints), tensors["state.T_world_head"])
        parts = {f.name: tensors.get(f"recording.{f.name}") for f in dataclasses.fields(HeadState)}
        recording = HeadState(**parts)  # those of earlier programs have no sway
        known = {"format", "format_version", "avatar", "config", "head_model", "expression_names", "joint_names"}
        known |= {"num_gaussians", "width", "height", "tuning", "storage", "screen_refiner"}
        tuning = ExpressionTuning.from_json(manifest["tuning"], names, str(path)) if "tuning" in manifest else None
        facts = {key: value for key, value in manifest.items() if key not in known}
        bundle = cls(
            avatar.eval(), manifest["head_model"], names, joints, tensors["expression_range"], camera, state,
            recording, tensors["recording.times"], facts, tuning, _refinement(manifest, tensors, str(path)),
        )  # fmt: skip
        _check_parts(bundle)
        return bundle


def _refinement(manifest: dict[str, Any], tensors: dict[str, Tensor], path: str) -> Refinement | None:
    if "screen_refiner" not in manifest:
        return None
    network = ScreenRefiner(apply(RefinerConfig(), manifest["screen_refiner"], path))
    stored = {name.removeprefix(_NETWORK): v for name, v in tensors.items() if name.startswith(_NETWORK)}
    network.load_state_dict(stored)
    return Refinement(network.eval().requires_grad_(False), tensors[_FEATURES])


def _check_values(tensors: dict[str, Tensor]) -> None:
    """Raises ValueError for what would only fail when it is played: a bundle may come from anywhere."""
    for name, tensor in tensors.items():
        if not name.startswith("avatar.") and name != "recording.times" and tensor.dtype != torch.float32:
            raise ValueError(f"{name}: expected float32, got {tensor.dtype}")
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise ValueError(f"{name}: holds values that are not finite")
    shapes, corners = tensors.get("avatar.rig_shapes"), tensors.get("avatar.per_gaussian.rig_vertices")
    if shapes is not None and corners is not None and corners.numel():
        if corners.min() < 0 or corners.max() >= shapes.shape[1]:
            raise ValueError(f"avatar.per_gaussian.rig_vertices: beyond the {shapes.shape[1]} vertices of the rig")


def _check_parts(bundle: AvatarBundle) -> None:
    """Raises ValueError where the parts of a bundle do not belong together."""
    for field, names in (("expression_names", bundle.expression_names), ("joint_names", bundle.joint_names)):
        if not all(isinstance(name, str) for name in names) or len(set(names)) < len(names):
            raise ValueError(f"{field}: expected different texts")
    if not isinstance(bundle.head_model, str):
        raise ValueError(f"head_model: expected a text, got {bundle.head_model!r}")
    if bundle.refinement is not None and len(bundle.refinement.features) != bundle.avatar.num_gaussians:
        raise ValueError(f"{_FEATURES}: expected those of {bundle.avatar.num_gaussians} Gaussians")
    camera, times = bundle.default_camera, bundle.times
    if not all(type(side) is int and side <= _MOST_SIDE for side in (camera.width, camera.height)):
        raise ValueError(f"width, height: expected whole numbers of at most {_MOST_SIDE}")
    if camera.K.ndim != 2 or not (camera.K.diagonal() > 0).all():
        raise ValueError("camera.K: expected [3, 3] with focal lengths above 0")
    if times.ndim != 1 or len(times) == 0 or not (times.diff() > 0).all():
        raise ValueError("recording.times: expected at least one frame, and rising seconds")
    count = len(bundle.expression_names)
    wanted = {
        "expression_range": (bundle.expression_range, (2, count)),
        "recording.expression": (bundle.recording.expression, (len(times), count)),
        "recording.joints": (bundle.recording.joints, (len(times), len(bundle.joint_names), 4)),
    }
    for field, (tensor, shape) in wanted.items():
        if tuple(tensor.shape) != shape:
            raise ValueError(f"{field}: expected the shape {list(shape)}, got {list(tensor.shape)}")
