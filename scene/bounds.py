"""Types of settings with the bounds within which they mean something; a value beyond them is
refused before it is used.

Upper bounds are generous; they keep a slip of the keyboard, or a file of unknown origin, from
asking for more than any machine has.
"""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

MAX_WHOLE = 10**9
"""No option and no setting takes a larger whole number, but for seeds."""
MAX_NUMBER = 1e6
"""Nor a larger number of minutes, seconds, or anything else."""

SmallCount = Annotated[int, Meta(ge=1, le=32)]
"""Layers, scales."""
Count = Annotated[int, Meta(ge=1, le=1000)]
"""Frames or images of a step, components, degrees of parallelism."""
CountOrZero = Annotated[int, Meta(ge=0, le=1000)]
"""The same where 0 means none."""
LargeCount = Annotated[int, Meta(ge=0, le=MAX_WHOLE)]
"""Iterations, frames of a clip, tokens."""
Gaussians = Annotated[int, Meta(ge=1, le=50_000_000)]
Size = Annotated[int, Meta(ge=1, le=2048)]
"""Channels or units of a layer, cells along a side."""
Frequencies = Annotated[int, Meta(ge=0, le=24)]
"""Octaves of a positional code: 2^24 is as fine as float32."""
Degree = Annotated[int, Meta(ge=0, le=3)]
"""Of spherical harmonics."""
Pixels = Annotated[int, Meta(ge=16, le=8192)]
Share = Annotated[float, Meta(ge=0, le=1)]
NonNegative = Annotated[float, Meta(ge=0, le=MAX_NUMBER)]
Weight = NonNegative
"""Of a loss or a penalty."""
Positive = Annotated[float, Meta(gt=0, le=MAX_NUMBER)]
Rate = Annotated[float, Meta(ge=0, le=10)]
RatePair = tuple[Rate, Rate]
"""Learning rates at the start and at the end."""
