"""The web page: a folder that any static file server can serve, with the avatar animated in the
browser.

Only avatars of the kind "linear" can go there; others are distilled into one first.

The folder holds the page (index.html, style.css, js/, vendor/: copied from ``web/`` beside this
file) and two files:

``avatar.json`` format "likeness-web-avatar", format_version; num_gaussians; codes, sh_degree,
    layers (of the network that gives the codes); flags two_frames, rigged, pose_correction, motion;
    expression_names, expression_range [2][E] (the plausible one), tuning (neutral [E], gains [E]),
    caps ([a, b]: expression a acts at most as strongly as b), groups (for the sliders),
    joint_names; camera (K, T_cam_world, width, height); state (T_world_head, T_world_body; the face
    at rest); sway (the control points of ``likeness.ops.deform``, or null); limits (of log-scales)
    and units (of motion modes); eye_full_rad (how far an eye turns at a coefficient of 1); seen
    (from where the recording saw the avatar: head and body, each low and high [2] of yaw and pitch
    in radians about centre in its own frame; fade_rad beyond these what was not seen is filled in
    full, its standard deviations then longest_m at most; see
    ``likeness.playback.view_clamp.avatar``); ``arrays``: where each array stands in avatar.bin and
    how it is quantised, see ``likeness.export.quantized``; refiner "left out" where the avatar has
    a screen refiner.
``avatar.bin`` gzip. Arrays [rows, columns], little-endian, each at a multiple of 4 bytes. N
    Gaussians, R codes, L = 1 + 3 K looks (opacity logit, K harmonics of 3 channels), E expressions,
    J joints, V vertices, T recorded frames:

    means, log_scales [3, N], quats [4, N] (wxyz), head_weights [1, N]: 16 bits. base_looks [L, N]:
    16 bits. look_modes [R L, N], motion_modes [R 9, N] (shift, turn, growth): 8 bits, squared.
    rig_vertices [3, N]: which of the V vertices; rig_weights [3, N], rig_shapes [E, 3 V]: 16 bits;
    rig_changes [E, 12 V] (if there are any; see ``RigBinding``): 8 bits, squared.
    seen.confidence [1, N]: 8 bits, squared; from 0, no frame showed it, to 1. seen.neighbours [8 or
    fewer, N]: those of confidence 1 whose mean colour fills it, 0 where its own is 1; 16 bits, 32
    from 65537 Gaussians on. harmonics.directions [3, S], harmonics.solve [K, S]: samples that
    rotations of harmonics are found by; float32. coder.I.weight [out, in], coder.I.bias [1, out],
    correction.* : float32. recording.expression [E, T], recording.joints [4 J, T] (wxyz): 16 bits;
    recording.sway [2 C, T] (metres; where it sways): 8 bits, squared; recording.head,
    recording.body [7, T] (wxyz and metres, to the world), recording.times [1, T] (seconds):
    float32.
"""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from likeness.export.base import Exporter, ExportOptions, without_refiner
from likeness.export.culling import culled
from likeness.export.distil import distil, linear_layers
from likeness.export.fidelity import agreement, images
from likeness.export.quantized import ArrayFile
from likeness.export.sampling import teaching_states
from likeness.fitting.avatars.base import LOG_SCALE_LIMITS
from likeness.fitting.avatars.linear import ROTATION_RAD, TRANSLATION_M, Linear
from likeness.fitting.bundle import AvatarBundle
from likeness.ops import harmonics as spherical_harmonics
from likeness.ops.deform import lattice_description
from likeness.playback.face_parts import grouped
from likeness.playback.player import Player
from likeness.playback.view_clamp.gaussians import MAX_HIDDEN_M, ClampedGaussians
from likeness.playback.view_clamp.views import FADE, Cone, RecordedViews
from likeness.playback.views.trajectories import HEAD_CENTRE
from likeness.scene.expression_caps import CAPS
from likeness.scene.expression_tuning import ExpressionTuning
from likeness.scene.files import atomic_path, check_absent, new_folder, write_bytes
from likeness.scene.gaze import GAZE_FULL_RAD
from likeness.scene.head_state import HeadState
from likeness.scene.rig_binding import LARGEST_GROWTH
from likeness.scene.transforms import matrices_to_quats, normalize_quats

FORMAT, FORMAT_VERSION = "likeness-web-avatar", 1
PAGE = Path(__file__).with_name("web")
SIZE_LIMIT = 20_000_000
"""Bytes of a page above which its user is warned."""

log = logging.getLogger(__name__)


def _export(
    bundle: AvatarBundle, states: HeadState, out: Path, options: ExportOptions
) -> dict[str, Any]:
    """Gaussians that no image misses are left out, and the avatar is distilled unless it is linear
    already; ``psnr`` is what both cost."""
    check_absent(out)
    bundle, facts = without_refiner(bundle, "a web page")
    test_states = teaching_states(bundle).test
    small = culled(bundle, options.progress)
    if not isinstance(small.avatar, Linear):
        small, _ = distil(small, options.codes, progress=options.progress)
    psnr = None
    if small is not bundle:
        psnr = agreement(images(small, test_states), images(bundle, test_states))
    with new_folder(out) as folder:
        size = export_web(small, folder, **facts)["bytes"]
    if size > SIZE_LIMIT:
        log.warning(
            "%s: %.0f MB is much for a page; fewer Gaussians (densify.max_gaussians in the fit) "
            "or fewer codes make it smaller",
            out,
            size / 1e6,
        )
    avatar = small.avatar
    assert isinstance(avatar, Linear)
    facts |= {"codes": avatar.config.codes, "gaussians": avatar.num_gaussians}
    return {"bytes": size, "psnr": psnr, **facts}


def export_web(bundle: AvatarBundle, folder: Path, **facts: str) -> dict[str, Any]:
    """Writes the page of a bundle. Returns what it wrote: files with their bytes, and their sum.

    facts: further entries of avatar.json. Raises ValueError when the avatar is not linear,
    UserError when the folder cannot be written to. The avatar's own files come last: a page that is
    whole has them.
    """
    avatar = bundle.avatar
    if not isinstance(avatar, Linear):
        raise ValueError(
            f"web: expected an avatar of the kind linear, got {avatar.kind}; distil it first"
        )
    folder = Path(folder)
    arrays = ArrayFile()
    _add_gaussians(arrays, avatar)
    _add_seen(arrays, ClampedGaussians.of(Player(bundle)))
    _add_shared(arrays, avatar)
    _add_recording(arrays, bundle)
    description = _description(bundle, avatar) | facts | {"arrays": arrays.index}
    pages = sorted(path for path in PAGE.rglob("*") if path.is_file())
    for path in pages:
        with atomic_path(folder / path.relative_to(PAGE)) as temporary:
            shutil.copyfile(path, temporary)
    write_bytes(folder / "avatar.bin", arrays.data())
    write_bytes(
        folder / "avatar.json",
        json.dumps(description, separators=(",", ":"), allow_nan=False).encode(),
    )
    names = [path.relative_to(PAGE).as_posix() for path in pages] + ["avatar.bin", "avatar.json"]
    sizes = {name: (folder / name).stat().st_size for name in sorted(names)}
    return {"num_gaussians": avatar.num_gaussians, "bytes": sum(sizes.values()), "files": sizes}


def _add_gaussians(arrays: ArrayFile, avatar: Linear) -> None:
    p = avatar.per_gaussian
    arrays.even("means", p["means"].T)
    arrays.even("quats", normalize_quats(p["quats"]).T)
    arrays.even("log_scales", p["log_scales"].T)
    arrays.even("base_looks", p["base_looks"].T)
    arrays.squared("look_modes", _rows(p["look_modes"]))
    if avatar.config.motion:
        arrays.squared("motion_modes", _rows(p["motion_modes"]))
    if (weights := avatar.head_weights()) is not None:
        arrays.even("head_weights", weights[None])
    if avatar.anchoring.config.rigged:
        used, places = p["rig_vertices"].unique(return_inverse=True)
        arrays.exact("rig_vertices", places.T, "uint16")
        arrays.even("rig_weights", p["rig_weights"].T)
        shapes, changes = (
            avatar.get_buffer(name)[:, used].transpose(1, 2).flatten(1)
            for name in ("rig_shapes", "rig_changes")
        )
        arrays.even("rig_shapes", shapes)
        if changes.any():
            arrays.squared("rig_changes", changes)


def _add_seen(arrays: ArrayFile, seen: ClampedGaussians) -> None:
    arrays.squared("seen.confidence", seen.confidence[None])
    # sorted rows compress better
    used = seen.neighbours.sort(-1).values * (seen.confidence < 1)[:, None]
    arrays.exact("seen.neighbours", used.T, "uint16" if len(used) <= 65536 else "uint32")


def _add_shared(arrays: ArrayFile, avatar: Linear) -> None:
    if avatar.anchoring.config.two_frames and avatar.config.sh_degree > 0:
        directions, solve = spherical_harmonics.rotation_samples(avatar.config.sh_degree)
        arrays.exact("harmonics.directions", directions.T)
        arrays.exact("harmonics.solve", solve)
    for index, layer in enumerate(linear_layers(avatar)):
        arrays.exact(f"coder.{index}.weight", layer.weight)
        arrays.exact(f"coder.{index}.bias", layer.bias[None])
    if avatar.anchoring.config.pose_correction:
        anchoring = avatar.anchoring
        arrays.exact("correction.mean", anchoring.get_buffer("expression_mean")[None])
        arrays.exact("correction.components", anchoring.get_buffer("expression_components").T)
        arrays.exact("correction.pose_scale", anchoring.get_buffer("pose_scale")[None])
        arrays.exact("correction.weight", anchoring.get_parameter("correction").T)


def _add_recording(arrays: ArrayFile, bundle: AvatarBundle) -> None:
    recording: HeadState = bundle.recording.to("cpu")
    arrays.even("recording.expression", recording.expression.T)
    arrays.even("recording.joints", recording.joints.flatten(1).T)
    if bundle.avatar.anchoring.config.swaying:
        arrays.squared("recording.sway", recording.secondary_motion.flatten(1).T)
    arrays.exact("recording.head", _poses(recording.T_world_head))
    arrays.exact("recording.body", _poses(recording.T_world_body))
    arrays.exact("recording.times", (bundle.times - bundle.times[:1])[None])


def _description(bundle: AvatarBundle, avatar: Linear) -> dict[str, Any]:
    tuning = bundle.tuning or ExpressionTuning.identity(len(bundle.expression_names))
    camera, state, anchoring = bundle.default_camera, bundle.default_state, avatar.anchoring.config
    names = bundle.expression_names
    return {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "num_gaussians": avatar.num_gaussians,
        "codes": avatar.config.codes,
        "sh_degree": avatar.config.sh_degree,
        "layers": len(linear_layers(avatar)),
        "motion": avatar.config.motion,
        "two_frames": anchoring.two_frames,
        "rigged": anchoring.rigged,
        "pose_correction": anchoring.pose_correction,
        "sway": lattice_description() if anchoring.swaying else None,
        "expression_names": list(bundle.expression_names),
        "expression_range": bundle.plausible_range.tolist(),
        "tuning": {"neutral": tuning.neutral.tolist(), "gains": tuning.gains.tolist()},
        "caps": [[names.index(a), names.index(b)] for a, b in CAPS if {a, b} <= {*names}],
        "groups": [
            {
                "name": part,
                "items": [{"name": control.name, "label": control.label} for control in controls],
            }
            for part, controls in grouped(bundle.expression_names).items()
        ],
        "joint_names": list(bundle.joint_names),
        "camera": {
            "K": camera.K.tolist(),
            "T_cam_world": camera.T_cam_world.tolist(),
            "width": camera.width,
            "height": camera.height,
        },
        "state": {
            "T_world_head": state.T_world_head.tolist(),
            "T_world_body": state.T_world_body.tolist(),
        },
        "limits": list(LOG_SCALE_LIMITS),
        "largest_growth": LARGEST_GROWTH,
        "units": {"shift_m": TRANSLATION_M, "turn_rad": ROTATION_RAD},
        "eye_full_rad": GAZE_FULL_RAD,
        "seen": _seen(RecordedViews(bundle)),
    }


def _seen(views: RecordedViews) -> dict[str, Any]:
    def limits(cone: Cone) -> dict[str, list[float]]:
        return {"low": cone.low.tolist(), "high": cone.high.tolist()}

    facts = {"centre": list(HEAD_CENTRE), "fade_rad": FADE, "longest_m": MAX_HIDDEN_M}
    return {"head": limits(views.head), "body": limits(views.body), **facts}


def _rows(modes: Tensor) -> Tensor:
    """Modes [N, R, C] as rows [R C, N]."""
    return modes.permute(1, 2, 0).flatten(0, 1)


def _poses(transforms: Tensor) -> Tensor:
    """Transforms [T, 4, 4] as rows [7, T]: quaternion wxyz, translation."""
    return torch.cat([matrices_to_quats(transforms[:, :3, :3]), transforms[:, :3, 3]], -1).T


WEB = Exporter(_export, "web", frozenset({"codes"}))
