"""Points on what the mattes show beside the mesh: hair above the chin, neck and shoulders below."""

from __future__ import annotations

import torch
from torch import Tensor

from likeness.head_models import HEAD_MODELS
from likeness.scene.camera import Camera
from likeness.scene.capture import Capture
from likeness.scene.frame_images import FrameStore
from likeness.scene.rig_binding import RigBinding
from likeness.scene.transforms import invert_transform, transform_points
from likeness.seeding.mesh import chin_of, spread
from likeness.seeding.shapes import expression_shapes

# metres, head frame: the depth that hair outlines lie at
_SKULL_CENTRE = torch.tensor([0.0, 0.0, -0.09])
_RIG_REACH_M = 0.015  # how far off the mesh expressions still move things
_GRID = 4  # pixels between candidates


def sample_off_mesh(
    capture: Capture, frames: FrameStore, num_frames: int, generator: torch.Generator
) -> tuple[Tensor, ...]:
    """Points [M, 3] in the head frame at rest, colours [M, 3], sizes [M] in metres, head weights
    [M]."""
    from likeness.renderers.mesh import rasterize_camera

    model = HEAD_MODELS[capture.head_model]()
    shaped = model.shaped(capture.identity)
    chin = chin_of(model, shaped.vertices)
    chosen = spread(capture.train, num_frames)
    parts: list[tuple[Tensor, ...]] = []
    for index in chosen:
        frame = capture.frames[index]
        image, matte = (t.cpu() for t in frames.get(index))
        posed = shaped.posed(frame.state)
        camera = frame.camera.in_frame(frame.state.T_world_head)
        covered = torch.from_numpy(
            rasterize_camera(posed.vertices, model.faces, camera).face_index >= 0
        )
        ys, xs = torch.meshgrid(
            torch.arange(0, camera.height, _GRID),
            torch.arange(0, camera.width, _GRID),
            indexing="ij",
        )
        ys, xs = ys.flatten(), xs.flatten()
        free = (matte[ys, xs, 0] > 0.6) & ~covered[ys, xs]
        ys, xs = ys[free], xs[free]
        jitter = torch.rand(2, len(ys), generator=generator) * _GRID
        pixels = torch.stack([xs + jitter[0], ys + jitter[1]], -1)
        in_head = _unproject(camera, pixels, _depth_of(camera, _SKULL_CENTRE))
        below = in_head[:, 1] < chin[1] - 0.02
        body_camera = frame.camera.in_frame(frame.state.T_world_body)
        in_body = _unproject(body_camera, pixels, _depth_of(body_camera, _SKULL_CENTRE))
        points = torch.where(below[:, None], in_body, in_head)
        size = _GRID * 0.6 * _depth_of(camera, _SKULL_CENTRE) / camera.K[0, 0] / len(chosen) ** 0.5
        parts.append(
            (points, image[ys, xs], size.expand(len(points)), torch.where(below, 0.03, 0.95))
        )
    return tuple(torch.cat(column) for column in zip(*parts))


def bind_to_nearest_vertices(capture: Capture, points: Tensor) -> RigBinding:
    """Points [N, 3] beside the mesh tied to its three nearest vertices, the weaker the further off
    they are."""
    from scipy.spatial import cKDTree

    model = HEAD_MODELS[capture.head_model]()
    head = model.shaped(capture.identity)
    distances, vertices = cKDTree(head.vertices.numpy()).query(points.numpy(), k=3)
    distances = torch.from_numpy(distances).float()
    weights = 1 / distances.clamp_min(1e-4)
    weights = (
        weights
        / weights.sum(-1, keepdim=True)
        * torch.exp(-((distances[:, :1] / _RIG_REACH_M) ** 2))
    )
    return RigBinding(expression_shapes(head), torch.from_numpy(vertices).long(), weights)


def _depth_of(camera: Camera, point: Tensor) -> Tensor:
    return transform_points(camera.T_cam_world, point[None])[0, 2]


def _unproject(camera: Camera, pixels: Tensor, depth: Tensor) -> Tensor:
    """Points [M, 3] in the camera's world at pixels [M, 2] and one depth."""
    rays = torch.cat([pixels, torch.ones_like(pixels[:, :1])], -1) @ torch.linalg.inv(camera.K).T
    return transform_points(invert_transform(camera.T_cam_world), rays * depth)
