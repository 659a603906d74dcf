"""The rasteriser against a per-pixel ray caster, and the pictures made from it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from likeness.renderers.mesh import (
    Raster,
    overlay,
    rasterize,
    rasterize_camera,
    render_mesh,
    vertex_normals,
)
from likeness.scene.camera import Camera
from likeness.scene.transforms import make_transform, rotvecs_to_matrices

K = np.array([[60.0, 1.5, 21.0], [0.0, 64.0, 14.5], [0.0, 0.0, 1.0]])
WIDTH, HEIGHT, NEAR = 43, 31, 0.05


def cast_rays(
    vertices: np.ndarray, faces: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """The slow twin (Möller and Trumbore's test as a linear solve, float64). The last array marks
    doubtful pixels."""
    index = np.full((HEIGHT, WIDTH), -1)
    bary, depth = np.zeros((HEIGHT, WIDTH, 3)), np.full((HEIGHT, WIDTH), np.inf)
    doubtful = np.zeros((HEIGHT, WIDTH), bool)
    inverse = np.linalg.inv(K)
    for row in range(HEIGHT):
        for column in range(WIDTH):
            ray = inverse @ [column + 0.5, row + 0.5, 1.0]
            for face, corners in enumerate(vertices[faces].astype(np.float64)):
                # depth * ray = b0 p0 + b1 p1 + b2 p2 with b0 + b1 + b2 = 1
                system = np.block([[corners.T, -ray[:, None]], [np.ones((1, 3)), np.zeros((1, 1))]])
                if abs(np.linalg.det(system)) < 1e-12:
                    continue
                *b, z = np.linalg.solve(system, [0, 0, 0, 1.0])
                if min(b) < 1e-7 and min(b) > -1e-7 or abs(z - NEAR) < 1e-7:
                    doubtful[row, column] = True
                if min(b) < 0 or z <= NEAR:
                    continue
                if abs(z - depth[row, column]) < 1e-6:
                    doubtful[row, column] = True
                if z < depth[row, column]:
                    index[row, column], bary[row, column], depth[row, column] = face, b, z
    return index, bary, depth, doubtful


@pytest.mark.parametrize("seed", range(3))
def test_matches_ray_casting(seed):
    """Random triangles, many of them through the camera's plane and over the border."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(14, 1, 3)) * [0.5, 0.4, 0.5] + [0, 0, 0.9]
    vertices = (centres + rng.normal(size=(14, 3, 3)) * 0.5).reshape(-1, 3).astype(np.float32)
    faces = np.arange(42).reshape(14, 3)
    assert (vertices[:, 2] < NEAR).any()
    raster = rasterize(vertices, faces, K, WIDTH, HEIGHT, near=NEAR)
    index, bary, depth, doubtful = cast_rays(vertices, faces)
    sure = ~doubtful
    assert sure.mean() > 0.98 and 0.2 < (index >= 0).mean()
    np.testing.assert_array_equal(raster.face_index[sure], index[sure])
    np.testing.assert_allclose(raster.barycentrics[sure], bary[sure], atol=2e-6)
    np.testing.assert_allclose(raster.depth[sure], depth[sure], rtol=1e-6)


def test_depth_and_attributes_are_perspective_correct():
    """On a slanted plane, interpolated positions must lie on the pixels' rays, at the pixels'
    depths."""
    vertices = np.array([[-1, -1, 0.6], [1, -1, 3.0], [1, 1, 3.0], [-1, 1, 0.6]], np.float32)
    faces = np.array([[0, 1, 2], [0, 2, 3]])
    raster = rasterize(vertices, faces, K, WIDTH, HEIGHT)
    points = raster.interpolate(vertices, faces)[raster.mask]
    projected = points @ K.T
    rows, columns = np.nonzero(raster.mask)
    np.testing.assert_allclose(
        projected[:, :2] / projected[:, 2:], np.stack([columns, rows], 1) + 0.5, atol=1e-3
    )
    np.testing.assert_allclose(points[:, 2], raster.depth[raster.mask], rtol=1e-5)


def test_shared_edges_leave_no_gap():
    """A fan of thin triangles around a pixel's centre covers every pixel once the square is
    closed."""
    angles = np.linspace(0, 2 * np.pi, 41)[:-1]
    ring = np.stack([np.cos(angles), np.sin(angles), np.ones(40)], 1) * [2, 2, 1]
    vertices = np.concatenate([[[0.0, 0.0, 1.0]], ring]).astype(np.float32)
    order = np.arange(1, 41)
    faces = np.stack([np.zeros(40, int), order, np.roll(order, -1)], 1)
    camera_K = np.array([[20.0, 0, 10.5], [0, 20, 10.5], [0, 0, 1]])
    assert rasterize(vertices, faces, camera_K, 21, 21).mask.all()
    assert rasterize(vertices, faces[:, ::-1], camera_K, 21, 21).mask.all()


def test_drawing_into_buffers_keeps_the_nearest():
    near_face = np.array([[-1, -1, 1], [1, -1, 1], [0, 1, 1]], np.float32)
    faces = np.array([[0, 1, 2]])
    both = Raster.empty(WIDTH, HEIGHT)
    rasterize(near_face, faces, K, WIDTH, HEIGHT, into=both, first_id=7)
    rasterize(near_face * 2, faces, K, WIDTH, HEIGHT, into=both, first_id=9)
    assert set(np.unique(both.face_index)) <= {-1, 7} and both.mask.any()
    with pytest.raises(ValueError, match="faces name vertices"):
        rasterize(near_face, faces + 1, K, WIDTH, HEIGHT)
    with pytest.raises(ValueError, match=r"expected \[F, 3\]"):
        rasterize(near_face, faces[0], K, WIDTH, HEIGHT)


def test_camera_front_end_agrees_with_projection():
    """A small triangle is drawn where scene.Camera projects it, with an off-centre principal point
    and a pose."""
    pose = make_transform(
        rotvecs_to_matrices(torch.tensor([0.2, -0.4, 0.1])), torch.tensor([0.1, -0.2, 1.5])
    )
    camera = Camera(torch.tensor([[300.0, 0, 90.0], [0, 310.0, 40.0], [0, 0, 1]]), pose, 160, 120)
    vertices = torch.tensor([[0.0, 0.0, 0.0], [0.08, 0.0, 0.0], [0.0, 0.08, 0.03]])
    raster = rasterize_camera(vertices, torch.tensor([[0, 1, 2]]), camera)
    rows, columns = np.nonzero(raster.mask)
    pixels, depths = camera.project(vertices)
    centre = np.array([columns.mean(), rows.mean()]) + 0.5
    np.testing.assert_allclose(centre, pixels.mean(0).numpy(), atol=0.5)
    seen = raster.depth[raster.mask]
    assert depths.min() - 1e-5 <= seen.min() <= seen.max() <= depths.max() + 1e-5
    with pytest.raises(ValueError, match="one camera"):
        rasterize_camera(vertices, torch.tensor([[0, 1, 2]]), Camera.stack([camera, camera]))


def sphere(rows: int = 16, columns: int = 24, radius: float = 0.1) -> tuple[np.ndarray, np.ndarray]:
    theta, phi = np.meshgrid(
        np.linspace(0, np.pi, rows), np.linspace(0, 2 * np.pi, columns), indexing="ij"
    )
    points = radius * np.stack(
        [np.sin(theta) * np.cos(phi), np.cos(theta), np.sin(theta) * np.sin(phi)], -1
    )
    grid = np.arange(rows * columns).reshape(rows, columns)
    a, b, c, d = (
        grid[:-1, :-1].ravel(),
        grid[:-1, 1:].ravel(),
        grid[1:, 1:].ravel(),
        grid[1:, :-1].ravel(),
    )
    return points.reshape(-1, 3).astype(np.float32), np.concatenate(
        [np.stack([a, b, c], 1), np.stack([a, c, d], 1)]
    )


def test_normals_of_a_sphere_point_out_or_in():
    vertices, faces = sphere()
    radial = vertices / np.linalg.norm(vertices, axis=1, keepdims=True)
    # Without the poles, whose triangles partly have no area; at the seam normals lean by half a
    # cell.
    agreement = (vertex_normals(vertices, faces) * radial).sum(1)[24:-24]
    assert np.abs(agreement).min() > 0.97 and (np.sign(agreement) == np.sign(agreement[40])).all()


def test_shaded_picture_and_overlay():
    vertices, faces = sphere()
    pose = make_transform(torch.eye(3), torch.tensor([0.0, 0.0, 0.5]))
    camera = Camera.from_fov(0.6, 64, 48, pose)
    rgb, alpha = render_mesh(vertices, faces, camera)
    assert rgb.shape == (48, 64, 3) and alpha.shape == (48, 64, 1)
    radius = camera.K[0, 0].item() * 0.1 / np.sqrt(0.5**2 - 0.1**2)  # the silhouette's cone
    assert alpha.sum() == pytest.approx(np.pi * radius**2, rel=0.02)
    assert (rgb <= alpha + 1e-6).all() and 0 < ((alpha > 0) & (alpha < 1)).sum() < 250
    # lit from above and from the left
    assert rgb[18:22, 24:28].mean() > rgb[28:32, 38:42].mean() + 0.05
    photo = np.full((48, 64, 3), 200, np.uint8)
    mixed = overlay(photo, vertices, faces, camera, alpha=0.5, wireframe=True)
    assert mixed.dtype == np.uint8 and (mixed[alpha[..., 0] == 0] == 200).all()
    plain = overlay(photo, vertices, faces, camera, alpha=0.5)
    assert mixed.mean() < plain.mean() - 1
    with pytest.raises(ValueError, match="overlay"):
        overlay(photo[:20], vertices, faces, camera)


def test_a_wireframe_needs_no_cross_product_of_plane_vectors(monkeypatch):
    """numpy 2 refuses it."""
    cross = np.cross

    def of_three(a, b, **kwargs):
        assert np.shape(a)[-1] == np.shape(b)[-1] == 3
        return cross(a, b, **kwargs)

    monkeypatch.setattr(np, "cross", of_three)
    vertices, faces = sphere()
    camera = Camera.from_fov(
        0.6, 64, 48, make_transform(torch.eye(3), torch.tensor([0.0, 0.0, 0.5]))
    )
    rgb, alpha = render_mesh(vertices, faces, camera, wireframe=True)
    assert np.isfinite(rgb).all() and rgb.mean() < render_mesh(vertices, faces, camera)[0].mean()
