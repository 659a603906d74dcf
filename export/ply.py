"""Clouds as .ply files in the layout of 3D Gaussian splatting (Kerbl et al. 2023), which viewers
and plug-ins read.

One element ``vertex`` of little-endian floats: x y z, nx ny nz (0), f_dc_0..2, f_rest_0..44 (15
coefficients of red, then green, then blue; degree 3, padded with 0), opacity (logit), scale_0..2
(natural logarithms), rot_0..3 (wxyz).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from likeness.export.base import Exporter, ExportOptions
from likeness.export.clouds import write_clouds
from likeness.fitting.bundle import AvatarBundle
from likeness.scene.cloud import GaussianCloud
from likeness.scene.files import write_bytes
from likeness.scene.head_state import HeadState

COEFFICIENTS = 16
_LARGEST_LOGIT = 15.0
PROPERTIES = (
    *("x y z nx ny nz f_dc_0 f_dc_1 f_dc_2".split()),
    *(f"f_rest_{i}" for i in range(3 * (COEFFICIENTS - 1))),
    *("opacity scale_0 scale_1 scale_2 rot_0 rot_1 rot_2 rot_3".split()),
)


def write_ply(path: Path, cloud: GaussianCloud) -> None:
    """Writes an unbatched cloud, whole or not at all."""
    rows = _rows(cloud)
    header = ["ply", "format binary_little_endian 1.0", f"element vertex {len(rows)}"]
    header += [f"property float {name}" for name in PROPERTIES] + ["end_header"]
    write_bytes(path, ("\n".join(header) + "\n").encode("ascii") + rows.tobytes())


def _rows(cloud: GaussianCloud) -> np.ndarray:
    """[N, 62] little-endian floats in the order of PROPERTIES."""
    count = cloud.num_gaussians
    sh = torch.zeros(count, COEFFICIENTS, 3)
    sh[:, : cloud.sh.shape[1]] = cloud.sh
    logits = torch.logit(cloud.opacities.double()).clamp(-_LARGEST_LOGIT, _LARGEST_LOGIT).float()
    parts = [
        cloud.means,
        torch.zeros(count, 3),
        sh[:, 0],
        sh[:, 1:].transpose(1, 2).reshape(count, -1),
        logits[:, None],
        cloud.scales.log(),
        torch.nn.functional.normalize(cloud.quats, dim=-1),
    ]
    return torch.cat(parts, 1).numpy().astype("<f4")


def _export(
    bundle: AvatarBundle, states: HeadState, out: Path, options: ExportOptions
) -> dict[str, Any]:
    """A .ply holds 32-bit floats: there is nothing to lose, and nothing to measure."""
    axes = options.axes or "y-down"
    facts = write_clouds(bundle, states, out, options, axes, ".ply", write_ply)
    return {**facts, "files": len(facts["files"]), "psnr": None}


PLY = Exporter(_export, "avatar.ply", frozenset({"states", "axes", "anchor"}))
