"""Paints a head model: skin, lips, brows, eyes, teeth, into a texture in the layout of the model's
uvs.

The image is computed texel by texel from the place of the texel on the template, so that it fits
every identity and expression. FaceMesh takes the result for a face, which is also what the placing
of landmarks relies on.
"""

from __future__ import annotations

import cv2
import numpy as np
from scipy.spatial import KDTree

from likeness.head_models.base import HeadModel
from likeness.head_models.regions import FaceRegions, lip_outline, regions_of, scalp_score
from likeness.head_models.sides import lid_margins
from likeness.renderers.mesh import rasterize
from likeness.synthetic.appearance import Look, to_linear
from likeness.synthetic.noise import lattice_noise, octave_noise, smoothstep

_PLAN = 0.1  # mm per pixel of the frontal plans of lips and brows
_PLAN_SIZE = (1600, 2600)  # pixels in x and y
_PLAN_ORIGIN = np.array([-80.0, 130.0])  # mm at the plan's top-left corner


def paint_texture(model: HeadModel, look: Look, seed: int = 0, size: int = 1024) -> np.ndarray:
    """The painted head: [size, size, 4] uint8, the square root of linear albedo (RGB), and gloss.

    Texel (row, column) lies at uv ((column + 0.5) / size, 1 - (row + 0.5) / size). Islands are
    extended beyond their borders, so that bilinear filtering finds no gaps. Raises UserError when
    the model has no painted regions.
    """
    regions = regions_of(model)
    uv = model.uvs.numpy() * [1, -1] + [0, 1]
    flat = np.concatenate([uv, np.ones((len(uv), 1))], 1).astype(np.float32)
    raster = rasterize(flat, model.uv_faces.numpy(), np.diag([size, size, 1.0]), size, size)
    faces = model.faces.numpy()[raster.face_index[raster.mask]]
    weights = raster.barycentrics[raster.mask]
    points = (model.template.numpy()[faces] * weights[..., None]).sum(1) * 1000
    part = model.face_part.numpy()[raster.face_index[raster.mask]]

    albedo, gloss = (
        np.full((len(points), 3), 0.4, np.float32),
        np.full(len(points), 0.2, np.float32),
    )
    for number, name in enumerate(model.part_names):
        here = part == number
        painted = _PAINTERS[name](model, regions, look, points[here], seed)
        albedo[here], gloss[here] = painted
    texture = np.zeros((size, size, 4), np.uint8)
    texture[raster.mask] = np.round(
        255 * np.clip(np.concatenate([np.sqrt(albedo), gloss[:, None]], 1), 0, 1)
    )
    return _extend(texture, raster.mask)


def skin_tile(look: Look, seed: int, height: int, width: int) -> np.ndarray:
    """Plain skin for neck and chest [height, width, 4], encoded as in ``paint_texture``."""
    rows, columns = np.mgrid[:height, :width]
    points = np.stack([columns, rows, np.zeros_like(rows)], -1).reshape(-1, 3).astype(np.float32)
    shade = (
        1 + 0.035 * octave_noise(points, 60, seed + 3) + 0.02 * lattice_noise(points, 4, seed + 4)
    )
    albedo = to_linear(look.skin) * 0.93 * shade[:, None]
    tile = np.concatenate([np.sqrt(albedo), np.full((len(points), 1), 0.15)], 1)
    return np.round(255 * np.clip(tile, 0, 1)).astype(np.uint8).reshape(height, width, 4)


def _skin(model: HeadModel, regions: FaceRegions, look: Look, p: np.ndarray, seed: int):
    x, y, z = p.T
    albedo = np.repeat(to_linear(look.skin)[None], len(p), 0)
    albedo *= (
        1 + 0.05 * octave_noise(p, 40, seed + 11) + 0.025 * lattice_noise(p, 1.6, seed + 12)
    )[:, None]
    # Blood near the surface: cheeks, tip of the nose, ears, chin.
    red = sum(
        strength
        * np.exp(-(((np.abs(x) - cx) / sx) ** 2) - ((y - cy) / sy) ** 2 - ((z - cz) / 40) ** 2)
        for cx, cy, cz, sx, sy, strength in (
            (46, -38, 5, 17, 17, 1.0),
            (0, -40, 40, 11, 10, 0.8),
            (0, -95, 22, 14, 9, 0.4),
            (78, -10, -80, 9, 30, 0.9),
            (29, 8, 12, 20, 9, 0.35),
            (29, -12, 12, 18, 7, 0.45),
        )
    )
    red = (red * look.redness * (1 + 0.2 * lattice_noise(p, 16, seed + 13)))[:, None]
    albedo *= 1 - np.clip(red, 0, 1.2) * np.array([0.04, 0.22, 0.18], np.float32)
    if look.freckles:
        albedo *= 1 - _freckles(p, look.freckles, seed)[:, None] * np.array(
            [0.25, 0.42, 0.5], np.float32
        )
    albedo = _beard(albedo, regions, look, p, seed)
    gloss = (
        0.22 + 0.16 * np.exp(-((x / 16) ** 2)) * (y > -60) + 0.03 * lattice_noise(p, 3, seed + 14)
    )

    front = smoothstep(-25, 0, z)
    lips = _sample_plan(_lip_plan(regions), p) * front
    crease = (
        1
        + 0.10 * lattice_noise(p * [1, 0.15, 0.3], 1.1, seed + 15)
        + 0.05 * lattice_noise(p, 5, seed + 16)
    )
    rim = 1 - 0.25 * _sample_plan(_lip_gap_plan(regions), p) * front
    albedo = _mix(albedo, to_linear(look.lips) * (crease * rim)[:, None], 0.92 * lips)
    gloss = gloss + 0.45 * lips

    brows = (1 - (1 - _sample_plan(_brow_plan(regions, look, seed), p)) ** 1.8) * front
    albedo = _mix(albedo, to_linear(look.hair) * 0.6, 0.94 * brows)
    albedo *= (1 - _lid_line(model, p))[:, None]
    hair = smoothstep(-4, 9, scalp_score(regions, p) + 2.5 * lattice_noise(p, 3, seed + 17))
    return _mix(albedo, to_linear(look.hair) * 0.7, 0.9 * hair), np.clip(
        gloss * (1 - hair) * (1 - 0.8 * brows), 0, 1
    )


def _beard(albedo, regions: FaceRegions, look: Look, p: np.ndarray, seed: int):
    if not look.stubble:
        return albedo
    x, y, z = p.T
    top = (
        regions.beard_top
        + 30 * smoothstep(35, 62, np.abs(x))
        - 14 * np.exp(-(((np.abs(x) - 30) / 10) ** 2))
    )
    area = smoothstep(3, -6, y - top) * smoothstep(-75, -45, z) * smoothstep(-140, -120, y)
    dots = smoothstep(0.2, 1.6, lattice_noise(p, 1.3, seed + 21))
    cover = look.stubble * area * (0.30 + 0.45 * dots)
    return _mix(albedo, to_linear(look.hair) * 0.9 + to_linear((0.25, 0.25, 0.28)) * 0.4, cover)


def _freckles(p: np.ndarray, count: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed + 31)
    front = np.flatnonzero(p[:, 2] > -20)
    weight = np.exp(-(((p[front, 1] + 28) / 20) ** 2) - (p[front, 0] / 50) ** 2) + 0.02
    centres = p[rng.choice(front, count, p=weight / weight.sum())]
    distance, nearest = KDTree(centres).query(p, distance_upper_bound=3.0)
    radius, strength = rng.uniform(0.5, 1.3, count + 1), rng.uniform(0.3, 1, count + 1)
    return strength[nearest] * smoothstep(1.3, 0.6, distance / radius[nearest])


def _lid_line(model: HeadModel, p: np.ndarray) -> np.ndarray:
    """Darkness [N] of the lashes' roots along the lids' margins."""
    darkness = np.zeros(len(p), np.float32)
    for sign in (-1, 1):
        for margin, width, strength in zip(
            lid_margins(model, sign), (1.5, 1.0), (0.85, 0.40), strict=True
        ):
            distance, _ = KDTree(_densified(model.template.numpy()[margin] * 1000)).query(p)
            darkness = np.maximum(darkness, strength * np.exp(-((distance / width) ** 2)))
    return darkness


def _eyeball(model: HeadModel, regions: FaceRegions, look: Look, p: np.ndarray, seed: int):
    centers = model.joint_centers(model.template).numpy() * 1000
    centre = centers[np.abs(centers - p.mean(0)).sum(1).argmin()]
    d = p - centre
    radius, angle = np.hypot(d[:, 0], d[:, 1]), np.arctan2(d[:, 1], d[:, 0])
    front = d[:, 2] > 0
    around = np.stack([np.cos(angle) * 9, np.sin(angle) * 9, radius * 0.35], 1)
    streaks = octave_noise(around, 1.6, seed + 41, 2)
    veins = smoothstep(
        1.3, 2.2, lattice_noise(np.stack([d[:, 0], d[:, 1] * 2.5, d[:, 2]], 1), 3, seed + 42)
    )
    pink = smoothstep(6, 14, radius)
    white = to_linear((0.86, 0.84, 0.82)) * np.stack(
        [np.ones_like(radius), 1 - 0.22 * pink, 1 - 0.2 * pink], 1
    )
    white = white * (1 - 0.25 * (veins * pink)[:, None] * [0.2, 1, 1])
    iris = (
        to_linear(look.iris)
        * (1.15 + 0.30 * streaks - 0.75 * smoothstep(4.6, 5.9, radius))[:, None]
    )
    iris = _mix(
        iris,
        to_linear(look.iris) * [1.5, 1.1, 0.7],
        0.5 * smoothstep(3.4, 2.0, radius + 0.4 * streaks),
    )
    albedo = _mix(white, np.clip(iris, 0.003, 1), smoothstep(6.1, 5.6, radius) * front)
    albedo = _mix(albedo, np.full(3, 0.004), smoothstep(2.3, 2.0, radius) * front)
    return albedo, np.ones(len(p))


def _teeth(upper: bool):
    def paint(model: HeadModel, regions: FaceRegions, look: Look, p: np.ndarray, seed: int):
        x, y, z = p.T
        along = np.abs(np.arctan2(x, z + 18)) * 34  # millimetres along the dental arch
        gaps = np.array([0, 8.6, 15.2, 22.6, 29.8, 37, 47, 57]) * (1.0 if upper else 0.8)
        nearest = np.abs(along[:, None] - gaps).min(1)
        tooth = 1 - 0.55 * np.exp(-((nearest / 0.45) ** 2))
        white = (
            to_linear((0.88, 0.85, 0.78))
            * (tooth * (1 + 0.02 * lattice_noise(p, 6, seed + 51)))[:, None]
        )
        inward = y - regions.gum_lines[0] if upper else regions.gum_lines[1] - y
        gum = smoothstep(-0.8, 0.8, inward + 1.2 * np.exp(-((nearest / 1.6) ** 2)) - 0.6)
        return _mix(white, to_linear((0.70, 0.36, 0.36)), gum), np.full(len(p), 0.6)

    return paint


def _plain(color: tuple[float, float, float], gloss: float):
    def paint(model: HeadModel, regions: FaceRegions, look: Look, p: np.ndarray, seed: int):
        shade = 1 + 0.10 * octave_noise(p, 8, seed + 61)
        return to_linear(color) * shade[:, None], np.full(len(p), gloss)

    return paint


def _socket(model: HeadModel, regions: FaceRegions, look: Look, p: np.ndarray, seed: int):
    """The inner side of the lids: moist and pink."""
    color = 0.6 * to_linear(look.skin) + 0.4 * to_linear((0.75, 0.42, 0.40))
    return np.repeat(color[None] * 0.8, len(p), 0), np.full(len(p), 0.5)


_PAINTERS = {
    "skin": _skin,
    "eye_left": _eyeball,
    "eye_right": _eyeball,
    "tongue": _plain((0.72, 0.38, 0.38), 0.5),
    "teeth_upper": _teeth(True),
    "teeth_lower": _teeth(False),
    "eye_cavity": _socket,
    "mouth_cavity": _plain((0.50, 0.20, 0.20), 0.4),
}


def _lip_plan(regions: FaceRegions) -> np.ndarray:
    plan = np.zeros(_PLAN_SIZE[::-1], np.uint8)
    cv2.fillPoly(plan, [_to_plan(lip_outline(regions))], (255,))
    return cv2.GaussianBlur(plan, (0, 0), 0.8 / _PLAN)


def _lip_gap_plan(regions: FaceRegions) -> np.ndarray:
    """The edge of the lips, which is a little darker than their middle."""
    plan = np.zeros(_PLAN_SIZE[::-1], np.uint8)
    cv2.polylines(plan, [_to_plan(lip_outline(regions))], True, (255,), round(1.0 / _PLAN))
    return cv2.GaussianBlur(plan, (0, 0), 0.6 / _PLAN)


def _brow_plan(regions: FaceRegions, look: Look, seed: int) -> np.ndarray:
    """Brows drawn hair by hair: upwards near the nose, along the brow further out, towards its
    centre line."""
    rng = np.random.default_rng(seed + 71)
    line = np.array(regions.brow)
    plan = np.zeros(_PLAN_SIZE[::-1], np.uint8)
    for sign in (-1, 1):
        for _ in range(int(420 * look.brow_density)):
            s, across = (
                rng.uniform(0, 1) ** 0.9 * (len(line) - 1.001),
                np.clip(rng.normal(0, 0.5), -1, 1),
            )
            low = int(s)
            root = line[low] + (s - low) * (line[low + 1] - line[low])
            tangent = (line[low + 1] - line[low])[:2]
            along = np.arctan2(tangent[1], tangent[0])
            share = s / (len(line) - 1)
            rise = np.radians(62) * (1 - share) ** 2 + np.radians(14) - across * np.radians(22)
            heading = along + rise + rng.normal(0, 0.12)
            start = root[:2] + across * root[2] * np.array([-np.sin(along), np.cos(along)])
            end = start + rng.uniform(4, 7.5) * (1 - 0.35 * share) * np.array(
                [np.cos(heading), np.sin(heading)]
            )
            segment = _to_plan(np.stack([start, end]) * [sign, 1])
            shade = int(rng.uniform(170, 255))
            ends, width = segment.tolist(), round(0.55 / _PLAN)
            cv2.line(plan, ends[0], ends[1], (shade,), width, cv2.LINE_AA)
    return cv2.GaussianBlur(plan, (0, 0), 0.25 / _PLAN)


def _to_plan(points_mm: np.ndarray) -> np.ndarray:
    return np.round((points_mm - _PLAN_ORIGIN) / [_PLAN, -_PLAN]).astype(np.int32)


def _sample_plan(plan: np.ndarray, p: np.ndarray) -> np.ndarray:
    """The plan's values [N] in [0, 1] in front of points [N, 3]."""
    column, row = ((p[:, :2] - _PLAN_ORIGIN) / [_PLAN, -_PLAN]).astype(np.int64).T
    inside = (column >= 0) & (column < plan.shape[1]) & (row >= 0) & (row < plan.shape[0])
    values = plan[np.where(inside, row, 0), np.where(inside, column, 0)].astype(np.float32) / 255
    return np.where(inside, values, 0)


def _mix(a: np.ndarray, b: np.ndarray, share: np.ndarray) -> np.ndarray:
    return (a + (b - a) * np.asarray(share, np.float32)[:, None]).astype(np.float32)


def _densified(points: np.ndarray, count: int = 12) -> np.ndarray:
    """Points along the polyline through ``points``."""
    steps = np.linspace(0, 1, count, endpoint=False)[None, :, None]
    return (points[:-1, None] * (1 - steps) + points[1:, None] * steps).reshape(-1, 3)


def _extend(texture: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Fills the texels between the islands from the nearest painted one."""
    from scipy.ndimage import distance_transform_edt

    nearest = distance_transform_edt(~mask, return_distances=False, return_indices=True)
    return texture[tuple(np.asarray(nearest))]
