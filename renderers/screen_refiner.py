"""A small network that corrects rendered images: the neural renderer of GAGAvatar (Chu and Harada
2024, section 3.4).

Gaussians carry a few features beside their colour. They are splatted with the same geometry, and a
light U-Net turns colour, alpha and features into a correction of the colour and of the odds of
alpha, which can make soft outlines sharp.
Its last layer starts at zero: before training the refined image is the coarse one. Where alpha is
    0 or 1 it stays so,
and colours stay premultiplied: any background can be put behind a refined image, too.

It sees images of ``RefinerConfig.size`` pixels whatever the size that is shown: what it has
learned is of that scale.
"""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor, nn

from likeness.renderers import Renderer
from likeness.renderers.output import RenderOutput
from likeness.scene.bounds import Count, CountOrZero, Pixels
from likeness.scene.camera import Camera
from likeness.scene.cloud import GaussianCloud

_LARGEST = 0.5  # most that a channel of opaque colour is changed
_MAX_ODDS = 6.0  # most that the logarithm of alpha's odds is changed
_GRAIN = 8  # sides in pixels are multiples of it: it shrinks images three times by half


@dataclasses.dataclass(frozen=True)
class RefinerConfig:
    """The refiner of rendered images (GAGAvatar's neural renderer)."""

    enabled: bool = False
    """Off: images are shown as they are rendered, as files of Gaussians and web pages always
    do."""
    features: CountOrZero = 3
    """Learned numbers per Gaussian beside its colour (GAGAvatar: 32); every three cost another pass
    of the renderer at half resolution on a CPU, all one on CUDA. 0: it sees colour and alpha
    alone."""
    width: Count = 16
    """Channels of the U-Net at half resolution; twice and four times as many below."""
    size: Pixels = 256
    """The longer side of what it sees, in pixels."""


class ScreenRefiner(nn.Module):
    """See the module."""

    def __init__(self, config: RefinerConfig) -> None:
        super().__init__()
        self.config, width = config, config.width
        self.enter = nn.Conv2d(4 * 4 + config.features, width, 3, padding=1)
        self.down = nn.ModuleList(_stage(width << level) for level in range(2))
        self.up = nn.ModuleList(
            nn.Conv2d(width << level + 1, width << level, 1) for level in range(2)
        )
        self.join = nn.ModuleList(
            nn.Conv2d(width << level, width << level, 3, padding=1) for level in range(2)
        )
        self.exit = nn.Conv2d(width, 4 * 4, 3, padding=1)
        nn.init.zeros_(self.exit.weight)
        if self.exit.bias is not None:
            nn.init.zeros_(self.exit.bias)

    def working_size(self, width: int, height: int) -> tuple[int, int]:
        """Width and height of what it sees of an image; multiples of 8."""
        scale = self.config.size / max(width, height)
        width, height = (max(round(side * scale / _GRAIN), 1) * _GRAIN for side in (width, height))
        return width, height

    def forward(self, rgb: Tensor, alpha: Tensor, features: Tensor | None) -> tuple[Tensor, Tensor]:
        """Refined colour [H, W, 3] and alpha [H, W, 1] of premultiplied colour, alpha and splatted
        features [h, w, F] at half the working size (None where there are none)."""
        height, width = rgb.shape[:2]
        columns, rows = self.working_size(width, height)
        seen = _resized(torch.cat([rgb, alpha], -1).movedim(-1, 0)[None], (rows, columns))
        x = nn.functional.pixel_unshuffle(seen, 2)
        if features is not None:
            x = torch.cat([x, features.movedim(-1, 0)[None]], 1)
        change = nn.functional.pixel_shuffle(self.exit(self._body(self.enter(x))), 2)
        change = _resized(change, (height, width))[0].movedim(0, -1)
        colour = change[..., :3].clamp(-_LARGEST, _LARGEST)
        odds = change[..., 3:].clamp(-_MAX_ODDS, _MAX_ODDS).exp()
        growth = odds / (1 + alpha * (odds - 1))
        return (rgb + alpha * colour) * growth, alpha * growth

    def _body(self, x: Tensor) -> Tensor:
        x = nn.functional.relu(x)
        above = []
        for stage in self.down:
            above.append(x)
            x = stage(x)
        for level in (1, 0):
            x = (
                nn.functional.interpolate(self.up[level](x), scale_factor=2, mode="nearest")
                + above[level]
            )
            x = nn.functional.relu(self.join[level](x))
        return x


def feature_head(inputs: int, config: RefinerConfig, planes: int = 1) -> nn.Module | None:
    """From ``inputs`` channels to ``planes`` Gaussians' features in [0, 1], [*b, planes F]; None
    without features."""
    if not (config.enabled and config.features):
        return None
    linear = nn.Linear(inputs, planes * config.features)
    # spread over [0, 1]: random, but telling, before anything is learned
    nn.init.normal_(linear.weight, std=0.3)
    return nn.Sequential(linear, nn.Sigmoid())


def _stage(width: int) -> nn.Sequential:
    """Half the resolution, twice the channels."""
    return nn.Sequential(
        nn.Conv2d(width, 2 * width, 3, 2, 1),
        nn.ReLU(),
        nn.Conv2d(2 * width, 2 * width, 3, padding=1),
        nn.ReLU(),
    )


def _resized(images: Tensor, size: tuple[int, int]) -> Tensor:
    """[1, C, H, W] to another height and width; averages where it shrinks."""
    height, width = images.shape[-2:]
    if (height, width) == size:
        return images
    if height % size[0] == width % size[1] == 0:  # the same as "area", six times as fast
        return nn.functional.avg_pool2d(images, (height // size[0], width // size[1]))
    if size[0] < height:
        return nn.functional.interpolate(images, size, mode="area")
    return nn.functional.interpolate(images, size, mode="bilinear", align_corners=False)


@dataclasses.dataclass(frozen=True)
class Refinement:
    """A refiner and the features [N, F] in [0, 1] of the Gaussians of one avatar."""

    network: ScreenRefiner
    features: Tensor

    def __post_init__(self) -> None:
        expected = self.network.config.features
        if self.features.ndim != 2 or self.features.shape[1] != expected:
            raise ValueError(
                f"Refinement.features: expected [N, {expected}], got {list(self.features.shape)}"
            )

    @classmethod
    def of(cls, network: ScreenRefiner, features: Tensor | None, count: int) -> Refinement:
        """For ``count`` Gaussians, whose features may be None where the refiner reads none."""
        return cls(
            network, network.exit.weight.new_zeros(count, 0) if features is None else features
        )

    def __call__(
        self, output: RenderOutput, renderer: Renderer, cloud: GaussianCloud, camera: Camera
    ) -> RenderOutput:
        """What a renderer made of a cloud [N] by a camera, refined; depth as it was."""
        if len(self.features) != cloud.num_gaussians:
            raise ValueError(
                f"Refinement.features: of {len(self.features)} Gaussians, the cloud has "
                f"{cloud.num_gaussians}"
            )
        maps = None
        if self.network.config.features:
            width, height = self.network.working_size(camera.width, camera.height)
            maps = renderer.splat(cloud, camera.resized(width // 2, height // 2), self.features)
        rgb, alpha = self.network(output.rgb, output.alpha, maps)
        return dataclasses.replace(output, rgb=rgb, alpha=alpha)

    def to(self, device: torch.device | str) -> Refinement:
        """A copy on a device that wants no gradients."""
        network = ScreenRefiner(self.network.config)
        network.load_state_dict(self.network.state_dict())
        # channels last: a quarter faster on CPUs
        network = network.to(device).to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        return Refinement(network.eval().requires_grad_(False), self.features.detach().to(device))
