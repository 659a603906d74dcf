"""Seeds on what the mattes show beside the mesh: hair above the chin, neck and shoulders below."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from likeness.head_models import shaped_head
from likeness.head_models.base import ShapedHead
from likeness.head_models.surface import bind_to_skin
from likeness.renderers.mesh import rasterize_camera
from likeness.scene.camera import Camera
from likeness.scene.capture import Capture
from likeness.scene.frame_images import FrameStore
from likeness.scene.seeds import Seeds
from likeness.scene.transforms import invert_transform, transform_points
from likeness.seeding.config import SeedingConfig
from likeness.seeding.mesh import evenly_spread, mesh_seeds, round_cloud

# metres, head frame: the depth that hair outlines lie at
_SKULL_CENTRE = torch.tensor([0.0, 0.0, -0.09])
_GRID = 4  # pixels between candidates


def matte_seeds(capture: Capture, frames: FrameStore, config: SeedingConfig, seed: int) -> Seeds:
    """``mesh_share`` of ``num_gaussians`` seeds on the mesh, the rest where the mattes show a
    person, but no mesh: fewer where too little is seen there."""
    num_on_mesh = round(config.num_gaussians * config.mesh_share)
    on_mesh = dataclasses.replace(config, num_gaussians=max(num_on_mesh, 1))
    first = mesh_seeds(capture, frames, on_mesh, seed)
    generator = torch.Generator().manual_seed(seed + 1)
    head = shaped_head(capture)
    points, colours, sizes, weights = sample_off_mesh(
        capture, head, frames, config.frames, generator
    )
    count = min(config.num_gaussians - num_on_mesh, len(points))
    if count <= 0:
        return first
    drawn = torch.randperm(len(points), generator=generator)[:count]
    # Candidates are dense; the ones drawn must cover the same area.
    sizes = sizes[drawn] * (len(points) / count) ** 0.5
    cloud = round_cloud(points[drawn], colours[drawn], sizes, config.opacity)
    rig = bind_to_skin(head, points[drawn], first.rig.shapes)
    return Seeds.cat([first, Seeds(cloud, weights[drawn], rig)])


def sample_off_mesh(
    capture: Capture,
    head: ShapedHead,
    frames: FrameStore,
    num_frames: int,
    generator: torch.Generator,
) -> tuple[Tensor, ...]:
    """Points [M, 3] in the head frame at rest, colours [M, 3], sizes [M] in metres, head weights
    [M]."""
    chosen = evenly_spread(capture.train, num_frames)
    parts: list[tuple[Tensor, ...]] = []
    for index in chosen:
        frame = capture.frames[index]
        image, matte = (t.cpu() for t in frames.get(index))
        camera = frame.camera.in_frame(frame.state.T_world_head)
        raster = rasterize_camera(head.posed(frame.state).vertices, head.model.faces, camera)
        rows, columns = (torch.arange(0, side, _GRID) for side in (camera.height, camera.width))
        ys, xs = (grid.flatten() for grid in torch.meshgrid(rows, columns, indexing="ij"))
        free = (matte[ys, xs, 0] > 0.6) & ~torch.from_numpy(raster.mask)[ys, xs]
        ys, xs = ys[free], xs[free]
        jitter = torch.rand(2, len(ys), generator=generator) * _GRID
        pixels = torch.stack([xs + jitter[0], ys + jitter[1]], -1)
        depth = _depth_of(camera, _SKULL_CENTRE)
        in_head = _unproject(camera, pixels, depth)
        below = in_head[:, 1] < head.chin[1] - 0.02
        body_camera = frame.camera.in_frame(frame.state.T_world_body)
        in_body = _unproject(body_camera, pixels, _depth_of(body_camera, _SKULL_CENTRE))
        points = torch.where(below[:, None], in_body, in_head)
        size = _GRID * 0.6 * depth / camera.K[0, 0] / len(chosen) ** 0.5
        weights = torch.where(below, 0.03, 0.95)
        parts.append((points, image[ys, xs], size.expand(len(points)), weights))
    return tuple(torch.cat(column) for column in zip(*parts))


def _depth_of(camera: Camera, point: Tensor) -> Tensor:
    return transform_points(camera.T_cam_world, point[None])[0, 2]


def _unproject(camera: Camera, pixels: Tensor, depth: Tensor) -> Tensor:
    """Points [M, 3] in the camera's world at pixels [M, 2] and one depth."""
    rays = torch.cat([pixels, torch.ones_like(pixels[:, :1])], -1) @ torch.linalg.inv(camera.K).T
    return transform_points(invert_transform(camera.T_cam_world), rays * depth)
