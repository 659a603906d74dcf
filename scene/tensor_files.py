"""Tensors on disk: safetensors, whole or absent, nothing that is executed."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from torch import Tensor

from scene.errors import UserError
from scene.files import atomic_path


def save_tensors(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str] | None = None) -> None:
    """Writes tensors by name. Raises UserError when the disk is full or the folder cannot be written to."""
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    with atomic_path(path) as temporary:
        try:
            save_file(
                {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, temporary, metadata
            )
        except SafetensorError as error:
            # The library wraps what the system said; only its text tells a full disk.
            for number in (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS):
                if f"os error {number})" in str(error):
                    raise OSError(number, os.strerror(number), str(path)) from error
            raise


def load_tensors(path: Path) -> dict[str, Tensor]:
    """Reads tensors by name; UserError when the file is missing or damaged."""
    return load_tensors_and_metadata(path)[0]


def load_tensors_and_metadata(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Reads tensors by name and the texts beside them; UserError when the file is missing or damaged."""
    from safetensors import SafetensorError, safe_open

    if not Path(path).is_file():
        raise UserError(f"{path}: missing")
    try:
        with safe_open(path, "pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}
    except (SafetensorError, OSError, ValueError) as error:
        raise UserError(f"{path}: damaged ({error}); make it anew") from None
