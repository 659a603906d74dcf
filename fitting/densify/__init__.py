"""Densifiers: what decides how many Gaussians there are, and where."""

from likeness.fitting.densify.adaptive import AdaptiveConfig, AdaptiveDensifier
from likeness.fitting.densify.base import Densifier

DENSIFIERS: dict[str, type[Densifier]] = {"adaptive": AdaptiveDensifier, "none": Densifier}

__all__ = ["DENSIFIERS", "AdaptiveConfig", "AdaptiveDensifier", "Densifier"]
