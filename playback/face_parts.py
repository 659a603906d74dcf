"""The 52 ARKit expressions by parts of the face, under names that people know."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence


@dataclasses.dataclass(frozen=True)
class Control:
    """One expression as a person sees it: its position in the avatar's list, its ARKit name, and a
    label."""

    index: int
    name: str
    label: str


# Left and right are the person's own. The order within a part is that of the sliders.
FACE_PARTS: dict[str, dict[str, str]] = {
    "Eyes": {
        "eyeBlinkLeft": "Close left eye",
        "eyeBlinkRight": "Close right eye",
        "eyeWideLeft": "Widen left eye",
        "eyeWideRight": "Widen right eye",
        "eyeSquintLeft": "Squint left",
        "eyeSquintRight": "Squint right",
    },
    "Gaze": {
        "eyeLookUpLeft": "Left eye up",
        "eyeLookUpRight": "Right eye up",
        "eyeLookDownLeft": "Left eye down",
        "eyeLookDownRight": "Right eye down",
        "eyeLookInLeft": "Left eye inwards",
        "eyeLookInRight": "Right eye inwards",
        "eyeLookOutLeft": "Left eye outwards",
        "eyeLookOutRight": "Right eye outwards",
    },
    "Brows": {
        "browInnerUp": "Raise inner brows",
        "browOuterUpLeft": "Raise left brow",
        "browOuterUpRight": "Raise right brow",
        "browDownLeft": "Lower left brow",
        "browDownRight": "Lower right brow",
    },
    "Nose and cheeks": {
        "noseSneerLeft": "Wrinkle nose left",
        "noseSneerRight": "Wrinkle nose right",
        "cheekPuff": "Puff cheeks",
        "cheekSquintLeft": "Lift left cheek",
        "cheekSquintRight": "Lift right cheek",
    },
    "Jaw and tongue": {
        "jawOpen": "Open jaw",
        "jawForward": "Jaw forward",
        "jawLeft": "Jaw left",
        "jawRight": "Jaw right",
        "mouthClose": "Close lips over open jaw",
        "tongueOut": "Tongue out",
    },
    "Smile and frown": {
        "mouthSmileLeft": "Smile left",
        "mouthSmileRight": "Smile right",
        "mouthFrownLeft": "Frown left",
        "mouthFrownRight": "Frown right",
        "mouthDimpleLeft": "Dimple left",
        "mouthDimpleRight": "Dimple right",
        "mouthStretchLeft": "Stretch mouth left",
        "mouthStretchRight": "Stretch mouth right",
    },
    "Lips": {
        "mouthPucker": "Pucker (kiss)",
        "mouthFunnel": "Funnel (oh)",
        "mouthLeft": "Mouth left",
        "mouthRight": "Mouth right",
        "mouthUpperUpLeft": "Raise upper lip left",
        "mouthUpperUpRight": "Raise upper lip right",
        "mouthLowerDownLeft": "Lower lower lip left",
        "mouthLowerDownRight": "Lower lower lip right",
        "mouthRollUpper": "Roll upper lip in",
        "mouthRollLower": "Roll lower lip in",
        "mouthShrugUpper": "Push upper lip up",
        "mouthShrugLower": "Push lower lip up",
        "mouthPressLeft": "Press lips left",
        "mouthPressRight": "Press lips right",
    },
}
OTHER = "Other"


def grouped(names: Sequence[str]) -> dict[str, list[Control]]:
    """The controls of an avatar's expressions by face part; what is no ARKit name comes last, under
    its own name."""
    positions = {name: index for index, name in enumerate(names)}
    parts = {
        part: [
            Control(positions[name], name, label)
            for name, label in labels.items()
            if name in positions
        ]
        for part, labels in FACE_PARTS.items()
    }
    known = {name for labels in FACE_PARTS.values() for name in labels}
    parts[OTHER] = [
        Control(index, name, name) for name, index in positions.items() if name not in known
    ]
    return {part: controls for part, controls in parts.items() if controls}
