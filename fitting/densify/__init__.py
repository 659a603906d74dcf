"""Densifiers: what decides how many Gaussians there are, and where."""

from likeness.fitting.densify.adaptive import AdaptiveConfig, AdaptiveDensifier, NoDensifier
from likeness.fitting.densify.base import Densifier

DENSIFIERS: dict[str, type] = {"adaptive": AdaptiveDensifier, "none": NoDensifier}

__all__ = ["DENSIFIERS", "AdaptiveConfig", "AdaptiveDensifier", "Densifier", "NoDensifier"]
