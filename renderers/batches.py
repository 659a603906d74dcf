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

    return RenderOutput(
        stack([output.rgb for output in outputs]),
        stack([output.alpha for output in outputs]),
        stack([output.depth for output in outputs]) if depth else None,
        _join([output.screen for output in outputs], stack) if screen else None,
    )


def _join(parts: list[ScreenStats], stack: Callable[[list[torch.Tensor]], torch.Tensor]) -> ScreenStats:
    means2d = stack([part.means2d.detach() for part in parts]).requires_grad_()
    for index, part in enumerate(parts):
        part.means2d.part_of = means2d, index
    return ScreenStats(means2d, stack([part.radii for part in parts]), stack([part.visible for part in parts]))


def add_screen_gradients(means2d: torch.Tensor, **gradients: torch.Tensor) -> None:
    """Adds ``grad`` and ``absgrad`` [N, 2] to the screen means [N, 2] of a picture, and of the batch it is part of."""
    whole, index = getattr(means2d, "part_of", (None, 0))
    for name, value in gradients.items():
        before = getattr(means2d, name, None)
        setattr(means2d, name, value if before is None else before + value)
        if whole is not None:
            if getattr(whole, name, None) is None:
                setattr(whole, name, torch.zeros_like(whole))
            getattr(whole, name).view(-1, *value.shape)[index] += value
