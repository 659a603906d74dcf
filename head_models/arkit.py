"""The 52 blend shapes of Apple's ARKit, in the order of its documentation. Left and right are the
subject's."""

from __future__ import annotations

_EYE = ("Blink", "LookDown", "LookIn", "LookOut", "LookUp", "Squint", "Wide")

ARKIT_EXPRESSIONS: tuple[str, ...] = (
    *(f"eye{action}Left" for action in _EYE),
    *(f"eye{action}Right" for action in _EYE),
    "jawForward",
    "jawLeft",
    "jawRight",
    "jawOpen",
    "mouthClose",
    "mouthFunnel",
    "mouthPucker",
    "mouthLeft",
    "mouthRight",
    "mouthSmileLeft",
    "mouthSmileRight",
    "mouthFrownLeft",
    "mouthFrownRight",
    "mouthDimpleLeft",
    "mouthDimpleRight",
    "mouthStretchLeft",
    "mouthStretchRight",
    "mouthRollLower",
    "mouthRollUpper",
    "mouthShrugLower",
    "mouthShrugUpper",
    "mouthPressLeft",
    "mouthPressRight",
    "mouthLowerDownLeft",
    "mouthLowerDownRight",
    "mouthUpperUpLeft",
    "mouthUpperUpRight",
    "browDownLeft",
    "browDownRight",
    "browInnerUp",
    "browOuterUpLeft",
    "browOuterUpRight",
    "cheekPuff",
    "cheekSquintLeft",
    "cheekSquintRight",
    "noseSneerLeft",
    "noseSneerRight",
    "tongueOut",
)


def mirrored_expression(name: str) -> str:
    """The name of the same expression on the other side of the face (itself when it has no
    side)."""
    for here, there in (("Left", "Right"), ("Right", "Left")):
        if name.endswith(here):
            return name.removesuffix(here) + there
    return name
