"""The control lattice of secondary motion (hair, neck, clothes), which the offsets in a HeadState
refer to.

Captures and bundles hold offsets of these points: a change is a new version of both formats.
"""

from __future__ import annotations

COLUMNS, ROWS = 13, 11
NUM_POINTS = COLUMNS * ROWS
"""Control points, row by row from the lowest, in each from the subject's right (-x) to the left."""
LOW_M, HIGH_M = (-0.3, -0.3), (0.3, 0.2)
"""Where the first and last of them rest: (x, y) in the head frame, 5 cm from one to the next."""
FACE_M, FACE_RADII_M = (0.0, -0.03, 0.0), (0.065, 0.085, 0.06)
"""Centre and radii of the ellipsoid that secondary motion leaves alone: what moves in the face is
an expression."""
FACE_EDGE = 0.6
"""Beyond it, as a part of the radii, until where secondary motion is whole."""
