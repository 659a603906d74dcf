"""The camera's conventions, with a principal point that is not centred."""

from __future__ import annotations

import pytest
import torch

from likeness.scene.camera import Camera
from likeness.scene.transforms import (
    make_transform,
    normalize_quats,
    quats_to_matrices,
    transform_points,
)

D = torch.float64


def make() -> Camera:
    K = torch.tensor([[300.0, 0.0, 70.0], [0.0, 310.0, 55.0], [0.0, 0.0, 1.0]], dtype=D)
    rotation = quats_to_matrices(normalize_quats(torch.tensor([0.9, 0.1, -0.2, 0.05], dtype=D)))
    return Camera(K, make_transform(rotation, torch.tensor([0.1, -0.2, 1.5], dtype=D)), 160, 120)


def test_reduced_cameras_see_where_averaged_pixels_lie():
    camera = make()
    points = torch.tensor([[0.1, 0.2, 1.5], [-0.3, 0.1, 2.0]], dtype=camera.K.dtype)
    reduced = camera.reduced(3)
    torch.testing.assert_close(reduced.project(points)[0] * 3, camera.project(points)[0])
    assert (reduced.width, reduced.height) == (camera.width // 3, camera.height // 3)


def test_projection_is_opencvs():
    import cv2

    camera, points = make(), torch.randn(10, 3, dtype=D) * 0.2
    rotation, _ = cv2.Rodrigues(camera.T_cam_world[:3, :3].numpy())
    expected, _ = cv2.projectPoints(
        points.numpy(), rotation, camera.T_cam_world[:3, 3].numpy(), camera.K.numpy(), None
    )
    torch.testing.assert_close(
        camera.project(points)[0], torch.from_numpy(expected[:, 0]), atol=1e-8, rtol=1e-8
    )


def test_opengl_round_trip_and_axes():
    camera, points = make(), torch.randn(10, 3, dtype=D) * 0.2
    again = Camera.from_opengl(camera.K, camera.opengl_pose(), camera.width, camera.height)
    torch.testing.assert_close(again.T_cam_world, camera.T_cam_world)
    # +x right, +y up, -z forward
    in_opengl = transform_points(torch.linalg.inv(camera.opengl_pose()), points)
    in_opencv = transform_points(camera.T_cam_world, points)
    torch.testing.assert_close(in_opengl, in_opencv * torch.tensor([1, -1, -1], dtype=D))


def test_the_head_anchored_camera_sees_the_same_picture():
    camera, points = make(), torch.randn(10, 3, dtype=D) * 0.1
    T = make_transform(
        quats_to_matrices(normalize_quats(torch.randn(4, dtype=D))), torch.randn(3, dtype=D) * 0.1
    )
    torch.testing.assert_close(
        camera.in_frame(T).project(points)[0], camera.project(transform_points(T, points))[0]
    )
    torch.testing.assert_close(
        transform_points(T, camera.in_frame(T).center[None])[0], camera.center
    )


def test_resizing_and_cropping_move_pixels_as_pictures_do():
    camera, points = make(), torch.randn(10, 3, dtype=D) * 0.1
    pixels = camera.project(points)[0]
    torch.testing.assert_close(camera.resized(80, 60).project(points)[0], pixels / 2)
    torch.testing.assert_close(
        camera.cropped(10, -5, 50, 50).project(points)[0], pixels - torch.tensor([10.0, -5.0])
    )


def test_looking_at_puts_the_target_on_the_axis_and_up_upwards():
    K = make().K
    eye, target = torch.tensor([1.0, 2.0, 3.0], dtype=D), torch.tensor([0.0, 0.1, 0.0], dtype=D)
    camera = Camera.looking_at(K, eye, target, torch.tensor([0.0, 1.0, 0.0], dtype=D), 160, 120)
    torch.testing.assert_close(camera.center, eye)
    torch.testing.assert_close(camera.project(target[None])[0][0], K[:2, 2])
    assert camera.project(target[None] + torch.tensor([0, 0.1, 0], dtype=D))[0][0, 1] < K[1, 2]


def test_errors_name_the_field():
    with pytest.raises(ValueError, match=r"Camera.K: expected shape \[\*b, 3, 3\], got \[2, 3\]"):
        Camera(torch.zeros(2, 3), torch.eye(4), 10, 10)
    with pytest.raises(ValueError, match="batch dimensions"):
        Camera(torch.eye(3), torch.eye(4).expand(2, 4, 4), 10, 10)
    with pytest.raises(ValueError, match="one image size"):
        Camera.stack([make(), make().resized(10, 10)])
