"""Compiled loops that draw a synthetic subject: strands of hair to ribbons, and the light on every
sample.

Import this module lazily: it loads numba. The kernels hold no lock, so that frames can be drawn by
several threads.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from likeness.ops.compilation import AS_WRITTEN, helper, kernel

SKIN, EYE, WET, CLOTH, HAIR = range(5)  # materials


class Surfaces(NamedTuple):
    """What is drawn; faces [F, 3] from len(material) on are strands.

    corner_uv: [F, 3, 2]; material: [F]; vertices, normals: [V, 3] in the camera frame (of strands:
    tangents); occlusion: [V] open sky, 0 to 1; texture: [TH, TW, 4] uint8; strand_colors: [S, 3]
    linear, of strands with as many vertices each.
    """

    faces: np.ndarray
    corner_uv: np.ndarray
    material: np.ndarray
    vertices: np.ndarray
    normals: np.ndarray
    occlusion: np.ndarray
    texture: np.ndarray
    strand_colors: np.ndarray
    vertices_per_strand: int


class Lights(NamedTuple):
    """lamp, fill, up: [3] unit vectors of the camera frame; strengths: lamp, fill, sky, floor;
    from_cam: [3 or 4, 4] from the camera to the lamp, whose depth map is ``shadow`` [S, S] with
    (focal length, centre) K [2]."""

    lamp: np.ndarray
    fill: np.ndarray
    up: np.ndarray
    strengths: np.ndarray
    from_cam: np.ndarray
    K: np.ndarray
    shadow: np.ndarray


@helper(AS_WRITTEN)
def _dot(a, b):
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


@helper(AS_WRITTEN)
def _scale_to_unit(v):
    scale = np.float32(1) / (np.sqrt(_dot(v, v)) + np.float32(1e-9))
    for k in range(3):
        v[k] *= scale


@helper(AS_WRITTEN)
def _interpolate(values, face, weights, out):
    """The values [V, 3] of a face's corners by barycentric weights [3] into ``out`` [3]."""
    for k in range(3):
        out[k] = (
            weights[0] * values[face[0], k]
            + weights[1] * values[face[1], k]
            + weights[2] * values[face[2], k]
        )


@kernel(AS_WRITTEN)
def ribbons_kernel(points, widths, thinnest, vertices, tangents):
    """Strands [S, P, 3] in the camera frame to ribbons that face the camera: two vertices per
    point.

    widths: [S, P] metres; thinnest: the least width at a depth of 1, which keeps far strands from
    falling to dots. vertices, tangents: [S * P * 2, 3], written.
    """
    num_strands, num_points = points.shape[0], points.shape[1]
    along, across = np.empty(3, np.float32), np.empty(3, np.float32)
    for strand in range(num_strands):
        for i in range(num_points):
            p = points[strand, i]
            after, before = min(i + 1, num_points - 1), max(i - 1, 0)
            for k in range(3):
                along[k] = points[strand, after, k] - points[strand, before, k]
            _scale_to_unit(along)
            for k in range(3):
                a, b = (k + 1) % 3, (k + 2) % 3
                across[k] = along[a] * p[b] - along[b] * p[a]
            _scale_to_unit(across)
            half = np.float32(0.5) * max(widths[strand, i], thinnest * p[2])
            row = (strand * num_points + i) * 2
            for k in range(3):
                vertices[row, k] = p[k] - across[k] * half
                vertices[row + 1, k] = p[k] + across[k] * half
                tangents[row, k] = tangents[row + 1, k] = along[k]


@helper(AS_WRITTEN)
def _texel(texture, u, v, color):
    """Bilinear lookup at uv (v up) of [H, W, 4] uint8; writes linear RGB and gloss into
    ``color``."""
    height, width = texture.shape[0], texture.shape[1]
    x = min(max(u * width - np.float32(0.5), np.float32(0.0)), np.float32(width - 1.001))
    y = min(
        max((np.float32(1.0) - v) * height - np.float32(0.5), np.float32(0.0)),
        np.float32(height - 1.001),
    )
    column, row = int(x), int(y)
    fx, fy = x - column, y - row
    for channel in range(4):
        top = texture[row, column, channel] * (1 - fx) + texture[row, column + 1, channel] * fx
        bottom = (
            texture[row + 1, column, channel] * (1 - fx)
            + texture[row + 1, column + 1, channel] * fx
        )
        value = (top * (1 - fy) + bottom * fy) * np.float32(1.0 / 255.0)
        color[channel] = value if channel == 3 else value * value


@helper(AS_WRITTEN)
def _lit_share(point, lights, bias):
    """The share of the lamp that reaches a point of the camera frame: percentage-closer filtering
    of its depth map."""
    shadow, T = lights.shadow, lights.from_cam
    size = shadow.shape[0]
    depth = _dot(T[2], point) + T[2, 3]
    u = lights.K[0] * (_dot(T[0], point) + T[0, 3]) / depth + lights.K[1] - np.float32(0.5)
    v = lights.K[0] * (_dot(T[1], point) + T[1, 3]) / depth + lights.K[1] - np.float32(0.5)
    if not (u > 2 and v > 2 and u < size - 3 and v < size - 3):
        return np.float32(1.0)
    column, row = int(u), int(v)
    fx, fy = u - column, v - row
    total = np.float32(0.0)
    for dy in range(-1, 3):
        wy = 1 - fy if dy == -1 else fy if dy == 2 else np.float32(1.0)
        for dx in range(-1, 3):
            wx = 1 - fx if dx == -1 else fx if dx == 2 else np.float32(1.0)
            if shadow[row + dy, column + dx] > depth - bias:
                total += wx * wy
    return total / np.float32(9.0)


@helper(AS_WRITTEN)
def _pow_int(x, exponent):
    """x to a power of two, by squaring."""
    while exponent > 1:
        x = x * x
        exponent //= 2
    return x


@helper(AS_WRITTEN)
def _light_strand(color, point, tangent, view, open_sky, lights, out):
    """Kajiya and Kay, "Rendering fur with three dimensional textures", 1989."""
    one, zero = np.float32(1.0), np.float32(0.0)
    strengths = lights.strengths
    share = _lit_share(point, lights, np.float32(0.008))
    tl, tf, tv = _dot(tangent, lights.lamp), _dot(tangent, lights.fill), _dot(tangent, view)
    sin_l, sin_f = np.sqrt(max(one - tl * tl, zero)), np.sqrt(max(one - tf * tf, zero))
    shine = max(sin_l * np.sqrt(max(one - tv * tv, zero)) - tl * tv, zero)
    shine = np.float32(0.05) * _pow_int(shine, 16) * share * open_sky
    light = strengths[0] * share * np.float32(0.8) * sin_l * open_sky
    light += strengths[1] * np.float32(0.8) * sin_f * open_sky
    light += np.float32(0.5) * (strengths[2] + strengths[3]) * open_sky
    for k in range(3):
        out[k] = color[k] * light + shine


@helper(AS_WRITTEN)
def _light_surface(color, kind, point, normal, view, open_sky, lights, out):
    """``color``: linear RGB and gloss of a surface of this material."""
    one, zero = np.float32(1.0), np.float32(0.0)
    strengths = lights.strengths
    nl, nf = _dot(normal, lights.lamp), _dot(normal, lights.fill)
    sky = np.float32(0.5) + np.float32(0.5) * _dot(normal, lights.up)
    ambient = (strengths[3] + sky * (strengths[2] - strengths[3])) * open_sky
    # What lies deep in a cavity sees little of a large lamp.
    share = _lit_share(point, lights, np.float32(0.004)) * min(np.float32(1.6) * open_sky, one)
    soft_fill = min(np.float32(1.4) * open_sky, one)
    hx, hy, hz = lights.lamp[0] + view[0], lights.lamp[1] + view[1], lights.lamp[2] + view[2]
    half = np.sqrt(hx * hx + hy * hy + hz * hz) + np.float32(1e-9)
    nh = max((normal[0] * hx + normal[1] * hy + normal[2] * hz) / half, zero)
    gloss, shine = color[3], zero
    if kind == EYE:
        shine = np.float32(2.5) * _pow_int(nh, 512) + np.float32(0.10) * _pow_int(nh, 32)
    elif kind == WET:
        shine = np.float32(0.25) * _pow_int(nh, 64)
    elif kind == SKIN:
        shine = np.float32(0.22) * _pow_int(nh, 16)
        shine += np.float32(0.8) * max(gloss - np.float32(0.35), zero) * _pow_int(nh, 64)
    shine *= gloss * share if nl > 0 else zero
    for k in range(3):
        # Light that goes through skin reddens the border of the shade.
        wrap = zero
        if kind == SKIN:
            wrap = np.float32(0.38) if k == 0 else np.float32(0.16)
        key = max((nl + wrap) / (one + wrap), zero) * share
        side = max((nf + wrap) / (one + wrap), zero) * soft_fill
        out[k] = color[k] * (strengths[0] * key + strengths[1] * side + ambient) + shine


@kernel(AS_WRITTEN)
def shade_kernel(face_index, barycentrics, surfaces, lights, encode, rgb, alpha):
    """The image from 2 × 2 samples per pixel; samples of one pixel on one triangle are lit once.

    face_index, barycentrics: [2H, 2W] and [2H, 2W, 3] of ``rasterize``; surfaces, lights: Surfaces
    and Lights; encode: table of sRGB over the square root of linear light in [0, 1]. Writes rgb
    [H, W, 3] premultiplied sRGB, and alpha [H, W].
    """
    zero = np.float32(0.0)
    height, width = alpha.shape
    num_surface, per_strand = surfaces.material.shape[0], surfaces.vertices_per_strand
    first_strand_vertex = len(surfaces.vertices) - len(surfaces.strand_colors) * per_strand
    color, seen, lit = np.empty(4, np.float32), np.empty(4, np.int64), np.empty((4, 3), np.float32)
    point, normal, view = (
        np.empty(3, np.float32),
        np.empty(3, np.float32),
        np.empty(3, np.float32),
    )
    table = encode.shape[0] - 1
    for row in range(height):
        for column in range(width):
            covered = 0
            rgb[row, column, :] = zero
            for sample in range(4):
                r, c = 2 * row + sample // 2, 2 * column + sample % 2
                index = face_index[r, c]
                if index < 0:
                    continue
                known = -1
                for earlier in range(covered):
                    if seen[earlier] == index:
                        known = earlier
                seen[covered] = index
                if known >= 0:
                    lit[covered] = lit[known]
                else:
                    face, b = surfaces.faces[index], barycentrics[r, c]
                    _interpolate(surfaces.vertices, face, b, point)
                    _interpolate(surfaces.normals, face, b, normal)
                    _scale_to_unit(normal)
                    open_sky = (
                        b[0] * surfaces.occlusion[face[0]]
                        + b[1] * surfaces.occlusion[face[1]]
                        + b[2] * surfaces.occlusion[face[2]]
                    )
                    for k in range(3):  # towards the camera
                        view[k] = -point[k]
                    _scale_to_unit(view)
                    if index >= num_surface:
                        strand = (face[0] - first_strand_vertex) // per_strand
                        strand_color = surfaces.strand_colors[strand]
                        _light_strand(
                            strand_color, point, normal, view, open_sky, lights, lit[covered]
                        )
                    else:
                        if _dot(normal, view) < 0:
                            for k in range(3):
                                normal[k] = -normal[k]
                        uv = surfaces.corner_uv[index]
                        u = b[0] * uv[0, 0] + b[1] * uv[1, 0] + b[2] * uv[2, 0]
                        v = b[0] * uv[0, 1] + b[1] * uv[1, 1] + b[2] * uv[2, 1]
                        _texel(surfaces.texture, u, v, color)
                        kind = surfaces.material[index]
                        _light_surface(
                            color, kind, point, normal, view, open_sky, lights, lit[covered]
                        )
                    for k in range(3):
                        value = min(np.sqrt(max(lit[covered, k], zero)), np.float32(1.0))
                        lit[covered, k] = encode[int(value * table + np.float32(0.5))]
                for k in range(3):
                    rgb[row, column, k] += np.float32(0.25) * lit[covered, k]
                covered += 1
            alpha[row, column] = covered * np.float32(0.25)
