"""What a finished fit hands on to measuring and reporting."""

from __future__ import annotations

import dataclasses

from likeness.fitting.bundle import AvatarBundle


@dataclasses.dataclass(frozen=True)
class FitResult:
    """bundle, baseline: the avatar, and the one that was fitted without expressions.

    seconds: of each fit. notes: what was left out or replaced, for people; recorded in the run.
    """

    bundle: AvatarBundle
    baseline: AvatarBundle
    seconds: dict[str, float]
    notes: dict[str, str]
