"""The scene of a fit: a box around the skull, in the head frame. Whatever the papers give in parts
of "the scene", or in its units, is meant of this one.

Splatting of still scenes takes 1.1 times the farthest camera from the cameras' mean for the extent
(Kerbl et al. 2023). Seen from the head that is 0.3 to 0.7 m on clips whose heads turn, and 1 cm
where one hardly does, which would leave no
Gaussian large enough: so it is fixed.
"""

from __future__ import annotations

SCENE_CENTRE_M = (0.0, 0.0, -0.08)
SCENE_RADIUS_M = 0.25
"""From the centre to the sides."""
SCENE_EXTENT_M = 2 * SCENE_RADIUS_M
"""Side of the box: what "1% of the scene" is a part of."""
