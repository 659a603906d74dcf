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
from likeness.fitting.optimizers import Surgery
from likeness.renderers.output import RenderOutput, ScreenRequest
from likeness.scene.bounds import Gaussians, NonNegative, Share, Steps
from likeness.scene.cloud import GaussianCloud
from likeness.scene.extent import SCENE_EXTENT_M
from likeness.scene.tensor_files import Array
from likeness.scene.transforms import normalize_quats, quats_to_matrices

# by which the scales of the two halves of a split Gaussian are divided (Kerbl et al. 2023)
_SPLIT = 1.6


@dataclasses.dataclass(frozen=True)
class AdaptiveConfig:
    """Thresholds of adaptive density control. Iterations are nominal: they scale with the fit's
    budget."""

    start: Steps = 500
    """First iteration of densification."""
    stop: Steps = 15_000
    """Last iteration of densification."""
    every: Steps = 100
    """Iterations between two rounds."""
    min_observations: Steps = 40
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


class AdaptiveDensifier:
    """See the module; follows the protocol of ``likeness.fitting.densify.base``."""

    def __init__(self, config: AdaptiveConfig) -> None:
        self.config = config
        self._seen = 0
        self._last_round = float(config.start)
        self._gradients: Tensor | None = None
        self._counts: Tensor | None = None
        self._opacities: Tensor | None = None

    def wants_screen(self, step: float) -> ScreenRequest:
        return step < self.config.stop and ("absolute" if self.config.absolute_gradients else True)

    def observe(self, output: RenderOutput, cloud: GaussianCloud, image_size: int) -> None:
        screen = output.screen
        if screen is None or screen.means2d.grad is None:
            return
        gradient = screen.means2d.absgrad if self.config.absolute_gradients else screen.means2d.grad
        count = cloud.num_gaussians
        visible, opacities = (
            tensor.detach().reshape(-1, count) for tensor in (screen.visible, cloud.opacities)
        )
        pictures = len(visible)
        # From pixels to normalised device coordinates, which span two units; the loss is a mean
        # over the pictures, each of which counts as if it had come alone.
        norms = gradient.reshape(-1, count, 2).norm(dim=-1) * (pictures * image_size / 2)
        if self._gradients is None or len(self._gradients) != count:
            self._forget(count, norms.device)
        self._gradients += torch.where(visible, norms, 0).sum(0)
        self._counts += visible.sum(0)
        self._opacities = torch.maximum(self._opacities, opacities.amax(0))
        self._seen += pictures

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
            # Kept ones (a split one stays as its first half), then clones, then the second halves.
            source = torch.cat([index[keep], index[clone], index[split]])
            fresh = torch.cat(
                [split[keep], torch.ones_like(source[int(keep.sum()) :], dtype=torch.bool)]
            )
            halves = torch.cat([split[keep], split[clone], split[split]])
            means, log_scales = p["means"][source].clone(), p["log_scales"][source].clone()
            noise = torch.randn(means.shape, generator=generator).to(means)
            turn = quats_to_matrices(normalize_quats(p["quats"][source][halves]))
            means[halves] += (turn @ (noise[halves] * scales[source][halves])[..., None])[..., 0]
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
        if self._gradients is not None:
            state |= {
                "gradients": self._gradients,
                "counts": self._counts,
                "opacities": self._opacities,
            }
        return state

    def declared(self) -> dict[str, Array]:
        seen = {
            name: Array(("N",), low=0, optional=True)
            for name in ("gradients", "counts", "opacities")
        }
        return {"progress": Array((2,), "float64", low=0)} | seen

    def load(self, state: dict[str, Tensor]) -> None:
        self._seen, self._last_round = int(state["progress"][0]), float(state["progress"][1])
        if "gradients" in state:
            self._gradients, self._counts = state["gradients"].clone(), state["counts"].clone()
            self._opacities = state["opacities"].clone()


class NoDensifier:
    """Leaves the Gaussians as they are."""

    def __init__(self, config: AdaptiveConfig) -> None:
        del config

    def wants_screen(self, step: float) -> ScreenRequest:
        return False

    def observe(self, output: RenderOutput, cloud: GaussianCloud, image_size: int) -> None:
        return None

    def plan(self, step: float, avatar: AvatarModel, generator: torch.Generator) -> Surgery | None:
        return None

    def state(self) -> dict[str, Tensor]:
        return {}

    def declared(self) -> dict[str, Array]:
        return {}

    def load(self, state: dict[str, Tensor]) -> None:
        return None
