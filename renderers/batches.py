"""Batches for renderers that render one picture at a time."""

from __future__ import annotations

from collections.abc import Callable

import torch

from renderers.output import RenderOutput, ScreenStats
from scene.camera import Camera
from scene.cloud import GaussianCloud


def check_batches(cloud: GaussianCloud, camera: Camera) -> tuple[int, ...]:
    """The batch shape of the pictures: the camera's and the cloud's, either of which may be unbatched (shared).

    Raises ValueError when both are batched and differ.
    """
    if cloud.batch_shape and camera.batch_shape and cloud.batch_shape != camera.batch_shape:
        raise ValueError(
            f"render: the camera's batch {list(camera.batch_shape)} and the cloud's {list(cloud.batch_shape)} differ; "
            "expected equal ones, or one of them without a batch"
        )
    return camera.batch_shape or cloud.batch_shape


def render_batch(
    render_one: Callable[[GaussianCloud, Camera, bool, bool], RenderOutput],
    cloud: GaussianCloud,
    camera: Camera,
    *,
    depth: bool,
    screen: bool,
) -> RenderOutput:
    """Renders the pictures of a batch one by one with ``render_one(cloud, camera, depth, screen)`` and stacks them."""
    batch = check_batches(cloud, camera)
    if not batch:
        return render_one(cloud, camera, depth, screen)
    outputs = []
    for index in torch.cartesian_prod(*[torch.arange(size) for size in batch]).reshape(-1, len(batch)).tolist():
        one_cloud = cloud[tuple(index)] if cloud.batch_shape else cloud
        one_camera = camera[tuple(index)] if camera.batch_shape else camera
        outputs.append(render_one(one_cloud, one_camera, depth, screen))

    def stack(parts: list[torch.Tensor]) -> torch.Tensor:
        return torch.stack(parts).reshape(*batch, *parts[0].shape)

    stats = [output.screen for output in outputs]
    return RenderOutput(
        stack([output.rgb for output in outputs]),
        stack([output.alpha for output in outputs]),
        stack([output.depth for output in outputs]) if depth else None,
        ScreenStats(*(stack([getattr(s, name) for s in stats]) for name in ("means2d", "radii", "visible")))
        if screen
        else None,
    )
