"""How a synthetic subject moves: the head turns, the mouth speaks and smiles, eyes blink and look
about.

Smooth curves in ARKit's 52 names, drawn from a seed. The shoulders stand still.
"""

from __future__ import annotations

import numpy as np
import torch

from likeness.head_models.base import HeadModel
from likeness.scene.head_state import HeadState
from likeness.scene.transforms import make_transform, rotvecs_to_matrices, rotvecs_to_quats

# Strengths at the middle of a sound.
VISEMES: dict[str, dict[str, float]] = {
    "ah": {"jawOpen": 0.52, "mouthLowerDown": 0.25, "mouthUpperUp": 0.15},
    "eh": {"jawOpen": 0.26, "mouthStretch": 0.35, "mouthLowerDown": 0.2, "mouthSmile": 0.12},
    "oh": {"jawOpen": 0.34, "mouthFunnel": 0.60},
    "oo": {"jawOpen": 0.14, "mouthPucker": 0.75, "mouthFunnel": 0.15},
    "m": {"jawOpen": 0.02, "mouthPress": 0.45, "mouthRollLower": 0.15},
    "f": {"jawOpen": 0.08, "mouthRollLower": 0.45, "mouthUpperUp": 0.22},
    "l": {"jawOpen": 0.22, "mouthLowerDown": 0.3, "mouthUpperUp": 0.1},
}
GRIMACES: dict[str, dict[str, float]] = {
    "disgust": {"noseSneer": 0.9, "browDown": 0.8, "mouthUpperUp": 0.6, "eyeSquint": 0.6},
    "fright": {
        "eyeWide": 0.9,
        "browInnerUp": 0.9,
        "browOuterUp": 0.7,
        "mouthStretch": 0.8,
        "jawOpen": 0.5,
    },
    "kiss": {"mouthPucker": 0.9, "cheekPuff": 0.4, "browDown": 0.3},
    "roar": {
        "jawOpen": 0.9,
        "mouthLowerDown": 0.7,
        "mouthUpperUp": 0.6,
        "noseSneer": 0.6,
        "browDown": 0.6,
    },
    "sulk": {"mouthFrown": 0.8, "mouthShrugLower": 0.7, "browInnerUp": 0.6},
    "skew": {"mouthLeft": 0.7, "jawLeft": 0.5, "cheekSquint": 0.6},
}
_NECK = (0.0, -0.105, -0.085)  # the point about which the head turns, in the head frame
# horizontal and vertical angle at which an eyeLook curve is 1
_EYE_RANGE = np.radians([30.0, 25.0])


def make_motion(
    model: HeadModel,
    frames: int,
    fps: float,
    distance: float,
    height: float,
    seed: int,
    grimaces: float = 0.0,
) -> HeadState:
    """States [T] in the world of a camera at the origin (OpenCV axes).

    distance: metres from the camera to the eyes at rest; height: metres of the eyes at rest above
        the camera's axis.
    grimaces: their strength, 0 to 1.
    Yaw covers ±25° in clips of 6 s or more, pitch ±11°, roll ±7°.
    """
    rng = np.random.default_rng((seed, 2))
    t = np.arange(frames) / fps
    curves = _Curves(model.expression_names, t, rng)
    curves.speak()
    curves.emote()
    curves.blink()
    yaw, pitch, roll, translation = _head_curves(t, rng, curves.voice)
    gaze = _gaze(t, rng, yaw, pitch)
    curves.look(gaze)
    if grimaces > 0:
        curves.grimace(grimaces, np.random.default_rng((seed, 7)))

    angles = torch.from_numpy(np.stack([pitch, yaw, roll], 1)).float()
    axes = torch.eye(3)
    about = [rotvecs_to_matrices(angles[:, k : k + 1] * axes[k]) for k in range(3)]
    rotation = about[1] @ about[0] @ about[2]
    neck = torch.tensor(_NECK)
    motion = make_transform(
        rotation, neck - rotation @ neck + torch.from_numpy(translation).float()
    )
    rest = torch.diag(torch.tensor([1.0, -1.0, -1.0, 1.0]))
    rest[:3, 3] = torch.tensor([0.0, -height, distance])
    eye_vectors = np.stack([-gaze[:, 1], gaze[:, 0], np.zeros(frames)], 1)
    joints = rotvecs_to_quats(torch.from_numpy(eye_vectors).float())[:, None].expand(
        -1, len(model.joint_names), -1
    )
    expression = torch.from_numpy(np.clip(curves.values, 0, 1)).float()
    return HeadState(
        expression, joints.contiguous(), rest @ motion, rest.expand(frames, 4, 4).contiguous()
    )


def _head_curves(t: np.ndarray, rng: np.random.Generator, voice: np.ndarray):
    """Yaw, pitch, roll [T] in radians and translation [T, 3] in metres."""

    def wave(*terms: tuple[float, float]) -> np.ndarray:
        phases = rng.uniform(0, 2 * np.pi, len(terms))
        waves = [
            a * np.sin(2 * np.pi * t / period + phase)
            for (a, period), phase in zip(terms, phases, strict=True)
        ]
        return np.sum(waves, 0)

    yaw = wave((20, 5.7), (6, 2.3), (1, 0.9))
    yaw = 25 * np.tanh(1.15 * yaw / 25) / np.tanh(1.15)
    pitch = wave((6.5, 4.3), (3, 1.7)) + 2.0 * voice * np.sin(2 * np.pi * t / 0.8)
    roll = wave((4.5, 5.1), (2, 2.1))
    translation = np.stack(
        [wave((0.010, 6.1), (0.003, 2.2)), wave((0.004, 3.9)), wave((0.010, 5.3), (0.003, 2.7))], 1
    )
    return np.radians(np.clip(yaw, -25, 25)), np.radians(pitch), np.radians(roll), translation


def _gaze(
    t: np.ndarray, rng: np.random.Generator, yaw: np.ndarray, pitch: np.ndarray
) -> np.ndarray:
    """Angles of the eyes in the head [T, 2] in radians: towards the subject's left, upwards. Mostly
    at the camera."""
    target, start = np.zeros((len(t), 2)), 0.0
    while start < t[-1] + 1e-9:
        length = rng.uniform(0.4, 1.6)
        at_camera = rng.random() < 0.5
        place = np.zeros(2) if at_camera else np.radians(rng.normal(0, [9, 4]))
        target[(t >= start) & (t < start + length)] = place
        start += length
    target -= 0.75 * np.stack([yaw, -pitch], 1)
    padded = np.pad(target, ((1, 1), (0, 0)), mode="edge")
    smooth = 0.25 * padded[:-2] + 0.5 * padded[1:-1] + 0.25 * padded[2:]
    return np.clip(smooth, -np.radians([26, 16]), np.radians([26, 16]))


class _Curves:
    """Expression curves [T, E] under construction; a name without Left or Right means both
    sides."""

    def __init__(self, names: tuple[str, ...], t: np.ndarray, rng: np.random.Generator) -> None:
        self.names, self.t, self.rng = names, t, rng
        self.values = np.zeros((len(t), len(names)))
        self.voice = np.zeros(len(t))

    def add(self, name: str, curve: np.ndarray, limit: bool = False) -> None:
        """Adds to a curve, or takes the larger of both (``limit``)."""
        for side in ("", "Left", "Right"):
            if name + side in self.names:
                column = self.values[:, self.names.index(name + side)]
                strength = 1.0 if not side else self.rng.uniform(0.9, 1.1)
                column[:] = (
                    np.maximum(column, curve * strength) if limit else column + curve * strength
                )

    def bump(self, centre: float, rise: float, hold: float, fall: float) -> np.ndarray:
        """0, smoothly up to 1 within ``rise`` seconds, held around ``centre``, and down again."""
        up = np.clip((self.t - (centre - hold / 2 - rise)) / rise, 0, 1)
        down = np.clip(((centre + hold / 2 + fall) - self.t) / fall, 0, 1)
        return (up * up * (3 - 2 * up)) * (down * down * (3 - 2 * down))

    def speak(self) -> None:
        """Phrases of syllables with pauses between them."""
        rng, end = self.rng, self.t[-1] + 0.5
        now = rng.uniform(0, 0.4)
        while now < end:
            stop = now + rng.uniform(1.6, 3.2)
            self.voice = np.maximum(self.voice, self.bump((now + stop) / 2, 0.2, stop - now, 0.2))
            while now < stop:
                length = rng.uniform(0.16, 0.30)
                sound = VISEMES[list(VISEMES)[rng.integers(len(VISEMES))]]
                shape = self.bump(now, 0.75 * length, 0.15 * length, 0.85 * length) * rng.uniform(
                    0.7, 1.2
                )
                for name, strength in sound.items():
                    self.add(name, strength * shape)
                now += length
            now += rng.uniform(0.4, 1.0)

    def emote(self) -> None:
        """Smiles, raised and lowered brows, and now and then something else."""
        rng, end = self.rng, self.t[-1] + 1
        now = rng.uniform(0.3, 1.5)
        while now < end:
            shape = rng.uniform(0.55, 0.95) * self.bump(now + 0.8, 0.45, rng.uniform(0.5, 1.4), 0.6)
            smile = (
                ("mouthSmile", 1.0),
                ("cheekSquint", 0.45),
                ("eyeSquint", 0.3),
                ("mouthDimple", 0.2),
            )
            for name, strength in smile:
                self.add(name, strength * shape, limit=True)
            now += rng.uniform(2.6, 4.2)
        now = rng.uniform(0.2, 1.2)
        while now < end:
            shape = rng.uniform(0.5, 1.0) * self.bump(now + 0.4, 0.25, rng.uniform(0.2, 0.7), 0.35)
            if rng.random() < 0.7:
                for name, strength in (
                    ("browInnerUp", 0.8),
                    ("browOuterUp", 0.8),
                    ("eyeWide", 0.3),
                ):
                    self.add(name, strength * shape, limit=True)
            else:
                for name, strength in (("browDown", 0.8), ("eyeSquint", 0.3), ("noseSneer", 0.2)):
                    self.add(name, strength * shape, limit=True)
            now += rng.uniform(1.4, 2.6)
        now = rng.uniform(1, 3)
        while now < end:
            name = (
                "mouthLeft",
                "mouthRight",
                "mouthFrown",
                "cheekPuff",
                "mouthShrugLower",
                "jawLeft",
            )[rng.integers(6)]
            self.add(name, rng.uniform(0.3, 0.6) * self.bump(now, 0.3, 0.3, 0.3), limit=True)
            now += rng.uniform(2, 4)

    def grimace(self, strength: float, rng: np.random.Generator) -> None:
        """A whole face pulled, every three seconds or so; by a generator of its own, so that the
        rest stays."""
        now = rng.uniform(0.5, 2)
        while now < self.t[-1] + 1:
            shape = (
                strength * rng.uniform(0.7, 1.0) * self.bump(now, 0.35, rng.uniform(0.2, 0.8), 0.4)
            )
            for name, part in GRIMACES[list(GRIMACES)[rng.integers(len(GRIMACES))]].items():
                self.add(name, part * shape, limit=True)
            now += rng.uniform(2.2, 4.0)

    def blink(self) -> None:
        """A blink every two or three seconds, closed for about two frames."""
        now = self.rng.uniform(0.3, 1.2)
        while now < self.t[-1] + 0.5:
            self.add("eyeBlink", 1.1 * self.bump(now, 0.09, 0.06, 0.14), limit=True)
            now += self.rng.uniform(1.5, 3.4)

    def look(self, gaze: np.ndarray) -> None:
        """The lids' part in a gaze [T, 2]."""
        for side, outwards in (("Left", 1.0), ("Right", -1.0)):
            across, up = outwards * gaze[:, 0] / _EYE_RANGE[0], gaze[:, 1] / _EYE_RANGE[1]
            for name, curve in (("Out", across), ("In", -across), ("Up", up), ("Down", -up)):
                if f"eyeLook{name}{side}" in self.names:
                    self.values[:, self.names.index(f"eyeLook{name}{side}")] = np.maximum(curve, 0)
