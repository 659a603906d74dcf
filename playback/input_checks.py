"""What readers of people's files check: rigid transforms."""

from __future__ import annotations

import numpy as np

_ROTATION_TOLERANCE = 1e-3  # of R Rᵀ - 1: what five printed digits of a rotation keep


def rigid_problem(matrices: np.ndarray) -> str | None:
    """Why [*b, 4, 4] are not all rigid transforms, in a few words, or None when they are."""
    if not np.isfinite(matrices).all():
        return "holds a value that is not a finite number"
    if np.abs(matrices[..., 3, :] - np.array([0, 0, 0, 1])).max(initial=0) > _ROTATION_TOLERANCE:
        return "its last row is not 0 0 0 1"
    rotation = matrices[..., :3, :3]
    error = np.abs(rotation @ np.swapaxes(rotation, -1, -2) - np.eye(3)).max(initial=0)
    if error > _ROTATION_TOLERANCE:
        return f"its upper left 3x3 is not a rotation (R Rᵀ differs from 1 by {error:.2g})"
    if (np.linalg.det(rotation) < 0).any():
        return "its upper left 3x3 mirrors (determinant -1); expected a rotation"
    return None
