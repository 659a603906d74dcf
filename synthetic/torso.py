"""Neck, shoulders and shirt of a synthetic subject. The shoulders stand still in the body frame;
the neck joins them to the head's lower border, wherever that is.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from likeness.synthetic.appearance import Look, to_linear
from likeness.synthetic.noise import lattice_noise, octave_noise

_NECK_RINGS = 9
_COLUMNS = 64
# Sections of the trunk below the chest's collar, in mm: height, half width, half depth, depth of
# the centre, roundness (2: an ellipse, more: boxier). Heights are relative to the lowest point of
# the head's border, depths to its middle.
_TRUNK = np.array(
    [
        [-14.0, 70, 66, -6, 2.0],
        [-23, 86, 72, -7, 2.0],
        [-32, 112, 78, -8, 2.0],
        [-42, 142, 84, -8, 2.1],
        [-56, 172, 90, -6, 2.3],
        [-78, 194, 97, -2, 2.5],
        [-112, 208, 105, 3, 2.6],
        [-160, 214, 114, 8, 2.6],
        [-230, 212, 120, 11, 2.6],
        [-340, 206, 118, 11, 2.6],
    ]
)


@dataclasses.dataclass(frozen=True)
class Torso:
    """Neck and trunk. Lengths in metres.

    border: [R] indices of the head's lower border, in order around the neck.
    neck_faces: [F, 3] over the head's border ``0..R-1`` followed by the neck's own vertices.
    neck_uv: [F, 3, 2] in a tile of [0, 1]².
    base: [R, 3] where the neck ends, in the body frame.
    trunk: [V, 3] in the body frame; trunk_faces: [F, 3]; trunk_uv: [F, 3, 2] in a tile of [0, 1]².
    """

    border: np.ndarray
    neck_faces: np.ndarray
    neck_uv: np.ndarray
    base: np.ndarray
    trunk: np.ndarray
    trunk_faces: np.ndarray
    trunk_uv: np.ndarray

    def neck(self, border_body: np.ndarray, down_body: np.ndarray) -> np.ndarray:
        """The neck's own vertices [(rings - 1) * R, 3] between the head's border [R, 3] and the
        base.

        Everything in the body frame; down_body: [3] the direction in which the head's border
        continues. Cubic
        Hermite curves: they leave the head along its own direction and enter the shoulders straight
            down.
        """
        reach = np.linalg.norm(self.base - border_body, axis=1, keepdims=True)
        start = down_body * reach
        outward = self.base - self.base.mean(0)
        outward[:, 1] = 0
        end = (
            np.array([0, -0.9, 0]) + 0.6 * outward / np.linalg.norm(outward, axis=1, keepdims=True)
        ) * reach
        t = np.linspace(0, 1, _NECK_RINGS)[1:, None, None]
        t2, t3 = t * t, t * t * t
        curve = (2 * t3 - 3 * t2 + 1) * border_body + (t3 - 2 * t2 + t) * start
        curve = curve + (3 * t2 - 2 * t3) * self.base + (t3 - t2) * end
        return curve.reshape(-1, 3)


def build_torso(vertices: np.ndarray, faces: np.ndarray, seed: int) -> Torso:
    """Fits neck and trunk to a neutral head: vertices [V, 3] metres in the head frame, faces [F,
    3]."""
    border = _border_loop(vertices, faces)
    ring = vertices[border]
    centre, size = ring.mean(0), len(border)
    angle = np.arctan2(ring[:, 0] - centre[0], ring[:, 2] - centre[2])
    half_width = min(np.abs(ring[:, 0] - centre[0]).max() * 1.3, 0.066)
    lowest = ring[:, 1].min()
    base = np.stack(
        [
            half_width * np.sin(angle),
            lowest - 0.038 - 0.008 * np.cos(angle),
            centre[2] - 0.006 + 0.93 * half_width * np.cos(angle),
        ],
        1,
    )
    neck_faces, neck_uv = _tube(_NECK_RINGS, size, closed=True)
    trunk, trunk_faces, trunk_uv = _trunk(seed)
    trunk = trunk + [0, lowest, centre[2]]  # sections are drawn about the neck
    return Torso(border, neck_faces, neck_uv, base, trunk, trunk_faces, trunk_uv)


def _trunk(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The shirt: a collar, shoulders and chest, with a few folds."""
    rows = np.linspace(0, len(_TRUNK) - 1, 46)
    sections = np.stack([np.interp(rows, np.arange(len(_TRUNK)), column) for column in _TRUNK.T], 1)
    angle = np.linspace(-np.pi, np.pi, _COLUMNS + 1)  # the seam is at the back
    points = []
    for height, a, b, z, power in sections:
        s, c = np.sin(angle), np.cos(angle)
        x = a * np.sign(s) * np.abs(s) ** (2 / power)
        depth = b * np.sign(c) * np.abs(c) ** (2 / power)
        # The collar dips at the throat; the shoulders slope.
        dip = 16 * np.exp(-((height + 14) ** 2) / 500) * np.maximum(c, 0) ** 2
        points.append(np.stack([x, np.full_like(x, height) - dip, z + depth], 1))
    collar = np.stack([points[0] * [0.97, 1, 0.97] + [0, dy, -2.8] for dy in (-10.0, 0.0, 2.5)])
    grid = np.concatenate([collar, points])
    flat = grid.reshape(-1, 3)
    folds = (
        2.2
        * octave_noise(flat * [1, 0.35, 1], 90, seed + 81, 2)
        * np.clip((-22 - flat[:, 1]) / 40, 0, 1)
    )
    outward = flat.copy()
    outward[:, 1] = 0
    flat = flat + folds[:, None] * outward / np.linalg.norm(outward, axis=1, keepdims=True)
    flat.reshape(grid.shape)[:, -1] = flat.reshape(grid.shape)[:, 0]
    faces, uv = _tube(len(grid), _COLUMNS + 1, closed=False)
    return flat / 1000, faces, uv


def cloth_tile(look: Look, seed: int, height: int, width: int) -> np.ndarray:
    """The shirt's texture [height, width, 4]: weave, stripes; encoded as in ``paint_texture``."""
    rows, columns = np.mgrid[:height, :width].astype(np.float32)
    points = np.stack([columns.ravel(), rows.ravel() * 1.5, np.zeros(rows.size)], 1)
    shade = (
        1 + 0.05 * octave_noise(points, 40, seed + 91) + 0.05 * lattice_noise(points, 3, seed + 92)
    )
    albedo = to_linear(look.shirt)[None] * shade[:, None]
    if look.stripes:
        albedo = np.where(
            ((rows.ravel() * 46 / height) % 3.2 < 0.8)[:, None], 0.55 + 0.3 * albedo, albedo
        )
    band = rows.ravel() < height * 3.2 / 48
    albedo = np.where(band[:, None], albedo * 0.75, albedo)
    tile = np.concatenate([np.sqrt(np.clip(albedo, 0, 1)), np.zeros((len(points), 1))], 1)
    return np.round(255 * tile).astype(np.uint8).reshape(height, width, 4)


def _tube(rings: int, columns: int, closed: bool) -> tuple[np.ndarray, np.ndarray]:
    """Triangles and their uvs of a grid rings × columns; ``closed`` joins the last column to the
    first."""
    steps = np.arange(columns if closed else columns - 1)
    upper = np.arange(rings - 1)[:, None] * columns
    a, b = upper + steps, upper + (steps + 1) % columns
    quads = np.stack([a, b, b + columns, a + columns], -1).reshape(-1, 4)
    u0, u1 = steps / len(steps), (steps + 1) / len(steps)
    v = 1 - np.arange(rings) / (rings - 1)
    top, bottom = np.broadcast_arrays(v[:-1, None], u0)[0], np.broadcast_arrays(v[1:, None], u0)[0]
    left, right = np.broadcast_to(u0, top.shape), np.broadcast_to(u1, top.shape)
    corners = [(left, top), (right, top), (right, bottom), (left, bottom)]
    uv = np.stack([np.stack(corner, -1) for corner in corners], -2).reshape(-1, 4, 2)
    order = ([0, 2, 1], [0, 3, 2])
    return np.concatenate([quads[:, o] for o in order]), np.concatenate(
        [uv[:, o] for o in order]
    ).astype(np.float32)


def _border_loop(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """The open border of the mesh with the most vertices, in order, from the front towards the
    subject's left."""
    edges = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    _, first, count = np.unique(np.sort(edges, 1), axis=0, return_index=True, return_counts=True)
    follow = dict(edges[first[count == 1]].tolist())
    loops = []
    while follow:
        start = next(iter(follow))
        loop = [start]
        while (after := follow.pop(loop[-1], start)) != start:
            loop.append(after)
        loops.append(loop)
    loop = np.array(max(loops, key=len))
    loop = np.roll(loop, -int(vertices[loop, 2].argmax()))
    return loop if vertices[loop[len(loop) // 4], 0] > 0 else np.roll(loop[::-1], 1)
