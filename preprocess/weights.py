"""Published network weights that a user's machine may have: found by hash, downloaded once, never
required.

Every part that uses weights must have an answer for their absence (another method, or a term that
is off, and recorded as such); ``find`` returns None then, after one logged line with the remedy.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import logging
import os
import pickle
import urllib.request
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from likeness.scene.errors import UserError
from likeness.scene.files import atomic_path, write_json
from likeness.scene.reading import read_json

if TYPE_CHECKING:
    from torch import Tensor

_log = logging.getLogger(__name__)

_TIMEOUT_S = 10.0
_VERIFIED = "verified.json"
_given_up: set[str] = set()  # names already logged as missing: one line and one attempt per process


@dataclasses.dataclass(frozen=True)
class Weights:
    """One published file of weights."""

    name: str
    """Key in WEIGHTS."""
    urls: tuple[str, ...]
    """Addresses of the same file, tried in order."""
    filename: str
    """Name of the file in a folder of weights."""
    algorithm: str
    """Hash function: sha256 or blake2b (BLAKE2b-512)."""
    digest: str
    """Expected hash in lower-case hexadecimal, whole."""
    num_bytes: int
    """Size, for people and progress bars; only the hash decides."""
    licence: str
    what_for: str
    """What this program does with it, for messages."""


_TABLE = (
    Weights(
        name="modnet",
        urls=(
            "https://huggingface.co/DavG25/modnet-pretrained-models/resolve/main/models/"
            "modnet_photographic_portrait_matting.ckpt",
            "https://github.com/clibdev/MODNet/releases/latest/download/modnet_photographic_portrait_matting.ckpt",
        ),
        filename="modnet_photographic_portrait_matting.ckpt",
        algorithm="blake2b",
        digest="db1f7ec96b370abebbd506e360ce9819380cb45bb99930f1e955dfcbe9e40357"
        "08a6190ebf292e0b8b740cefdc879bad9146ba8158baac0a702aadf5311a8cd6",
        num_bytes=26_000_000,
        licence="Apache-2.0",
        what_for="hair-accurate mattes (MODNet)",
    ),
    Weights(
        name="vgg16",
        urls=("https://download.pytorch.org/models/vgg16-397923af.pth",),
        filename="vgg16-397923af.pth",
        algorithm="sha256",
        digest="397923af8e79cdbb6a7127f12361acd7a2f83e06b05044ddf496e83de57a5bf0",
        num_bytes=553_000_000,
        licence="BSD-3-Clause",
        what_for="the perceptual loss and LPIPS (VGG16, ImageNet)",
    ),
    Weights(
        name="alexnet",
        urls=("https://download.pytorch.org/models/alexnet-owt-7be5be79.pth",),
        filename="alexnet-owt-7be5be79.pth",
        algorithm="sha256",
        digest="7be5be791159472b1fbf3c69796f7cb30dca7ad8466c2df70058c37116cdee02",
        num_bytes=244_408_911,
        licence="BSD-3-Clause",
        what_for="LPIPS (AlexNet, ImageNet)",
    ),
    Weights(
        name="dinov2_vits14",
        urls=("https://dl.fbaipublicfiles.com/dinov2/dinov2_vits14/dinov2_vits14_pretrain.pth",),
        filename="dinov2_vits14_pretrain.pth",
        algorithm="sha256",
        digest="b938bf1bc15cd2ec0feacfe3a1bb553fe8ea9ca46a7e1d8d00217f29aef60cd9",
        num_bytes=88_283_115,
        licence="Apache-2.0",
        what_for="image features of the one-shot initializer (DINOv2 ViT-S/14)",
    ),
)
WEIGHTS: dict[str, Weights] = {weights.name: weights for weights in _TABLE}


def cache_folder() -> Path:
    """Where downloads are kept: ``likeness/weights`` in XDG_CACHE_HOME or ~/.cache. Not created
    here."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "likeness" / "weights"


def find(name: str, folder: Path | None = None, download: bool = True) -> Path | None:
    """The verified file of weights called ``name``, or None where it cannot be had.

    Looks in ``folder`` (the user's, --weights), in the folder that the environment variable
    LIKENESS_WEIGHTS names, in the cache, and then downloads it into the cache, unless ``download``
    is False or the environment variable LIKENESS_OFFLINE is set. What cannot be had is logged in
    one line and not tried again in this process.

    Raises UserError when a folder that the user named does not exist or holds another file under
    this name.
    """
    if name not in WEIGHTS:
        raise ValueError(f"weights: expected one of {sorted(WEIGHTS)}, got {name!r}")
    weights = WEIGHTS[name]
    environment = os.environ.get("LIKENESS_WEIGHTS")
    for given, source in ((folder, "--weights"), (environment, "LIKENESS_WEIGHTS")):
        if not given:
            continue
        path = Path(given) / weights.filename
        if not Path(given).is_dir():
            raise UserError(
                f"{given}: no such folder ({source}); give the folder that holds the files of "
                "weights"
            )
        if path.is_file():
            if not _verified(path, weights):
                raise UserError(
                    f"{path}: not the published {weights.filename} ({weights.algorithm} differs); "
                    f"download it again from {weights.urls[0]} or take it out of the folder"
                )
            return path
    path = cache_folder() / weights.filename
    if path.is_file():
        if _verified(path, weights):
            return path
        _log.warning("%s: damaged (%s differs); ignored", path, weights.algorithm)
    if weights.name not in _given_up:
        allowed = download and not os.environ.get("LIKENESS_OFFLINE")
        reason = _download(weights, path) if allowed else "downloads are switched off"
        if reason is None:
            return path
        _given_up.add(weights.name)
        _log.warning(
            "%s is missing, needed for %s, and could not be downloaded (%s). To have it: download "
            "%s (about %d MB, %s) on any machine, put it into a folder and give that with "
            "--weights FOLDER",
            weights.filename,
            weights.what_for,
            reason,
            weights.urls[0],
            round(weights.num_bytes / 1e6),
            weights.licence,
        )
    return None


def load_state_dict(path: Path) -> dict[str, Tensor]:
    """Reads a checkpoint as tensors on the CPU (never runs code from it). Raises UserError when it
    is damaged."""
    import torch

    try:
        loaded: Any = torch.load(path, map_location="cpu", weights_only=True)
    except (
        pickle.UnpicklingError,
        RuntimeError,
        EOFError,
        ValueError,
        KeyError,
        OSError,
        zipfile.BadZipFile,
    ) as error:
        reason = str(error).strip().split("\n")[0][:120]
        raise UserError(
            f"{path}: cannot be read as weights ({reason}); delete it and download it again"
        ) from None
    if not isinstance(loaded, dict) or not all(
        isinstance(value, torch.Tensor) for value in loaded.values()
    ):
        raise UserError(
            f"{path}: expected a dictionary of tensors, got something else; download it again"
        )
    return loaded


def _digest(path: Path, algorithm: str) -> str:
    digest = hashlib.new(algorithm)
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _verified(path: Path, weights: Weights) -> bool:
    """Whether the file has the published hash. Remembered by size and time of change: hashing 500
    MB takes seconds."""
    stat = path.stat()
    key = str(path.resolve())
    stamp = [stat.st_size, stat.st_mtime_ns, weights.algorithm, weights.digest]
    memory = _read_memory()
    if memory.get(key) == stamp:
        return True
    if _digest(path, weights.algorithm) != weights.digest:
        return False
    try:
        write_json(cache_folder() / _VERIFIED, {**memory, key: stamp})
    # a cache that cannot be written costs the hashing each time, nothing else
    except (OSError, UserError):
        _log.debug("%s: cannot be written", cache_folder() / _VERIFIED)
    return True


def _read_memory() -> dict[str, Any]:
    with contextlib.suppress(UserError):
        return read_json(cache_folder() / _VERIFIED, dict[str, Any], "list of verified weights")
    return {}


def _download(weights: Weights, path: Path) -> str | None:
    """Tries all addresses; returns why none of them served, or None."""
    reason = None
    for url in weights.urls:
        try:
            _fetch(url, weights, path)
            return None
        # URLError, time-outs and a full or read-only disk are OSErrors
        except (OSError, ValueError) as error:
            reason = f"{url.split('/')[2]}: {getattr(error, 'reason', None) or error}"
    return reason


def _fetch(url: str, weights: Weights, path: Path) -> None:
    """Downloads into a file beside ``path`` and moves it there once its hash is right."""
    from tqdm import tqdm

    with atomic_path(path) as temporary:
        with (
            urllib.request.urlopen(url, timeout=_TIMEOUT_S) as response,
            temporary.open("wb") as file,
        ):
            total = int(response.headers.get("Content-Length") or weights.num_bytes)
            label = f"downloading {weights.filename}, once"
            with tqdm(
                total=total, unit="B", unit_scale=True, desc=label, disable=None, leave=False
            ) as bar:
                while block := response.read(1 << 18):
                    file.write(block)
                    bar.update(len(block))
        if _digest(temporary, weights.algorithm) != weights.digest:
            raise ValueError(f"the file there has another {weights.algorithm}")
