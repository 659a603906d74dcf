"""Files of trained weights: safetensors whose header says version, configuration, head model and
what they hold."""

from __future__ import annotations

import functools
import hashlib
import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from likeness.one_shot.config import OneShotConfig
from likeness.one_shot.network import OneShotNetwork, is_of_refiner
from likeness.scene.config_files import apply, to_dict
from likeness.scene.errors import UserError
from likeness.scene.reading import decode_json
from likeness.scene.tensor_files import read_header, read_tensors, save_tensors

SHIPPED = Path(__file__).parent / "assets" / "one_shot.safetensors"
FORMAT, FORMAT_VERSION = "one_shot", 1
_WHAT, _REMEDY = "weights of the one-shot network", "copy or train it again"
# a published network inside ours: found by its own hash, not stored
_PUBLISHED = "backbone.vision."


def save(
    path: Path,
    tensors: dict[str, Tensor],
    config: OneShotConfig,
    head_model: str,
    facts: dict[str, Any],
) -> None:
    """Writes weights by the network's names. facts: plain values for the model card: data, steps,
    figures."""
    stored = {
        name: value.detach().cpu()
        for name, value in tensors.items()
        if not name.startswith(_PUBLISHED)
    }
    header = {
        "format": FORMAT,
        "format_version": str(FORMAT_VERSION),
        "config": json.dumps(to_dict(config)),
        "head_model": head_model,
        "sha256": _digest(stored),
        "facts": json.dumps(facts),
    }
    save_tensors(path, stored, header)


def load(
    path: Path | None = None, folder: Path | None = None, download: bool = True
) -> tuple[OneShotNetwork, str]:
    """The network of a file (the shipped one if none), ready to be asked, and the name of its head
    model.

    folder, download: where the published weights of a pretrained backbone may come from.
    Raises UserError when the file is missing, damaged, of another kind or of another version.
    """
    path = SHIPPED if path is None else Path(path)
    if not path.is_file():
        raise UserError(
            f"{path}: the one-shot network's weights are not here; train some with likeness train "
            "and name them "
            "with --set seeds.weights=FILE, or choose another initializer"
        )
    return _loaded(path, path.stat().st_mtime_ns, folder, download)


@functools.lru_cache(maxsize=2)
def _loaded(
    path: Path, changed: int, folder: Path | None, download: bool
) -> tuple[OneShotNetwork, str]:
    del changed  # only a part of the key
    tensors, config, head_model = _read(path)
    if config.backbone.kind == "dinov2":
        tensors |= _published(folder, download)
    network = OneShotNetwork(config, len(tensors.get("vertex_features", ())))
    try:
        network.load_state_dict(tensors)
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:160]
        raise UserError(
            f"{path}: its weights do not fit its configuration ({reason}); train them again"
        ) from None
    return network.eval().requires_grad_(False), head_model


def start_from(path: Path, network: OneShotNetwork, head_model: str) -> None:
    """Gives a network the weights of a file. Those of a refiner may be missing in it: they stay as
    they are.

    Raises UserError when the file is missing, damaged, of another kind, head model or network.
    """
    if not path.is_file():
        raise UserError(f"{path}: not found; expected weights to start from (start=FILE)")
    tensors, config, given = _read(path)
    if given != head_model:
        raise UserError(
            f"{path}: weights for the head model {given}, the captures have {head_model}"
        )
    if config.place_code != network.config.place_code:
        code = config.place_code
        raise UserError(
            f"{path}: was trained with another code of places; give model.place_code={code}, too"
        )
    try:
        fit = network.load_state_dict(tensors, strict=False)
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:160]
        raise UserError(
            f"{path}: its weights do not fit model.* ({reason}); give those settings, too"
        ) from None
    missing = [
        name
        for name in fit.missing_keys
        if not (is_of_refiner(name) or name.startswith(_PUBLISHED))
    ]
    if missing or fit.unexpected_keys:
        odd = (missing + fit.unexpected_keys)[0]
        raise UserError(
            f"{path}: its weights do not fit model.* ({odd} is "
            f"{'missing' if missing else 'not of this network'}); "
            "give those settings, too"
        )


def _read(path: Path) -> tuple[dict[str, Tensor], OneShotConfig, str]:
    """Tensors, configuration and head model of a whole file of ours."""
    header = read_header(path, _WHAT, remedy=_REMEDY).texts
    if header.get("format") != FORMAT:
        raise UserError(
            f"{path}: not weights of the one-shot network; give a file that likeness train wrote"
        )
    if header.get("format_version") != str(FORMAT_VERSION):
        raise UserError(
            f"{path}: weights of version {header.get('format_version')}, this program's are of "
            f"{FORMAT_VERSION}; "
            "take the file that belongs to this program, or train again"
        )
    if missing := [name for name in ("config", "head_model", "sha256") if name not in header]:
        raise UserError(f"{path}: {missing[0]} missing from its header; {_REMEDY}")
    tensors = read_tensors(path, _WHAT, remedy=_REMEDY)
    if header["sha256"] != _digest(tensors):
        raise UserError(f"{path}: damaged (sha256 differs); {_REMEDY}")
    content = decode_json(header["config"], dict[str, Any], f"{path}: config", _WHAT, _REMEDY)
    # Files that do not say which code of places they were trained with know of the first alone.
    return (
        tensors,
        apply(OneShotConfig(), {"place_code": 1, **content}, str(path)),
        header["head_model"],
    )


def _digest(tensors: dict[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for name in sorted(tensors):
        value = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def load_published(network: OneShotNetwork, folder: Path | None, download: bool) -> None:
    """Gives a network the published weights of its pretrained backbone."""
    network.load_state_dict(network.state_dict() | _published(folder, download))


def _published(folder: Path | None, download: bool) -> dict[str, Tensor]:
    from likeness.one_shot.backbones.dinov2 import pretrained

    return {
        f"{_PUBLISHED}{name}": value
        for name, value in pretrained(folder, download).state_dict().items()
    }
