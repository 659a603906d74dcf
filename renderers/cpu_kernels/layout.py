"""What the columns of the kernels' tables mean, and the constants in float32.

Everything is float32: vectors are, and one float64 constant would halve the width of the other
    loops' instructions.
"""

from __future__ import annotations

import math

import numpy as np

from likeness.renderers import constants

F = np.float32
ZERO, HALF, ONE, TWO = F(0), F(0.5), F(1), F(2)

# Tiles of 8x8 pixels, row by row in 64 lanes, which the blending takes several rows at a time.
TILE = 8
LANES = TILE * TILE

# Splats: one row per Gaussian, one cache line (16 floats) long. The exponent of a contribution is
# kept in powers of two: log2(alpha) = LOG2_OPACITY + XX dx² + XY dx dy + YY dy².
MEAN_X, MEAN_Y, XX, XY, YY, LOG2_OPACITY, RED, GREEN, BLUE, DEPTH = range(10)
# half sizes in pixels of the box around all that reaches ALPHA_MIN; 0: not drawn
EXTENT_X, EXTENT_Y = 10, 11
RAW_RED = 12  # three columns: colours before they are clamped at 0
SPLAT_COLUMNS = 16

# Gradients gathered per Gaussian over the pixels: colours and depth, then the moments of v = alpha
# dL/dalpha over (dx, dy) = mean - pixel, then the absolute gradients of the mean.
G_RED, G_GREEN, G_BLUE, G_DEPTH, G_1, G_X, G_Y, G_XX, G_XY, G_YY, G_ABS_X, G_ABS_Y = range(12)
GRADIENT_COLUMNS = 16

# The camera as one row: rotation [9], translation [3], fx, fy, cx, cy, limits of x/z (low, high)
# and y/z, centre [3].
CAM_T, CAM_FX, CAM_FY, CAM_CX, CAM_CY = 9, 12, 13, 14, 15
CAM_X_LOW, CAM_X_HIGH, CAM_Y_LOW, CAM_Y_HIGH, CAM_CENTER = 16, 17, 18, 19, 20
CAMERA_COLUMNS = 23

# Lanes of the scratch memory of one tile, each LANES floats: pixel position relative to the tile's
# centre, transmittance, then what only one direction needs.
S_X, S_Y, S_T = 0, LANES, 2 * LANES
# sums forward, gradients backward
S_RED, S_GREEN, S_BLUE, S_DEPTH = 3 * LANES, 4 * LANES, 5 * LANES, 6 * LANES
S_STOP = 7 * LANES  # position in the tile's list of the Gaussian that finished the pixel
S_BEHIND = 8 * LANES  # backward: what lies behind, weighted with the gradient
SCRATCH = 9 * LANES

LOG2E = F(math.log2(math.e))
LN2 = F(math.log(2))
LOG2_ALPHA_MIN = F(math.log2(constants.ALPHA_MIN))
ALPHA_MIN = F(constants.ALPHA_MIN)
ALPHA_MAX = F(constants.ALPHA_MAX)
TRANSMITTANCE_MIN = F(constants.TRANSMITTANCE_MIN)
NEAR, FAR, EPS2D = F(constants.NEAR), F(constants.FAR), F(constants.EPS2D)
MAX_EXTENT = F(constants.MAX_EXTENT)
NEVER = F(1e9)
