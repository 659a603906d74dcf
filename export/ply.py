"""Clouds as .ply files in the layout of 3D Gaussian splatting (Kerbl et al. 2023), which viewers
and plug-ins read.

One element ``vertex`` of little-endian floats: x y z, nx ny nz (0), f_dc_0..2, f_rest_0..44 (15
coefficients of red, then green, then blue; degree 3, padded with 0), opacity (logit), scale_0..2
(natural logarithms), rot_0..3 (wxyz).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from likeness.scene.cloud import GaussianCloud
from likeness.scene.files import write_bytes

COEFFICIENTS = 16
_LARGEST_LOGIT = 15.0
PROPERTIES = (
    "x",
    "y",
    "z",
    "nx",
    "ny",
    "nz",
    *(f"f_dc_{i}" for i in range(3)),
    *(f"f_rest_{i}" for i in range(45)),
    "opacity",
    *(f"scale_{i}" for i in range(3)),
    *(f"rot_{i}" for i in range(4)),
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
