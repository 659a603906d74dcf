"""Linear avatars for the tests of the web page, and exported ones read back."""

from __future__ import annotations

import dataclasses
import gzip
import json
from pathlib import Path

import torch

from likeness.export.quantized import decode
from likeness.fitting.avatars import AVATARS, AvatarShape, TrainingStates
from likeness.fitting.avatars.anchoring import AnchoringConfig
from likeness.fitting.bundle import AvatarBundle
from likeness.head_models.arkit import ARKIT_EXPRESSIONS
from likeness.scene.rig_binding import CHANGES
from likeness.scene.seeds import Seeds
from tests import toys

COUNT = 500
JAW = ARKIT_EXPRESSIONS.index("jawOpen")
EXTENDED = AnchoringConfig(two_frames=True, rigged=True, swaying=True, pose_correction=True)


def linear_bundle(
    anchoring: AnchoringConfig = EXTENDED, size: int = 160, **changes
) -> AvatarBundle:
    """A disturbed linear avatar of a blob, named as ARKit names expressions; jawOpen reddens its
    lower part."""
    kind = AVATARS["linear"]
    config = dataclasses.replace(
        kind.Config(codes=6, hidden_size=12), anchoring=anchoring, **changes
    )
    torch.manual_seed(0)
    avatar = kind(config, AvatarShape(COUNT, 52, 2, toys.RIG_VERTICES))
    states = toys.random_states((30,))
    seeds = Seeds(toys.blob(COUNT), torch.linspace(0, 1, COUNT), toys.rig(COUNT))
    avatar.initialize(seeds, TrainingStates(states.expression, states.T_head_body))
    generator = torch.Generator().manual_seed(4)
    with torch.no_grad():
        for name, parameter in avatar.named_parameters():
            if parameter.requires_grad:
                size_of = 0.003 if name.endswith("means") else 0.05
                parameter += size_of * torch.randn(parameter.shape, generator=generator)
        # Many small ones, whose size on the screen the blur makes; colours that stay below 1, as
        # most are.
        order = torch.randperm(COUNT, generator=generator)
        avatar.per_gaussian["log_scales"] -= torch.linspace(0, 2, COUNT)[order, None]
        avatar.per_gaussian["base_looks"][:, 1:] *= 0.6
        if config.hidden_layers == 0:
            _redden(avatar)
    bundle = toys.bundle(avatar.eval(), size)
    names = {"expression_names": ARKIT_EXPRESSIONS, "joint_names": ("eye_left", "eye_right")}
    return dataclasses.replace(bundle, **names)


def _redden(avatar) -> None:
    """The first code is jawOpen, whose mode paints what lies low."""
    layer, modes = avatar.coder[0], avatar.per_gaussian["look_modes"]
    layer.weight[0], layer.bias[0] = 0, 0
    layer.weight[0, JAW] = 1
    low = avatar.per_gaussian["means"][:, 1] < -0.05
    modes[:, 0] = 0
    modes[low, 0, 1], modes[low, 0, 2], modes[low, 0, 3] = 2.0, -1.0, -1.0


def read_back(bundle: AvatarBundle, folder: Path) -> AvatarBundle:
    """The bundle with the values that the exported page computes with."""
    description = json.loads((folder / "avatar.json").read_text())
    arrays = read_arrays(folder)
    avatar = AVATARS["linear"](bundle.avatar.config, _shape(bundle, arrays))
    weights = dict(bundle.avatar.state_dict())
    for name in ("means", "quats", "log_scales", "base_looks"):
        weights[f"per_gaussian.{name}"] = arrays[name].T
    for name in ("look_modes", "motion_modes"):
        if name in arrays:
            weights[f"per_gaussian.{name}"] = (
                arrays[name].unflatten(0, (description["codes"], -1)).permute(2, 0, 1)
            )
    if "head_weights" in arrays:
        weights["per_gaussian.head_logits"] = torch.logit(
            arrays["head_weights"][0].double()
        ).float()
    if "rig_shapes" in arrays:
        weights["per_gaussian.rig_vertices"] = arrays["rig_vertices"].T.long()
        weights["per_gaussian.rig_weights"] = arrays["rig_weights"].T
        for name, rows in (("rig_shapes", 3), ("rig_changes", CHANGES)):
            weights[name] = arrays[name].unflatten(1, (rows, -1)).transpose(1, 2)
    avatar.load_state_dict({name: value.contiguous() for name, value in weights.items()})
    return dataclasses.replace(bundle, avatar=avatar.eval())


def read_arrays(folder: Path) -> dict[str, torch.Tensor]:
    """The arrays [rows, columns] of an exported page."""
    index = json.loads((folder / "avatar.json").read_text())["arrays"]
    content = gzip.decompress((folder / "avatar.bin").read_bytes())
    return {name: torch.from_numpy(decode(content, entry)).float() for name, entry in index.items()}


def _shape(bundle: AvatarBundle, arrays: dict[str, torch.Tensor]) -> AvatarShape:
    vertices = arrays["rig_shapes"].shape[1] // 3 if "rig_shapes" in arrays else 0
    return AvatarShape(bundle.avatar.num_gaussians, 52, 2, vertices)


def described(state) -> dict:
    """A state as the page's programs give it."""
    fields = {field.name: getattr(state, field.name) for field in dataclasses.fields(state)}
    fields["sway"] = fields.pop("secondary_motion")  # the key in files
    return {name: value.tolist() for name, value in fields.items()}
