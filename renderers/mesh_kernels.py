"""Compiled loops of the mesh renderer. Import this module lazily: it loads numba.

The kernels hold no lock, so that several frames can be drawn by as many Python threads.
"""

# pyright: basic

from __future__ import annotations

import numpy as np

from likeness.ops.compilation import AS_WRITTEN, kernel


@kernel(AS_WRITTEN)
def rasterize_kernel(vertices, faces, K, near, first_id, face_index, barycentrics, depth):
    """Draws triangles into the three buffers, which may hold an earlier drawing.

    Homogeneous rasterisation (Olano and Greer, "Triangle scan conversion using 2D homogeneous
    coordinates", 1997): with the pixel's ray d (d_z = 1) and the triangle p0 p1 p2 in the camera
    frame, e0 = d·(p1×p2), e1 = d·(p2×p0), e2 = d·(p0×p1) are, over their sum, the
    perspective-correct barycentrics, and the depth is p0·(p1×p2) over that sum. No triangle has to
    be cut at the near plane: points nearer than ``near`` just fail the depth test. An edge shared
    by two triangles gives exactly opposite e, so that no pixel falls between them.
    """
    height, width = depth.shape
    fx, skew, cx = K[0, 0], K[0, 1], K[0, 2]
    fy, cy = K[1, 1], K[1, 2]
    inverse_fx, inverse_fy = 1.0 / fx, 1.0 / fy
    for face in range(faces.shape[0]):
        i0, i1, i2 = faces[face, 0], faces[face, 1], faces[face, 2]
        x0, y0, z0 = (
            np.float64(vertices[i0, 0]),
            np.float64(vertices[i0, 1]),
            np.float64(vertices[i0, 2]),
        )
        x1, y1, z1 = (
            np.float64(vertices[i1, 0]),
            np.float64(vertices[i1, 1]),
            np.float64(vertices[i1, 2]),
        )
        x2, y2, z2 = (
            np.float64(vertices[i2, 0]),
            np.float64(vertices[i2, 1]),
            np.float64(vertices[i2, 2]),
        )
        if not (z0 > near or z1 > near or z2 > near):
            continue
        # The pixels that the part beyond the near plane can reach.
        left, right, top, bottom = np.inf, -np.inf, np.inf, -np.inf
        for corner in range(3):
            ax, ay, az, bx, by, bz = x0, y0, z0, x1, y1, z1
            if corner == 1:
                ax, ay, az, bx, by, bz = x1, y1, z1, x2, y2, z2
            elif corner == 2:
                ax, ay, az, bx, by, bz = x2, y2, z2, x0, y0, z0
            if az > near:
                u, v = (fx * ax + skew * ay) / az + cx, fy * ay / az + cy
                left, right, top, bottom = min(left, u), max(right, u), min(top, v), max(bottom, v)
            if (az > near) != (bz > near):
                t = (near - az) / (bz - az)
                mx, my = ax + t * (bx - ax), ay + t * (by - ay)
                u, v = (fx * mx + skew * my) / near + cx, fy * my / near + cy
                left, right, top, bottom = min(left, u), max(right, u), min(top, v), max(bottom, v)
        if not (right >= 0.0 and bottom >= 0.0 and left <= width and top <= height):
            continue
        # A hair wider than the exact bounds, against their rounding; the edge tests below decide.
        column_start, column_end = (
            int(max(np.ceil(left - 0.501), 0.0)),
            int(min(np.floor(right - 0.499), width - 1.0)),
        )
        row_start, row_end = (
            int(max(np.ceil(top - 0.501), 0.0)),
            int(min(np.floor(bottom - 0.499), height - 1.0)),
        )
        if column_start > column_end or row_start > row_end:
            continue
        n0x, n0y, n0z = y1 * z2 - z1 * y2, z1 * x2 - x1 * z2, x1 * y2 - y1 * x2
        n1x, n1y, n1z = y2 * z0 - z2 * y0, z2 * x0 - x2 * z0, x2 * y0 - y2 * x0
        n2x, n2y, n2z = y0 * z1 - z0 * y1, z0 * x1 - x0 * z1, x0 * y1 - y0 * x1
        volume = x0 * n0x + y0 * n0y + z0 * n0z
        if volume == 0.0 or not np.isfinite(volume):
            continue
        if volume < 0.0:  # seen from behind: all signs turn
            volume = -volume
            n0x, n0y, n0z, n1x, n1y, n1z = -n0x, -n0y, -n0z, -n1x, -n1y, -n1z
            n2x, n2y, n2z = -n2x, -n2y, -n2z
        scale = 1.0 / volume
        for row in range(row_start, row_end + 1):
            dy = (row + 0.5 - cy) * inverse_fy
            shift = 0.5 - cx - skew * dy
            r0, r1, r2 = dy * n0y + n0z, dy * n1y + n1z, dy * n2y + n2z
            for column in range(column_start, column_end + 1):
                dx = (column + shift) * inverse_fx
                e0, e1, e2 = dx * n0x + r0, dx * n1x + r1, dx * n2x + r2
                if e0 < 0.0 or e1 < 0.0 or e2 < 0.0:
                    continue
                inverse_depth = (e0 + e1 + e2) * scale
                if inverse_depth <= 0.0:
                    continue
                z = 1.0 / inverse_depth
                if z <= near or z >= depth[row, column]:
                    continue
                depth[row, column] = z
                face_index[row, column] = first_id + face
                barycentrics[row, column, 0] = e0 * scale * z
                barycentrics[row, column, 1] = e1 * scale * z
                barycentrics[row, column, 2] = e2 * scale * z


@kernel(AS_WRITTEN)
def vertex_normals_kernel(vertices, faces, normals):
    """Area-weighted unit normals; the zero vector where no triangle has an area."""
    normals[:] = 0.0
    for face in range(faces.shape[0]):
        i0, i1, i2 = faces[face, 0], faces[face, 1], faces[face, 2]
        ax, bx = vertices[i1, 0] - vertices[i0, 0], vertices[i2, 0] - vertices[i0, 0]
        ay, by = vertices[i1, 1] - vertices[i0, 1], vertices[i2, 1] - vertices[i0, 1]
        az, bz = vertices[i1, 2] - vertices[i0, 2], vertices[i2, 2] - vertices[i0, 2]
        nx, ny, nz = ay * bz - az * by, az * bx - ax * bz, ax * by - ay * bx
        for corner in (i0, i1, i2):
            normals[corner, 0] += nx
            normals[corner, 1] += ny
            normals[corner, 2] += nz
    for vertex in range(normals.shape[0]):
        x, y, z = normals[vertex, 0], normals[vertex, 1], normals[vertex, 2]
        length = np.sqrt(x * x + y * y + z * z)
        if length > 1e-20:
            normals[vertex, 0] = x / length
            normals[vertex, 1] = y / length
            normals[vertex, 2] = z / length


@kernel(AS_WRITTEN)
def interpolate_kernel(values, faces, face_index, barycentrics, out):
    """Per-vertex values [V, C] at every drawn pixel [H, W, C]; pixels without a face are left
    alone."""
    height, width = face_index.shape
    for row in range(height):
        for column in range(width):
            face = face_index[row, column]
            if face < 0:
                continue
            for channel in range(values.shape[1]):
                total = 0.0
                for corner in range(3):
                    total += (
                        barycentrics[row, column, corner] * values[faces[face, corner], channel]
                    )
                out[row, column, channel] = total
