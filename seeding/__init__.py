"""Seeds from a capture: a Gaussian cloud that looks like the subject before anything is fitted."""

from __future__ import annotations

import torch

from likeness.scene.capture import Capture
from likeness.scene.cloud import GaussianCloud
from likeness.scene.frame_images import FrameStore
from likeness.scene.rig_binding import RigBinding
from likeness.scene.seeds import Seeds
from likeness.seeding.mesh import head_weights, sample_surface, seed_cloud, spread
from likeness.seeding.off_mesh import bind_to_nearest_vertices, sample_off_mesh
from likeness.seeding.painting import surface_colours

__all__ = ["seeds_from_pictures", "seeds_on_mesh"]

_HEAD_AREA_M2 = 0.13


def seeds_on_mesh(
    capture: Capture, frames: FrameStore, count: int, num_frames: int, opacity: float, seed: int
) -> Seeds:
    """``count`` seeds on the fitted head model's surface, coloured by training frames (HeadGaS,
    section 3.4).

    frames: holds the training frames; ``num_frames`` of them, evenly spread, give the colours.
    """
    generator = torch.Generator().manual_seed(seed)
    points, chin, rig = sample_surface(capture, count, generator)
    colours = surface_colours(capture, frames, spread(capture.train, num_frames), rig)
    spacing = 0.6 * (_HEAD_AREA_M2 / count) ** 0.5
    cloud = seed_cloud(points, colours, torch.full((len(points),), spacing), opacity)
    return Seeds(cloud, head_weights(points, chin), rig)


def seeds_from_pictures(
    capture: Capture,
    frames: FrameStore,
    count: int,
    mesh_share: float,
    num_frames: int,
    opacity: float,
    seed: int,
) -> Seeds:
    """``mesh_share`` of ``count`` seeds on the mesh, the rest where the mattes show a person, but
    no mesh.

    frames: as in ``seeds_on_mesh``. There are fewer seeds than ``count`` where too little is seen
        beside the mesh.
    """
    on_mesh = round(count * mesh_share)
    first = seeds_on_mesh(capture, frames, max(on_mesh, 1), num_frames, opacity, seed)
    generator = torch.Generator().manual_seed(seed + 1)
    points, colours, sizes, weights = sample_off_mesh(capture, frames, num_frames, generator)
    num_beside = min(count - on_mesh, len(points))
    if num_beside <= 0:
        return first
    drawn = torch.randperm(len(points), generator=generator)[:num_beside]
    # Candidates are dense; the ones drawn must cover the same area.
    grow = (len(points) / num_beside) ** 0.5
    second = seed_cloud(points[drawn], colours[drawn], sizes[drawn] * grow, opacity)
    joined = {
        name: torch.cat([a, second.fields()[name]]) for name, a in first.cloud.fields().items()
    }
    near = bind_to_nearest_vertices(capture, points[drawn])
    rig = RigBinding(
        first.rig.shapes,
        torch.cat([first.rig.vertices, near.vertices]),
        torch.cat([first.rig.weights, near.weights]),
    )
    return Seeds(GaussianCloud(**joined), torch.cat([first.head_weights, weights[drawn]]), rig)
