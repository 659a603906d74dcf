"""What the numbers of the 478 landmarks mean that head models are marked with: MediaPipe's FaceMesh
with irises."""

from __future__ import annotations

NUM_LANDMARKS = 478
FOREHEAD, CHIN = 10, 152

EYE_CORNERS = (33, 263)
"""Outer corners of the subject's right and left eye: their distance is the unit of residuals."""

IRISES = tuple(range(468, 478))
"""Centre and four points of the rim of the right iris, then of the left one."""

IRIS_PAIRS = ((468, 33), (468, 133), (473, 263), (473, 362))
"""Centres of the irises and the corners of their eyes."""

# fmt: off
OVAL = (
    10, 338, 297, 332, 284, 251, 389, 356, 454, 323, 361, 288, 397, 365, 379, 378, 400, 377,
    152, 148, 176, 149, 150, 136, 172, 58, 132, 93, 234, 127, 162, 21, 54, 103, 67, 109,
)
"""The face's outline from the top, clockwise in the image."""

LIPS = (
    61, 146, 91, 181, 84, 17, 314, 405, 321, 375, 291, 185, 40, 39, 37, 0, 267, 269, 270, 409,
    78, 95, 88, 178, 87, 14, 317, 402, 318, 324, 308, 191, 80, 81, 82, 13, 312, 311, 310, 415,
)
"""Outer and inner border of the lips."""

EYES = {
    "right": (33, 7, 163, 144, 145, 153, 154, 155, 133, 246, 161, 160, 159, 158, 157, 173),
    "left": (263, 249, 390, 373, 374, 380, 381, 382, 362, 466, 388, 387, 386, 385, 384, 398),
}
"""Borders of the lids."""

LID_PAIRS = {
    "left": ((386, 374), (385, 380), (387, 373), (388, 390), (384, 381)),
    "right": ((159, 145), (158, 153), (160, 144), (161, 163), (157, 154)),
}
"""Points of the upper and lower lid that face each other; the middle pair first."""

LIP_HEIGHTS = ((13, 14), (82, 87), (312, 317), (81, 178), (311, 402), (80, 88), (310, 318))
"""Points of the inner borders of upper and lower lip that face each other; the middle pair
first."""

LIP_PAIRS = (*LIP_HEIGHTS, (61, 291), (78, 308))
"""Points of the lips whose distances say how wide the mouth is open and how broad it is."""

EYE_WIDTHS = {"left": (263, 362), "right": (33, 133)}
"""Corners of each eye."""

FEATURES = (
    0, 13, 14, 17, 61, 291, 78, 308,  # lips
    33, 133, 362, 263, 159, 145, 386, 374,  # eyes
    1, 4,  # tip of the nose
)
# fmt: on
"""Landmarks that the detector places most surely: corners, and midpoints of lips and lids."""
