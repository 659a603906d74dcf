"""What renderers share about batches of images, and about features that are splatted as colours
are."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import torch

from likeness.ops import harmonics
from likeness.renderers.output import RenderOutput
from likeness.scene.camera import Camera
from likeness.scene.cloud import GaussianCloud


def check_batches(cloud: GaussianCloud, camera: Camera) -> tuple[int, ...]:
    """The batch shape of the images: the camera's and the cloud's, either of which may be
    unbatched (shared).

    Raises ValueError when both are batched and differ.
    """
    if cloud.batch_shape and camera.batch_shape and cloud.batch_shape != camera.batch_shape:
        raise ValueError(
            f"render: the camera's batch {list(camera.batch_shape)} and the cloud's "
            f"{list(cloud.batch_shape)} differ; expected equal ones, or one of them without a batch"
        )
    return camera.batch_shape or cloud.batch_shape


def splat_as_colours(
    render: Callable[[GaussianCloud, Camera], RenderOutput],
    cloud: GaussianCloud,
    camera: Camera,
    features: torch.Tensor,
) -> torch.Tensor:
    """``Renderer.splat`` by images, each of which shows three features as its colours."""
    maps = []
    for three in features.split(3, -1):
        padded = torch.nn.functional.pad(three, (0, 3 - three.shape[-1]))
        coloured = dataclasses.replace(cloud, sh=harmonics.from_rgb(padded)[:, None])
        maps.append(render(coloured, camera).rgb[..., : three.shape[-1]])
    return torch.cat(maps, -1)
