"""Avatars: pure functions from a head state to a Gaussian cloud. They know no renderer and no head model."""

from fitting.avatars.base import AvatarModel, AvatarShape, TrainingStates
from fitting.avatars.gaussianhead import GaussianHead
from fitting.avatars.headgas import HeadGaS
from fitting.avatars.linear import Linear
from fitting.avatars.rigged import Rigged

AVATARS: dict[str, type[AvatarModel]] = {
    "headgas": HeadGaS,
    "gaussianhead": GaussianHead,
    "linear": Linear,
    "rigged": Rigged,
}

__all__ = ["AVATARS", "AvatarModel", "AvatarShape", "TrainingStates"]
