"""Avatars: pure functions from a head state to a Gaussian cloud. They know no renderer and no head
model."""

from likeness.fitting.avatars.base import AvatarModel, AvatarShape, FrozenAvatar, TrainingStates
from likeness.fitting.avatars.gaussianhead import GaussianHead
from likeness.fitting.avatars.headgas import HeadGaS
from likeness.fitting.avatars.linear import Linear
from likeness.fitting.avatars.rigged import Rigged

AVATARS: dict[str, type[AvatarModel]] = {
    "headgas": HeadGaS,
    "gaussianhead": GaussianHead,
    "linear": Linear,
    "rigged": Rigged,
}

__all__ = ["AVATARS", "AvatarModel", "AvatarShape", "FrozenAvatar", "TrainingStates"]
