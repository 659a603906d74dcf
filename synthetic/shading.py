"""Compiled loops of the demo subject's picture: strands of hair to ribbons, and the light on every
sample.

Import this module lazily: it loads numba. The kernels hold no lock, so that frames can be drawn by
    several threads.
"""

from __future__ import annotations

import numpy as np

from likeness.ops.compilation import AS_WRITTEN, helper, kernel

SKIN, EYE, WET, CLOTH, HAIR = range(5)  # materials


@kernel(AS_WRITTEN)
def ribbons_kernel(points, widths, thinnest, vertices, tangents):
    """Strands [S, P, 3] in the camera frame to ribbons that face the camera: two vertices per
    point.

    widths: [S, P] metres; thinnest: the least width at a depth of 1, which keeps far strands from
        falling to dots.
    vertices, tangents: [S * P * 2, 3], written.
    """
    num_strands, num_points = points.shape[0], points.shape[1]
    for strand in range(num_strands):
        for i in range(num_points):
            a, b = max(i - 1, 0), min(i + 1, num_points - 1)
            tx = points[strand, b, 0] - points[strand, a, 0]
            ty = points[strand, b, 1] - points[strand, a, 1]
            tz = points[strand, b, 2] - points[strand, a, 2]
            length = np.sqrt(tx * tx + ty * ty + tz * tz) + np.float32(1e-12)
            tx, ty, tz = tx / length, ty / length, tz / length
            px, py, pz = points[strand, i, 0], points[strand, i, 1], points[strand, i, 2]
            sx, sy, sz = ty * pz - tz * py, tz * px - tx * pz, tx * py - ty * px
            length = np.sqrt(sx * sx + sy * sy + sz * sz) + np.float32(1e-12)
            half = np.float32(0.5) * max(widths[strand, i], thinnest * pz) / length
            row = (strand * num_points + i) * 2
            vertices[row, 0], vertices[row, 1], vertices[row, 2] = (
                px - sx * half,
                py - sy * half,
                pz - sz * half,
            )
            vertices[row + 1, 0] = px + sx * half
            vertices[row + 1, 1] = py + sy * half
            vertices[row + 1, 2] = pz + sz * half
            for side in range(2):
                tangents[row + side, 0], tangents[row + side, 1], tangents[row + side, 2] = (
                    tx,
                    ty,
                    tz,
                )


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
def _lit_share(x, y, z, light_from_cam, light_K, shadow, bias):
    """The share of the lamp that reaches a point of the camera frame: percentage-closer filtering
    of a depth map."""
    size = shadow.shape[0]
    lx = (
        light_from_cam[0, 0] * x
        + light_from_cam[0, 1] * y
        + light_from_cam[0, 2] * z
        + light_from_cam[0, 3]
    )
    ly = (
        light_from_cam[1, 0] * x
        + light_from_cam[1, 1] * y
        + light_from_cam[1, 2] * z
        + light_from_cam[1, 3]
    )
    lz = (
        light_from_cam[2, 0] * x
        + light_from_cam[2, 1] * y
        + light_from_cam[2, 2] * z
        + light_from_cam[2, 3]
    )
    u = light_K[0] * lx / lz + light_K[1] - np.float32(0.5)
    v = light_K[0] * ly / lz + light_K[1] - np.float32(0.5)
    if not (u > 2 and v > 2 and u < size - 3 and v < size - 3):
        return np.float32(1.0)
    column, row = int(u), int(v)
    fx, fy = u - column, v - row
    total = np.float32(0.0)
    for dy in range(-1, 3):
        wy = np.float32(1.0)
        if dy == -1:
            wy = 1 - fy
        elif dy == 2:
            wy = fy
        for dx in range(-1, 3):
            wx = np.float32(1.0)
            if dx == -1:
                wx = 1 - fx
            elif dx == 2:
                wx = fx
            if shadow[row + dy, column + dx] > lz - bias:
                total += wx * wy
    return total / np.float32(9.0)


@helper(AS_WRITTEN)
def _pow_int(x, exponent):
    """x to a power of two, by squaring."""
    while exponent > 1:
        x = x * x
        exponent //= 2
    return x


@kernel(AS_WRITTEN)
def shade_kernel(
    face_index,
    barycentrics,
    faces,
    corner_uv,
    material,
    vertices,
    normals,
    occlusion,
    texture,
    strand_colors,
    vertices_per_strand,
    lamp,
    fill,
    up,
    strengths,
    light_from_cam,
    light_K,
    shadow,
    encode,
    rgb,
    alpha,
):
    """The picture from 2 × 2 samples per pixel; samples of one pixel on one triangle are lit once.

    face_index, barycentrics: [2H, 2W] and [2H, 2W, 3] of ``rasterize``; faces from len(material) on
        are strands.
    corner_uv: [F, 3, 2]; material: [F]; vertices, normals: [V, 3] in the camera frame (of strands:
        tangents);
    occlusion: [V] open sky, 0 to 1; texture: [TH, TW, 4]; strand_colors: [S, 3] linear; lamp, fill,
    up: [3] unit vectors of the camera frame; strengths: lamp, fill, sky, floor; encode: table of
    sRGB over the square root of linear light in [0, 1]. Writes rgb [H, W, 3] premultiplied sRGB,
    and alpha [H, W].
    """
    one, zero = np.float32(1.0), np.float32(0.0)
    height, width = alpha.shape
    num_surface = material.shape[0]
    first_strand_vertex = vertices.shape[0] - strand_colors.shape[0] * vertices_per_strand
    color, seen, lit = np.empty(4, np.float32), np.empty(4, np.int64), np.empty((4, 3), np.float32)
    table = encode.shape[0] - 1
    for row in range(height):
        for column in range(width):
            covered = 0
            red, green, blue = zero, zero, zero
            for sample in range(4):
                r, c = 2 * row + sample // 2, 2 * column + sample % 2
                face = face_index[r, c]
                if face < 0:
                    continue
                known = -1
                for earlier in range(covered):
                    if seen[earlier] == face:
                        known = earlier
                seen[covered] = face
                if known >= 0:
                    lit[covered, 0], lit[covered, 1], lit[covered, 2] = (
                        lit[known, 0],
                        lit[known, 1],
                        lit[known, 2],
                    )
                else:
                    b0, b1, b2 = barycentrics[r, c, 0], barycentrics[r, c, 1], barycentrics[r, c, 2]
                    i0, i1, i2 = faces[face, 0], faces[face, 1], faces[face, 2]
                    x = b0 * vertices[i0, 0] + b1 * vertices[i1, 0] + b2 * vertices[i2, 0]
                    y = b0 * vertices[i0, 1] + b1 * vertices[i1, 1] + b2 * vertices[i2, 1]
                    z = b0 * vertices[i0, 2] + b1 * vertices[i1, 2] + b2 * vertices[i2, 2]
                    nx = b0 * normals[i0, 0] + b1 * normals[i1, 0] + b2 * normals[i2, 0]
                    ny = b0 * normals[i0, 1] + b1 * normals[i1, 1] + b2 * normals[i2, 1]
                    nz = b0 * normals[i0, 2] + b1 * normals[i1, 2] + b2 * normals[i2, 2]
                    open_sky = b0 * occlusion[i0] + b1 * occlusion[i1] + b2 * occlusion[i2]
                    norm = one / (np.sqrt(nx * nx + ny * ny + nz * nz) + np.float32(1e-9))
                    nx, ny, nz = nx * norm, ny * norm, nz * norm
                    norm = -one / np.sqrt(x * x + y * y + z * z)
                    vx, vy, vz = x * norm, y * norm, z * norm  # towards the camera
                    if face >= num_surface:
                        # Kajiya and Kay, "Rendering fur with three dimensional textures", 1989.
                        strand = (i0 - first_strand_vertex) // vertices_per_strand
                        for k in range(3):
                            color[k] = strand_colors[strand, k]
                        shadow_share = _lit_share(
                            x, y, z, light_from_cam, light_K, shadow, np.float32(0.008)
                        )
                        tl = nx * lamp[0] + ny * lamp[1] + nz * lamp[2]
                        tf = nx * fill[0] + ny * fill[1] + nz * fill[2]
                        tv = nx * vx + ny * vy + nz * vz
                        sin_l, sin_f = (
                            np.sqrt(max(one - tl * tl, zero)),
                            np.sqrt(max(one - tf * tf, zero)),
                        )
                        shine = max(sin_l * np.sqrt(max(one - tv * tv, zero)) - tl * tv, zero)
                        shine = np.float32(0.05) * _pow_int(shine, 16) * shadow_share * open_sky
                        ambient = np.float32(0.5) * (strengths[2] + strengths[3]) * open_sky
                        light = strengths[0] * shadow_share * np.float32(0.8) * sin_l * open_sky
                        light += strengths[1] * np.float32(0.8) * sin_f * open_sky + ambient
                        for k in range(3):
                            lit[covered, k] = color[k] * light + shine
                    else:
                        kind = material[face]
                        if nx * vx + ny * vy + nz * vz < 0:
                            nx, ny, nz = -nx, -ny, -nz
                        u = (
                            b0 * corner_uv[face, 0, 0]
                            + b1 * corner_uv[face, 1, 0]
                            + b2 * corner_uv[face, 2, 0]
                        )
                        v = (
                            b0 * corner_uv[face, 0, 1]
                            + b1 * corner_uv[face, 1, 1]
                            + b2 * corner_uv[face, 2, 1]
                        )
                        _texel(texture, u, v, color)
                        nl = nx * lamp[0] + ny * lamp[1] + nz * lamp[2]
                        nf = nx * fill[0] + ny * fill[1] + nz * fill[2]
                        sky = np.float32(0.5) + np.float32(0.5) * (
                            nx * up[0] + ny * up[1] + nz * up[2]
                        )
                        ambient = (strengths[3] + sky * (strengths[2] - strengths[3])) * open_sky
                        share = _lit_share(
                            x, y, z, light_from_cam, light_K, shadow, np.float32(0.004)
                        )
                        # What lies deep in a cavity sees little of a large lamp.
                        share *= min(np.float32(1.6) * open_sky, one)
                        soft_fill = min(np.float32(1.4) * open_sky, one)
                        hx, hy, hz = lamp[0] + vx, lamp[1] + vy, lamp[2] + vz
                        nh = (nx * hx + ny * hy + nz * hz) / (
                            np.sqrt(hx * hx + hy * hy + hz * hz) + np.float32(1e-9)
                        )
                        nh = max(nh, zero)
                        gloss = color[3]
                        if kind == EYE:
                            shine = np.float32(2.5) * _pow_int(nh, 512) + np.float32(
                                0.10
                            ) * _pow_int(nh, 32)
                        elif kind == WET:
                            shine = np.float32(0.25) * _pow_int(nh, 64)
                        elif kind == CLOTH or kind == HAIR:
                            shine = zero
                        else:
                            shine = np.float32(0.22) * _pow_int(nh, 16)
                            shine += (
                                np.float32(0.8)
                                * max(gloss - np.float32(0.35), zero)
                                * _pow_int(nh, 64)
                            )
                        shine *= gloss * share if nl > 0 else zero
                        for k in range(3):
                            # Light that goes through skin reddens the border of the shade.
                            wrap = zero
                            if kind == SKIN:
                                wrap = np.float32(0.38) if k == 0 else np.float32(0.16)
                            key = max((nl + wrap) / (one + wrap), zero) * share
                            side = max((nf + wrap) / (one + wrap), zero) * soft_fill
                            lit[covered, k] = (
                                color[k] * (strengths[0] * key + strengths[1] * side + ambient)
                                + shine
                            )
                    for k in range(3):
                        value = min(np.sqrt(max(lit[covered, k], zero)), one)
                        lit[covered, k] = encode[int(value * table + np.float32(0.5))]
                red += lit[covered, 0]
                green += lit[covered, 1]
                blue += lit[covered, 2]
                covered += 1
            rgb[row, column, 0] = red * np.float32(0.25)
            rgb[row, column, 1] = green * np.float32(0.25)
            rgb[row, column, 2] = blue * np.float32(0.25)
            alpha[row, column] = covered * np.float32(0.25)
