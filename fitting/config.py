"""The whole configuration of a fit. Presets in ``configs/`` hold what differs from these
defaults."""

from __future__ import annotations

import dataclasses

from likeness.fitting.avatars import AVATARS
from likeness.fitting.avatars.base import AvatarConfig
from likeness.fitting.avatars.gaussianhead import GaussianHeadConfig
from likeness.fitting.avatars.headgas import HeadGaSConfig
from likeness.fitting.avatars.linear import LinearConfig
from likeness.fitting.avatars.rigged import RiggedConfig
from likeness.fitting.densify import DENSIFIERS, AdaptiveConfig
from likeness.fitting.networks import NetworksConfig
from likeness.fitting.objective import ObjectiveConfig
from likeness.fitting.optimizers import OptimizerConfig
from likeness.fitting.seedings import SEEDINGS
from likeness.scene.bounds import Count, LargeCount, NonNegative, Share
from likeness.scene.errors import UserError
from likeness.seeding.config import SeedingConfig


@dataclasses.dataclass(frozen=True)
class ScheduleConfig:
    """How long a fit lasts and what happens when. All iterations are nominal: a smaller budget
    compresses them."""

    iterations: LargeCount = 50_000
    """Length of the whole fit when neither minutes nor iterations are given, and the unit of all
    other schedules."""
    min_iterations: LargeCount = 0
    """A fit of fewer iterations than this is announced as too short for its preset, before it
    starts."""
    cpu_minutes: NonNegative = 0.0
    """Minutes that a fit on a CPU takes when nothing else is said; 0: the full iterations there
    too."""
    batch: Count = 1
    """Training frames that a step takes: all different, drawn in one go, their losses averaged.
    Iterations are steps, whatever they take, and learning rates are per step. More than one is
    meant for GPUs, which single images leave idle, and for many cores, which then render an image
    each. ``--refine`` takes one image at a time."""
    half_resolution_until: LargeCount = 0
    """Until this iteration images are rendered and compared at half the resolution."""
    short_fit_exponent: Share = 0.0
    """A fit of fewer iterations than its own takes larger steps: its learning rates times (own /
    taken) to this power; 0, as in the papers: the same rates whatever the budget."""
    expressions: bool = True
    """Off: the avatar never sees an expression (the baseline that an avatar must beat)."""


@dataclasses.dataclass(frozen=True)
class FitConfig:
    """One fit."""

    headgas: HeadGaSConfig = HeadGaSConfig()
    """Settings of this avatar; likewise those below it."""
    gaussianhead: GaussianHeadConfig = GaussianHeadConfig()
    """See above."""
    linear: LinearConfig = LinearConfig()
    """See above."""
    rigged: RiggedConfig = RiggedConfig()
    """See above."""
    avatar: str = "headgas"
    """Which model: headgas, gaussianhead, linear or rigged (a name in AVATARS); its settings are
    the section of that name."""
    initializer: str = "mesh"
    """Where the Gaussians start: mesh, picture, lifted, one_shot or random (a name in SEEDINGS)."""
    seeds: SeedingConfig = SeedingConfig()
    """The initializer's settings."""
    optimizer: OptimizerConfig = OptimizerConfig()
    """Learning rates."""
    densifier: str = "adaptive"
    """What adds and removes Gaussians: adaptive or none (a name in DENSIFIERS)."""
    densify: AdaptiveConfig = AdaptiveConfig()
    """The densifier's settings."""
    objective: ObjectiveConfig = ObjectiveConfig()
    """The loss."""
    schedule: ScheduleConfig = ScheduleConfig()
    """Lengths and stages."""
    networks: NetworksConfig = NetworksConfig()
    """What evaluates the finished avatar's networks."""

    def __post_init__(self) -> None:
        for field, known in (
            ("avatar", AVATARS),
            ("initializer", SEEDINGS),
            ("densifier", DENSIFIERS),
        ):
            if (name := getattr(self, field)) not in known:
                raise UserError(f"{field}: expected one of {', '.join(known)}, got {name!r}")

    def avatar_config(self) -> AvatarConfig:
        """The settings of the chosen avatar: its section, or its defaults where there is none."""
        return getattr(self, self.avatar, None) or AVATARS[self.avatar].Config()
