"""ARKit's 52 expressions by part of the face, with names that people know. Left and right are the subject's."""

from __future__ import annotations

from typing import Any

_SIDES = ("Left", "Right")
_GROUPS: dict[str, dict[str, str]] = {
    "Eyes": {
        "eyeBlink*": "Blink", "eyeSquint*": "Squint", "eyeWide*": "Open wide", "eyeLookUp*": "Look up",
        "eyeLookDown*": "Look down", "eyeLookIn*": "Look to the nose", "eyeLookOut*": "Look outwards",
    },
    "Brows": {
        "browInnerUp": "Inner brows up", "browOuterUp*": "Outer brow up", "browDown*": "Brow down",
    },
    "Jaw": {
        "jawOpen": "Open", "jawForward": "Forward", "jawLeft": "To the left", "jawRight": "To the right",
    },
    "Mouth": {
        "mouthSmile*": "Smile", "mouthFrown*": "Corner down", "mouthPucker": "Kiss", "mouthFunnel": "Funnel (oh)",
        "mouthClose": "Lips closed", "mouthLeft": "To the left", "mouthRight": "To the right",
        "mouthStretch*": "Stretch", "mouthDimple*": "Dimple", "mouthPress*": "Press", "mouthUpperUp*": "Upper lip up",
        "mouthLowerDown*": "Lower lip down", "mouthRollUpper": "Roll upper lip in",
        "mouthRollLower": "Roll lower lip in", "mouthShrugUpper": "Raise upper lip",
        "mouthShrugLower": "Raise lower lip", "tongueOut": "Tongue out",
    },
    "Cheeks and nose": {
        "cheekPuff": "Puff cheeks", "cheekSquint*": "Raise cheek", "noseSneer*": "Wrinkle nose",
    },
}  # fmt: skip


def grouped(names: tuple[str, ...]) -> list[dict[str, Any]]:
    """Groups of an avatar's expressions: ``{"name", "items": [{"name", "label"}]}``; others come under "Other"."""
    groups, left = [], list(names)
    for group, patterns in _GROUPS.items():
        items = []
        for pattern, label in patterns.items():
            for name, shown in _both(pattern, label):
                if name in left:
                    items.append({"name": name, "label": shown})
                    left.remove(name)
        if items:
            groups.append({"name": group, "items": items})
    if left:
        groups.append({"name": "Other", "items": [{"name": name, "label": name} for name in left]})
    return groups


def _both(pattern: str, label: str) -> list[tuple[str, str]]:
    if "*" not in pattern:
        return [(pattern, label)]
    return [(pattern.replace("*", side), f"{label}, {side.lower()}") for side in _SIDES]
