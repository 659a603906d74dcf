"""Carries the colours of an edited picture of a person into the person's avatar.

The picture is laid over the avatar (``alignment``); what it shows in other colours than the avatar
is told from what the avatar merely gets wrong, put into the Gaussians that are seen, and carried on
to those that are not but look alike and lie near (``colours``). Places, shapes, opacities and all
that depends on the expression stay as they were.
"""

from likeness.fitting.recolouring.colours import (
    RecolourConfig,
    Recoloured,
    check_recolourable,
    recolour,
)

__all__ = ["RecolourConfig", "Recoloured", "check_recolourable", "recolour"]
