"""In how few bits a bundle's tensors can be stored before its images show it."""

from __future__ import annotations

import copy
import dataclasses

import torch

from likeness.export.fidelity import MAX_LOSS_DB, agreement, images, loss_db, some
from likeness.fitting.bundle import AvatarBundle
from likeness.ops.quantization import pack, unpack
from likeness.scene.head_state import HeadState

_LARGE = 4096  # elements: smaller tensors are not worth it
# bounded: whole numbers are finer than half precision
_FINE = ("means", "quats", "log_scales", "head_logits")
_PREFIX = "avatar."


def halved(bundle: AvatarBundle) -> dict[str, str]:
    """Encodings in 16 bits of all that is large, and of integers in the smallest type that holds
    them."""
    encodings = {}
    for name, tensor in bundle.avatar.state_dict().items():
        if tensor.numel() < _LARGE or tensor.dtype == torch.bool:
            continue
        if not tensor.is_floating_point():
            encodings[_PREFIX + name] = "narrowed"
        else:
            fine = name.removeprefix("per_gaussian.") in _FINE
            encodings[_PREFIX + name] = "int16" if fine else "float16"
    return encodings


def quantised(bundle: AvatarBundle, states: HeadState, progress=None) -> dict[str, str]:
    """Encodings as ``halved``, and in 8 bits those per-Gaussian tensors, the largest first, that
    keep the loss at ``states`` within MAX_LOSS_DB, all together."""
    few = some(states)
    expected, encodings = images(bundle, few), halved(bundle)
    tensors = bundle.tensors()
    candidates = [
        name for name, encoding in encodings.items() if encoding != "narrowed" and _by_channel(name)
    ]
    for name in sorted(candidates, key=lambda name: -tensors[name].numel()):
        trial = {**encodings, name: "int8"}
        if loss_db(agreement(images(as_stored(bundle, trial), few), expected)) <= MAX_LOSS_DB:
            encodings = trial
        if progress is not None:
            progress()
    return encodings


def as_stored(bundle: AvatarBundle, encodings: dict[str, str]) -> AvatarBundle:
    """The bundle as it will be read again."""
    tensors = unpack(*pack({name: bundle.tensors()[name] for name in encodings}, encodings))
    avatar = copy.deepcopy(bundle.avatar)
    state = avatar.state_dict() | {
        name.removeprefix(_PREFIX): tensor for name, tensor in tensors.items()
    }
    avatar.load_state_dict(state)
    return dataclasses.replace(bundle, avatar=avatar)


def _by_channel(name: str) -> bool:
    """Whether a tensor's first dimension is that of the Gaussians, so that each channel has a range
    of its own."""
    return name.startswith(f"{_PREFIX}per_gaussian.")
