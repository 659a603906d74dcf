"""The numbers of Gaussian splatting that every renderer shares: those of gsplat's classic mode.

Source: Kerbl et al., "3D Gaussian Splatting for Real-Time Radiance Field Rendering" (2023), and
    gsplat 1.5.3.
"""

from __future__ import annotations

NEAR = 0.01
"""Metres in front of the camera; Gaussians whose centres are nearer are not drawn."""
FAR = 1e10
"""Metres; Gaussians whose centres are farther are not drawn."""
EPS2D = 0.3
"""Square pixels added to the diagonal of every projected covariance: a Gaussian never falls between
pixels."""
ALPHA_MIN = 1 / 255
"""A contribution to a pixel below this is dropped."""
ALPHA_MAX = 0.999
"""Contributions are clamped to this, so that the transmittance never reaches zero."""
TRANSMITTANCE_MIN = 1e-4
"""A pixel is finished by the first Gaussian that would leave no more than this; that Gaussian is
not drawn there."""
MAX_EXTENT = 3.33
"""Standard deviations beyond which a Gaussian is never drawn (opacity 1 reaches ALPHA_MIN just
before)."""
FRUSTUM_MARGIN = 0.3
"""Share of the half field of view by which the projection's linearisation point may lie outside the
image."""
EXPECTED_DEPTH_EPS = 1e-10
"""The smallest alpha that the expected depth is divided by."""
