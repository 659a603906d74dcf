"""Adaptive density control (Kerbl et al. 2023, section 5.2), as HeadGaS uses it.

Opacities depend on the expression here, so that a Gaussian is pruned only when it was faint in
every frame since the last time; and they come from a network, so that the original's reset of
opacities has nothing to act on.
"""

from __future__ import annotations

import dataclasses
import math

import torch
from torch import Tensor

from likeness.fitting.avatars import AvatarModel
from likeness.fitting.densify.base import Densifier
from likeness.fitting.optimizers import Surgery
from likeness.renderers.output import RenderOutput, ScreenRequest
from likeness.scene.bounds import Gaussians, LargeCount, NonNegative, Share
from likeness.scene.cloud import GaussianCloud
from likeness.scene.extent import SCENE_EXTENT_M
from likeness.scene.tensor_files import Array
from likeness.scene.transforms import normalize_quats, quats_to_matrices

# by which the scales of the two halves of a split Gaussian are divided (Kerbl et al. 2023)
_SPLIT = 1.6
_SUMS = "gradients", "counts", "opacities"  # what is summed up between two rounds, [N] each


@dataclasses.dataclass(frozen=True)
class AdaptiveConfig:
    """Thresholds of adaptive density control. Iterations are nominal: they scale with the fit's
    budget."""

    start: LargeCount = 500
    """First iteration of densification."""
    stop: LargeCount = 15_000
    """Last iteration of densification."""
    every: LargeCount = 100
    """Iterations between two rounds."""
    min_observations: LargeCount = 40
    """Rounds wait until so many renderings were seen, whatever the budget."""
    gradient_threshold: NonNegative = 2e-4
    """Mean gradient of the screen position, in normalised device coordinates, above which a
    Gaussian is doubled."""
    absolute_gradients: bool = False
    """Sum absolute per-pixel gradients (AbsGS) instead of the gradient of the sum; needs a higher
    threshold."""
    split_scale: NonNegative = 0.01 * SCENE_EXTENT_M
    """Metres: larger Gaussians are split, smaller ones cloned. 1% of the scene (Kerbl et al.
    2023)."""
    prune_opacity: Share = 0.005
    """Gaussians fainter than this in every frame seen are removed."""
    prune_scale: NonNegative = 0.1 * SCENE_EXTENT_M
    """Metres: larger Gaussians are removed, unless a split makes them small enough. 10% of the
    scene (Kerbl et al.)."""
    max_gaussians: Gaussians | None = None
    """No growth beyond this number; null: without limit, as in the papers (a fit of HeadGaS at 512²
    takes 4 GB with 40 000)."""


class AdaptiveDensifier(Densifier):
    """See the module."""

    config: AdaptiveConfig

    def __init__(self, config: AdaptiveConfig) -> None:
        super().__init__(config)
        self._last_round = float(config.start)
        self._forget(0, torch.device("cpu"))

    def wants_screen(self, step: float) -> ScreenRequest:
        return step < self.config.stop and ("absolute" if self.config.absolute_gradients else True)

    def observe(self, output: RenderOutput, cloud: GaussianCloud, image_size: int) -> None:
        screen = output.screen
        if screen is None or screen.means2d.grad is None:
            return
        gradient = screen.means2d.grad
        if self.config.absolute_gradients:
            assert screen.absgrad is not None, "asked for by wants_screen"
            gradient = screen.absgrad
        count = cloud.num_gaussians
        visible = screen.visible.detach().reshape(-1, count)
        opacities = cloud.opacities.detach().reshape(-1, count)
        images = len(visible)
        # From pixels to normalised device coordinates, which span two units; the loss is a mean
        # over the images, each of which counts as if it had come alone.
        norms = gradient.reshape(-1, count, 2).norm(dim=-1) * (images * image_size / 2)
        if len(self._gradients) != count:
            self._forget(count, norms.device)
        self._gradients += torch.where(visible, norms, 0).sum(0)
        self._counts += visible.sum(0)
        self._opacities = torch.maximum(self._opacities, opacities.amax(0))
        self._seen += images

    def plan(self, step: float, avatar: AvatarModel, generator: torch.Generator) -> Surgery | None:
        config = self.config
        due = config.start <= step < config.stop and step - self._last_round >= config.every
        if not due or self._seen < config.min_observations:
            return None
        surgery = self._surgery(avatar, generator)
        self._last_round = step
        self._forget(len(surgery.source), surgery.source.device)
        return surgery

    def _surgery(self, avatar: AvatarModel, generator: torch.Generator) -> Surgery:
        config, p = self.config, avatar.per_gaussian
        with torch.no_grad():
            scales = p["log_scales"].exp()
            largest = scales.amax(-1)
            mean_gradient = self._gradients / self._counts.clamp_min(1)
            seen = self._opacities >= config.prune_opacity
            grow = seen & (mean_gradient >= config.gradient_threshold)
            # As in the original, what is to be split is judged by the size of its halves.
            keep = seen & (self._largest_after(grow, largest) <= config.prune_scale)
            grow &= keep
            if config.max_gaussians is not None:
                room = max(config.max_gaussians - int(keep.sum()), 0)
                if int(grow.sum()) > room:
                    best = torch.where(grow, mean_gradient, -1).topk(room).indices
                    grow = torch.zeros_like(grow)
                    grow[best] = True
                    keep &= self._largest_after(grow, largest) <= config.prune_scale
            if not keep.any():
                keep[self._opacities.argmax()] = True
                grow &= keep
            split = grow & (largest > config.split_scale)
            clone = grow & ~split
            index = torch.arange(len(keep), device=keep.device)
            # Survivors (a split one stays as its first half), then clones, then the second halves.
            source = torch.cat([index[keep], index[clone], index[split]])
            fresh = torch.cat(
                [split[keep], torch.ones_like(source[int(keep.sum()) :], dtype=torch.bool)]
            )
            halves = torch.cat([split[keep], split[clone], split[split]])
            means, log_scales = p["means"][source].clone(), p["log_scales"][source].clone()
            noise = torch.randn(means.shape, generator=generator).to(means)
            rotation = quats_to_matrices(normalize_quats(p["quats"][source][halves]))
            offsets = noise[halves] * scales[source][halves]
            means[halves] += (rotation @ offsets[..., None])[..., 0]
            log_scales[halves] -= math.log(_SPLIT)
        return Surgery(source, fresh, {"means": means, "log_scales": log_scales})

    def _largest_after(self, grow: Tensor, largest: Tensor) -> Tensor:
        """Largest standard deviations [N] when those that ``grow`` says have grown, of ``largest``
        [N] before."""
        return torch.where(grow & (largest > self.config.split_scale), largest / _SPLIT, largest)

    def _forget(self, count: int, device: torch.device) -> None:
        self._seen = 0
        self._gradients = torch.zeros(count, device=device)
        self._counts = torch.zeros(count, device=device)
        self._opacities = torch.zeros(count, device=device)

    def state(self) -> dict[str, Tensor]:
        state = {"progress": torch.tensor([self._seen, self._last_round], dtype=torch.float64)}
        if len(self._gradients):
            state |= {name: getattr(self, f"_{name}") for name in _SUMS}
        return state

    def declared(self) -> dict[str, Array]:
        sums = {name: Array(("N",), low=0, optional=True) for name in _SUMS}
        return {"progress": Array((2,), "float64", low=0)} | sums

    def load(self, state: dict[str, Tensor]) -> None:
        self._seen, self._last_round = int(state["progress"][0]), float(state["progress"][1])
        if "gradients" in state:
            for name in _SUMS:
                setattr(self, f"_{name}", state[name].clone())
