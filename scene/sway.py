"""Sway: what is soft (hair, neck, clothes) moves beside head and body, as a coarse lattice of control points says.

Free-form deformation (Sederberg and Parry, 1986) of the shape at rest: a sheet of control points across the head frame,
whose offsets along x and y hold at every depth. Bilinear between the points, constant beyond the sheet.
"""

from __future__ import annotations

import torch
from torch import Tensor

COLUMNS, ROWS = 7, 6
NUM_POINTS = COLUMNS * ROWS
"""Control points, row by row from the lowest, in each from the subject's right (-x) to the left."""
LOW_M, HIGH_M = (-0.3, -0.3), (0.3, 0.2)
"""Where the first and the last of them rest: (x, y) in the head frame, 10 cm from one to the next."""


def swayed(points: Tensor, sway: Tensor) -> Tensor:
    """Points [*b, N, 3] at rest, moved by offsets [*b, NUM_POINTS, 2] of the control points, in metres."""
    batch = torch.broadcast_shapes(points.shape[:-2], sway.shape[:-2])
    flat = points.expand(*batch, *points.shape[-2:]).reshape(-1, *points.shape[-2:])
    low, high = points.new_tensor(LOW_M), points.new_tensor(HIGH_M)
    places = (2 * (flat[..., :2] - low) / (high - low) - 1)[:, None]
    sheets = sway.expand(*batch, NUM_POINTS, 2).reshape(-1, ROWS, COLUMNS, 2).permute(0, 3, 1, 2)
    shift = torch.nn.functional.grid_sample(sheets, places, padding_mode="border", align_corners=True)
    shift = shift[:, :, 0].transpose(1, 2)
    moved = torch.cat([flat[..., :2] + shift, flat[..., 2:]], -1)
    return moved.reshape(*batch, *points.shape[-2:])
