"""Packs the islands of the body's texture atlas anew: the skin large, the face largest, nothing
overlapping.

The skin island is unrolled like a map: the face in the middle, the ears left and right. It is
turned upright, spread over most of the square, and stretched so that the face gets more texels than
the back of the head (a separable,
monotone warp: what did not overlap before does not afterwards). All the other islands stand on two
    shelves below it.
"""

from __future__ import annotations

import numpy as np
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

SKIN_BOTTOM = 0.245  # v where the skin begins; the shelves lie below
PAD = 0.006  # between islands: 6 texels at 1024, so that filtering does not bleed
# The skin's centre of magnification, its width and its strength, per axis, in coordinates of the
# island (0 to 1).
FACE_CENTER, FACE_WIDTH, FACE_GAIN = (0.5, 0.37), (0.15, 0.18), (3.0, 2.0)
SHELVES = (
    (
        0.123,
        0.239,
        "eye_left_front eye_right_front mouth_cavity eye_cavity_left eye_cavity_right neck",
    ),
    (0.006, 0.117, "teeth_upper teeth_lower tongue eye_left_back eye_right_back"),
)  # v of bottom and top, islands from left to right


def pack(
    uvs: np.ndarray, uv_faces: np.ndarray, face_centers: np.ndarray, face_part_names: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """New uvs [U', 2] (only those used) and uv_faces [F, 3].

    uvs [U, 2] and uv_faces [F, 3] are of the body's atlas; face_centers [F, 3] in the head frame
    and the names of the faces' parts [F] tell the islands apart.
    """
    used, compact = np.unique(uv_faces, return_inverse=True)
    uvs, uv_faces = uvs[used], compact.reshape(-1, 3)
    islands = _named_islands(uv_faces, len(uvs), face_centers, face_part_names)
    packed = np.full_like(uvs, np.nan)
    packed[islands["skin"]] = _spread_skin(uvs[islands["skin"]])
    for bottom, top, names in SHELVES:
        left = PAD
        for name in names.split():
            points = uvs[islands[name]]
            low, size = points.min(0), np.ptp(points, axis=0)
            scale = (top - bottom) / size[1]
            packed[islands[name]] = (points - low) * scale + (left, bottom)
            left += size[0] * scale + PAD
        if left > 1:
            raise ValueError(
                f"uv shelf {names}: the islands are {left:.3f} wide, expected at most 1"
            )
    if np.isnan(packed).any():
        raise ValueError("uv atlas: an island has no place on a shelf")
    return packed, uv_faces


def _spread_skin(uvs: np.ndarray) -> np.ndarray:
    # In the atlas the face lies on its side, its crown towards smaller u: a quarter turn puts it
    # upright.
    upright = np.stack([uvs[:, 1], -uvs[:, 0]], -1)
    unit = (upright - upright.min(0)) / np.ptp(upright, axis=0)
    grid = np.linspace(0, 1, 2001)
    for axis in range(2):
        density = 1 + FACE_GAIN[axis] * np.exp(
            -0.5 * ((grid - FACE_CENTER[axis]) / FACE_WIDTH[axis]) ** 2
        )
        warp = np.concatenate([[0], np.cumsum((density[1:] + density[:-1]) / 2)])
        unit[:, axis] = np.interp(unit[:, axis], grid, warp / warp[-1])
    low = np.array([PAD / 2, SKIN_BOTTOM])
    return low + unit * (1 - PAD / 2 - low)


def _named_islands(
    uv_faces: np.ndarray, count: int, centers: np.ndarray, parts: np.ndarray
) -> dict[str, np.ndarray]:
    """The uv indices of each island, by part, side and depth."""
    edges = uv_faces[:, [0, 1, 1, 2]].reshape(-1, 2).T
    graph = coo_matrix((np.ones(edges.shape[1]), edges), shape=(count, count))
    labels = connected_components(graph, directed=False)[1][uv_faces[:, 0]]
    by_part: dict[str, list[np.ndarray]] = {}
    for label in np.unique(labels):
        faces = np.flatnonzero(labels == label)
        by_part.setdefault(str(parts[faces[0]]), []).append(faces)
    named: dict[str, np.ndarray] = {}
    for part, islands in by_part.items():
        if part in ("eye_left", "eye_right"):
            islands.sort(key=lambda faces: -centers[faces, 2].mean())
            names = [f"{part}_front", f"{part}_back"]
        elif part == "eye_cavity":
            islands.sort(key=lambda faces: -centers[faces, 0].mean())
            names = ["eye_cavity_left", "eye_cavity_right"]
        elif part == "skin":
            islands.sort(key=len, reverse=True)
            names = ["skin", "neck"]
        else:
            names = [part]
        named |= {
            name: np.unique(uv_faces[faces]) for name, faces in zip(names, islands, strict=True)
        }
    return named
