"""How the detector's landmarks slip over the face as it turns."""

from __future__ import annotations

import dataclasses
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

ASSET = Path(__file__).parent / "assets" / "facemesh_slip.npz"


@dataclasses.dataclass(frozen=True)
class DetectorSlip:
    """What the detector adds to the projection of the surface, as a function of the view.

    coefficients: [5, L, 2] per cent of the outer eye-corner distance (of the mean head, seen from the front), to the
    right and up along the head's image axes, for each of ``view_terms``.
    FaceMesh's points are not fixed to the skin: those of the outline follow the silhouette, and all of them turn less
    than the head does. Fitted on renderings of made people whose poses are known (``calibrate_slip.py``), with what is
    constant for a person and what goes with expressions taken out.
    """

    coefficients: Tensor

    def scaled(self, share: float) -> DetectorSlip:
        """A detector that slips by this share of what this one does."""
        return DetectorSlip(share * self.coefficients)

    def pixels(self, rotation: Tensor, translation: Tensor, scale: Tensor) -> Tensor:
        """[T, L, 2] pixels by which detected points lie beside the surface's. Head to camera rotation [T, 3, 3] and
        translation [T, 3]; scale: [T] per cent of the eye distance per pixel."""
        terms, axes = view_terms(rotation, translation)
        shift = torch.einsum("tk,kld->tld", terms, self.coefficients)
        return shift @ axes / scale[:, None, None]


def view_terms(rotation: Tensor, translation: Tensor) -> tuple[Tensor, Tensor]:
    """Polynomials of the direction to the camera, [T, 5], and the head's image axes [T, 2, 2].

    The direction's x and y in the head frame are the sines of yaw and pitch against the line of sight, whatever the
    roll. Rows of the axes: the head's right in the picture (the viewer's), and its up.
    """
    ray = torch.nn.functional.normalize(translation, dim=-1)
    x, y, _ = -(ray[:, None] @ rotation)[:, 0].T
    up = torch.nn.functional.normalize(rotation[:, :2, 1], dim=-1)
    right = torch.stack([-up[:, 1], up[:, 0]], -1)
    return torch.stack([x, y, x * x, y * y, x * y], -1), torch.stack([right, up], 1)


@lru_cache(maxsize=1)
def facemesh_slip() -> DetectorSlip:
    """The slip of MediaPipe's FaceMesh with attention."""
    with np.load(ASSET) as data:
        return DetectorSlip(torch.from_numpy(data["coefficients"].astype(np.float64)))
