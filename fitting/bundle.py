"""The avatar on disk: safetensors and JSON, nothing that is executed. Loading needs no capture and
no head model."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import msgspec
import torch
from torch import Tensor

from likeness.fitting.avatars import AVATARS, AvatarModel, AvatarShape
from likeness.ops.quantization import Storage, pack, stored_as, unpack
from likeness.renderers.screen_refiner import Refinement, RefinerConfig, ScreenRefiner
from likeness.scene.camera import Camera
from likeness.scene.capture import Capture
from likeness.scene.config_files import apply, to_dict
from likeness.scene.errors import UserError
from likeness.scene.expression_caps import capped_state
from likeness.scene.expression_tuning import ExpressionTuning
from likeness.scene.files import write_json
from likeness.scene.head_state import HeadState
from likeness.scene.lattice import NUM_POINTS
from likeness.scene.reading import Names, Side, damage, read_versioned
from likeness.scene.tensor_files import Array, part, read_header, read_tensors, save_tensors
from likeness.scene.transforms import mean_transform

# 3 may store tensors in fewer bits; 4 has secondary motion; 5 may have a screen refiner
FORMAT_VERSION, _OLDEST = 5, 2
_UNREFINED = 4  # what programs read that know of no refiner
MANIFEST = "manifest.json"
_TENSORS = "tensors.safetensors"
_FEATURES, _NETWORK = "refiner.features", "refiner.network."
_MAX_VERTICES = 1_000_000
_REMEDY = "it is damaged: export the avatar again"


class _Manifest(msgspec.Struct):
    """What ``manifest.json`` of an avatar holds beside its format and its facts."""

    avatar: str
    config: dict[str, Any]
    head_model: str
    expression_names: Names
    joint_names: Names
    num_gaussians: Annotated[int, msgspec.Meta(ge=1, le=100_000_000)]
    width: Side
    height: Side
    storage: dict[str, Storage] = msgspec.field(default_factory=dict)
    tuning: Any = None
    screen_refiner: dict[str, Any] | None = None


# what else stands there are facts
_OURS = {"format", "format_version", *_Manifest.__struct_fields__}

# T frames, E expressions, J joints. Avatars of earlier programs have no sway.
_DECLARED = {
    "expression_range": Array((2, "E")),
    "camera.K": Array((3, 3)),
    "camera.T_cam_world": Array((4, 4)),
    "state.T_world_head": Array((4, 4)),
    "recording.times": Array(("T",), "real"),
    "recording.expression": Array(("T", "E")),
    "recording.joints": Array(("T", "J", 4)),
    "recording.T_world_head": Array(("T", 4, 4)),
    "recording.T_world_body": Array(("T", 4, 4)),
    "recording.sway": Array(("T", NUM_POINTS, 2), optional=True),
}


@dataclasses.dataclass(frozen=True)
class AvatarBundle:
    """A fitted avatar with what is needed to drive it.

    expression_range: [2, E] smallest and largest coefficient seen in training.
    default_camera: one camera of the world; default_state: the neutral head at the mean pose.
    recording: [T] states of the training frames in their order, by their times [T] in seconds: what
        the person did.
    facts: plain JSON (seed, versions, capture hash, metrics).
    tuning: a neutral face and gains that were set after the fit; None: as it was fitted.
    refinement: what corrects the rendered images of this avatar's Gaussians; None: nothing does.
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
        """The states [*b] that the avatar is to be given to show ``state``, tuned and capped: what
        plays or exports it asks this."""
        if self.tuning is not None:
            state = self.tuning.to(state.expression.device)(state)
        return capped_state(state, self.expression_names)

    def coarse(self) -> AvatarBundle:
        """The same without its screen refiner."""
        return self if self.refinement is None else dataclasses.replace(self, refinement=None)

    @classmethod
    def from_fit(cls, avatar: AvatarModel, capture: Capture, facts: dict[str, Any]) -> AvatarBundle:
        """Packs a fitted avatar with its capture's names, ranges and camera."""
        train, names = capture.states[list(capture.train)], capture.expression_names
        pose = mean_transform(train.T_world_body)
        frames = [capture.frames[index] for index in capture.train]
        return cls(
            avatar=avatar,
            head_model=capture.head_model,
            expression_names=names,
            joint_names=capture.joint_names,
            expression_range=torch.stack([train.expression.amin(0), train.expression.amax(0)]),
            default_camera=frames[0].camera,
            default_state=HeadState.neutral(len(names), len(capture.joint_names), pose),
            recording=train,
            times=torch.tensor([frame.time_s for frame in frames], dtype=torch.float64),
            facts=facts,
        )

    @property
    def extrapolates(self) -> bool:
        """Whether what no recorded frame shows of it was put there on purpose, and not left to
        chance by a fit."""
        return self.facts.get("extrapolates") is True

    @property
    def shows_unseen(self) -> bool:
        """Whether expressions that no training frame had are those of the head model; also what was
        distilled from such an avatar."""
        return self.avatar.shows_unseen or self.facts.get("shows_unseen") is True

    @property
    def plausible_range(self) -> Tensor:
        """[2, E] smallest and largest coefficient at which the avatar is plausible: a face's whole
        range where it ``shows_unseen``, else what was seen in training."""
        low, high = self.expression_range
        if not self.shows_unseen:
            return self.expression_range
        return torch.stack([low.clamp_max(0.0), high.clamp_min(1.0)])

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
        tensors |= self.recording.to_tensors("recording.")
        if self.refinement is not None:
            network = self.refinement.network.state_dict()
            tensors |= {f"{_NETWORK}{name}": value for name, value in network.items()}
            tensors[_FEATURES] = self.refinement.features
        return tensors

    def save(self, folder: Path, encodings: Mapping[str, str] | None = None) -> None:
        """Writes the bundle; the manifest comes last. encodings: tensors, by their names in
        ``tensors``, that are to be stored in fewer bits, as likeness.ops.quantization says; all
        others are kept exactly."""
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
            "storage": msgspec.to_builtins(storage),
            **self.facts,
        }
        if self.tuning is not None and not self.tuning.is_identity:
            manifest["tuning"] = self.tuning.to_json(self.expression_names)
        if self.refinement is not None:
            manifest["screen_refiner"] = to_dict(self.refinement.network.config)
        write_json(folder / MANIFEST, manifest)

    @classmethod
    def load(cls, folder: Path) -> AvatarBundle:
        """Reads a bundle. Raises UserError when it is not one, is newer than this program, or is
        damaged."""
        folder = Path(folder)
        path = folder / MANIFEST
        if not os.path.isfile(path):
            raise UserError(
                f"{folder}: not an avatar (no {MANIFEST} in it); give the folder `bundle` of a run"
            )
        what = "manifest of an avatar"
        versions = FORMAT_VERSION, _OLDEST
        manifest, content = read_versioned(
            path, _Manifest, what, "avatar", *versions, remedy=_REMEDY
        )
        with damage(path, what, _REMEDY):
            _check_names(manifest)
            avatar, refiner = _models(path, manifest, _rig_vertices(folder / _TENSORS))
            tensors = _read_tensors(folder / _TENSORS, manifest, avatar, refiner)
            avatar.resize(manifest.num_gaussians)
            avatar.load_state_dict(part(tensors, "avatar."))
            refinement = None
            if refiner is not None:
                refiner.load_state_dict(part(tensors, _NETWORK))
                refiner.eval().requires_grad_(False)
                refinement = Refinement(refiner, tensors[_FEATURES])
            names, joints = tuple(manifest.expression_names), tuple(manifest.joint_names)
            camera = tensors["camera.K"], tensors["camera.T_cam_world"]
            tuning = manifest.tuning
            if tuning is not None:
                tuning = ExpressionTuning.from_json(tuning, names, str(path))
            return cls(
                avatar=avatar.eval(),
                head_model=manifest.head_model,
                expression_names=names,
                joint_names=joints,
                expression_range=tensors["expression_range"],
                default_camera=Camera(*camera, manifest.width, manifest.height),
                default_state=HeadState.neutral(
                    len(names), len(joints), tensors["state.T_world_head"]
                ),
                recording=HeadState.from_tensors(tensors, "recording."),
                times=tensors["recording.times"],
                facts={key: value for key, value in content.items() if key not in _OURS},
                tuning=tuning,
                refinement=refinement,
            )


def _check_names(manifest: _Manifest) -> None:
    for field in ("expression_names", "joint_names"):
        names = getattr(manifest, field)
        if len(set(names)) < len(names):
            raise ValueError(f"{field}: expected different texts")


def _rig_vertices(path: Path) -> int:
    """How many vertices the rig in a bundle's tensors has; 0: none."""
    rig = read_header(path, "tensors of an avatar", remedy=_REMEDY).arrays.get("avatar.rig_shapes")
    if rig is None:
        return 0
    if len(rig.shape) != 3 or not 0 < rig.shape[1] <= _MAX_VERTICES:
        problem = f"expected the shape [E, V, 3], got {list(rig.shape)}"
        raise UserError(f"{path}: avatar.rig_shapes: {problem}; {_REMEDY}")
    return rig.shape[1]


def _models(
    path: Path, manifest: _Manifest, rig_vertices: int
) -> tuple[AvatarModel, ScreenRefiner | None]:
    """The avatar with a single Gaussian, and its refiner: what tells which tensors there must be,
    of which sizes."""
    if manifest.avatar not in AVATARS:
        raise UserError(
            f"{path}: unknown kind of avatar {manifest.avatar!r}; this program knows "
            f"{', '.join(AVATARS)}"
        )
    kind = AVATARS[manifest.avatar]
    shape = AvatarShape(1, len(manifest.expression_names), len(manifest.joint_names), rig_vertices)
    avatar = kind(apply(kind.Config(), manifest.config, f"{path}: config"), shape)
    if manifest.screen_refiner is None:
        return avatar, None
    config = apply(RefinerConfig(), manifest.screen_refiner, f"{path}: screen_refiner")
    return avatar, ScreenRefiner(config)


def _read_tensors(
    path: Path, manifest: _Manifest, avatar: AvatarModel, refiner: ScreenRefiner | None
) -> dict[str, Tensor]:
    """The tensors that a bundle of these models must have."""
    declared = _DECLARED | avatar.declared("avatar.")
    if refiner is not None:
        declared[_FEATURES] = Array(("N", refiner.config.features))
        for name, value in refiner.state_dict().items():
            declared[_NETWORK + name] = Array(tuple(value.shape))
    sizes = {
        "N": manifest.num_gaussians,
        "E": len(manifest.expression_names),
        "J": len(manifest.joint_names),
    }
    stored = stored_as(declared, manifest.storage)
    tensors = read_tensors(path, "tensors of an avatar", stored, sizes, remedy=_REMEDY)
    tensors = unpack(tensors, manifest.storage)
    if not (tensors["camera.K"].diagonal() > 0).all():
        raise ValueError("camera.K: expected focal lengths above 0")
    times = tensors["recording.times"]
    if len(times) == 0 or not (times.diff() > 0).all():
        raise ValueError("recording.times: expected at least one frame, and rising seconds")
    return tensors
