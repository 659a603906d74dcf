"""All expressions of an avatar on one sheet: each at half and at full strength.

    python tools/expression_sheet.py RUN_OR_BUNDLE sheet.png
    python tools/expression_sheet.py RUN_OR_BUNDLE sheet.png --size 160 --strengths 0.5 1.0

The neutral face comes first. Expressions of gaze turn the eyes, too, and one that closes lips over
an open jaw opens the jaw. The camera is the avatar's own, cut to the head.
"""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path

import numpy as np
import torch

from likeness.fitting.bundle import AvatarBundle
from likeness.fitting.images import to_uint8
from likeness.head_models import HEAD_MODELS
from likeness.playback.bundles import load_bundle
from likeness.playback.player import Player
from likeness.playback.poses import eye_joints
from likeness.scene.camera import Camera
from likeness.scene.gaze import gaze_angles
from likeness.scene.head_state import HeadState
from likeness.scene.image_files import save_rgb

# the head's corners in the head frame, metres
_LEFT, _RIGHT, _TOP, _BOTTOM = -0.08, 0.08, 0.06, -0.12
_TEXT = 16
BORDER = 3, 5  # pixels below and beside an expression


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("avatar", type=Path, help="a run, or its bundle")
    add("sheet", type=Path, help="the picture that is written")
    add("--size", type=int, default=128, metavar="PIXELS", help="side of a tile [128]")
    add("--columns", type=int, default=6, metavar="N", help="expressions in a row [6]")
    add("--strengths", type=float, nargs="+", default=[0.5, 1.0], help="coefficients [0.5 1.0]")
    args = parser.parse_args()
    bundle = load_bundle(args.avatar)
    save_rgb(args.sheet, sheet(bundle, args.strengths, args.size, args.columns))


def sheet(
    bundle: AvatarBundle, strengths: list[float], size: int = 128, columns: int = 6
) -> np.ndarray:
    """The picture [H, W, 3] uint8: a row of tiles of ``size`` pixels for each expression, its name
    below."""
    player, camera = Player(bundle), head_camera(bundle, size)
    white, names = torch.ones(3), bundle.expression_names

    def image(state: HeadState) -> np.ndarray:
        return to_uint8(player.step(state, camera, white).rgb)

    cells = [_cell("neutral", [image(bundle.default_state)] * len(strengths))]
    for index, name in enumerate(names):
        cells.append(_cell(name, [image(posed(bundle, index, s)) for s in strengths]))
    blank = np.full_like(cells[0], 255)
    cells += [blank] * (-len(cells) % columns)
    rows = [np.concatenate(cells[k : k + columns], 1) for k in range(0, len(cells), columns)]
    return np.concatenate(rows, 0)


def posed(bundle: AvatarBundle, index: int, strength: float) -> HeadState:
    """The neutral head with one expression, and with what that acts upon."""
    state, names = bundle.default_state, bundle.expression_names
    expression = torch.zeros_like(state.expression)
    expression[index] = strength
    for capped, by in HEAD_MODELS[bundle.head_model]().caps:
        if names[index] == capped and by in names:
            expression[names.index(by)] = strength
    joints = eye_joints(bundle, gaze_angles(expression[None], names)[0])
    return dataclasses.replace(state, expression=expression, joints=joints)


def head_camera(bundle: AvatarBundle, size: int) -> Camera:
    """The bundle's camera cut to the resting head, ``size`` pixels wide and high."""
    camera, pose = bundle.default_camera, bundle.default_state.T_world_head
    corners = torch.tensor(
        [[x, y, 0.0] for x in (_LEFT, _RIGHT) for y in (_TOP, _BOTTOM)], dtype=pose.dtype
    )
    pixels, _ = camera.in_frame(pose).project(corners)
    low, high = pixels.amin(0), pixels.amax(0)
    side, middle = float((high - low).max()), (low + high) / 2
    scale = size / side
    K = camera.K.clone()
    K[0, 2] -= middle[0] - side / 2
    K[1, 2] -= middle[1] - side / 2
    K[:2] *= scale
    return dataclasses.replace(camera, K=K, width=size, height=size)


def _cell(name: str, images: list[np.ndarray]) -> np.ndarray:
    import cv2

    tiles = np.concatenate(images, 1)
    strip = np.full((_TEXT, tiles.shape[1], 3), 255, np.uint8)
    font, place = cv2.FONT_HERSHEY_SIMPLEX, (3, _TEXT - 5)
    cv2.putText(strip, name, place, font, 0.38, (0, 0, 0), 1, cv2.LINE_AA)
    cell = np.concatenate([tiles, strip], 0)
    below, beside = BORDER
    return np.pad(cell, ((0, below), (0, beside), (0, 0)), constant_values=255)


if __name__ == "__main__":
    main()
