"""Clouds as .spz files, Niantic's compressed format, by its published layout (nianticlabs/spz,
"File Format").

A gzip stream of a header of 16 bytes (magic "NGSP", version, number of Gaussians, degree of the
harmonics, fractional bits of positions, flags, 0) and of all Gaussians by attribute, little-endian:
positions (3 x 24-bit fixed point), alphas (8 bits), colours (8 bits, 0.15 of the constant harmonic
about the middle), scales (8 bits, 16 per unit of the logarithm from -10), rotations, other
harmonics (8 bits, coefficient by coefficient with the colour inside, 128 per unit about 128).
Rotations: version 2 has x, y, z in 8 bits each, w >= 0 left out; version 3 has the three smallest
of x, y, z, w in sign and 9 bits each, and in the two highest bits which is left out. Axes: +x
right, +y up, +z to the
viewer: the head frame.
"""

from __future__ import annotations

import gzip
import math
import struct
from pathlib import Path
from typing import Any

import numpy as np
import torch

from likeness.export.base import Exporter, ExportOptions
from likeness.export.clouds import write_clouds
from likeness.export.fidelity import agreement
from likeness.export.posing import T_file_head, moved
from likeness.fitting.bundle import AvatarBundle
from likeness.ops import harmonics as spherical_harmonics
from likeness.renderers import create
from likeness.scene.cloud import GaussianCloud
from likeness.scene.errors import UserError
from likeness.scene.files import write_bytes
from likeness.scene.head_state import HeadState
from likeness.scene.reading import damage
from likeness.scene.transforms import invert_transform

VERSIONS = (2, 3)
_MAGIC, _HEADER = 0x5053474E, struct.Struct("<IIIBBBB")
_COLOUR_SCALE = 0.15
_SCALE_STEPS, _SCALE_LOWEST = 16.0, -10.0
_FIXED_LIMIT = 1 << 23
_MAX_GAUSSIANS = 10_000_000  # Gaussians: what claims more is not such a file
_SQRT_HALF = math.sqrt(0.5)


def write_spz(path: Path, cloud: GaussianCloud, version: int = 3) -> None:
    """Writes an unbatched cloud, whole or not at all. version: 2, which all readers know, or 3:
    finer rotations."""
    write_bytes(path, gzip.compress(encode(cloud, version), 9, mtime=0))


def read_spz(path: Path) -> GaussianCloud:
    """The cloud of a file of version 2 or 3. Raises UserError when it is damaged or of another
    kind."""
    with damage(path, "compressed cloud (.spz)", "export it again"), gzip.open(path, "rb") as file:
        head = file.read(_HEADER.size)
        return decode(head + file.read(_size(head) - len(head) + 1))


def encode(cloud: GaussianCloud, version: int = 3) -> bytes:
    """The uncompressed content."""
    if version not in VERSIONS:
        raise UserError(
            f"spz_version {version}: unknown; expected one of {', '.join(map(str, VERSIONS))}"
        )
    means, degree = cloud.means.double().numpy(), round(cloud.sh.shape[1] ** 0.5) - 1
    bits = _fractional_bits(means)
    quats = torch.nn.functional.normalize(cloud.quats.double(), dim=-1).numpy()[:, [1, 2, 3, 0]]
    colours = cloud.sh[:, 0].double().numpy() * _COLOUR_SCALE * 255 + 127.5
    parts = [
        _HEADER.pack(_MAGIC, version, cloud.num_gaussians, degree, bits, 0, 0),
        _fixed(means, bits),
        _bytes(cloud.opacities.double().numpy() * 255),
        _bytes(colours),
        _bytes((cloud.scales.double().log().numpy() - _SCALE_LOWEST) * _SCALE_STEPS),
        _first_three(quats) if version == 2 else _smallest_three(quats),
        _bytes(cloud.sh[:, 1:].double().numpy() * 128 + 128),
    ]
    return b"".join(parts)


def decode(data: bytes) -> GaussianCloud:
    """The cloud of uncompressed content. Raises ValueError with the reason when it is not one."""
    size = _size(data)
    _, version, count, degree, bits, _, _ = _HEADER.unpack_from(data)
    if len(data) != size:
        raise ValueError(f"{len(data)} bytes instead of {size}")
    rest = spherical_harmonics.num_coefficients(degree) - 1
    arrays, start = [], _HEADER.size
    for width in _widths(version, rest):
        part = np.frombuffer(data, np.uint8, count * width, start).reshape(count, width)
        arrays.append(part.astype(np.int64))
        start += count * width
    fixed, alphas, colours, scales, rotations, harmonics = arrays
    quats = (_from_first_three if version == 2 else _from_smallest_three)(rotations)
    dc = (colours / 255 - 0.5) / _COLOUR_SCALE
    sh = np.concatenate([dc[:, None], (harmonics.reshape(count, rest, 3) - 128) / 128], 1)
    cloud = (
        _from_fixed(fixed, bits),
        quats[:, [3, 0, 1, 2]],
        np.exp(scales / _SCALE_STEPS + _SCALE_LOWEST),
        alphas[:, 0] / 255,
        sh,
    )
    return GaussianCloud(*(torch.from_numpy(np.ascontiguousarray(part)).float() for part in cloud))


def _size(data: bytes) -> int:
    """Bytes of the whole content, by its header. Raises ValueError where that is not one."""
    if len(data) < _HEADER.size:
        raise ValueError("shorter than its header")
    magic, version, count, degree, bits, _, _ = _HEADER.unpack_from(data)
    if magic != _MAGIC:
        raise ValueError("it does not start as one")
    if version not in VERSIONS:
        raise ValueError(f"version {version}; expected 2 or 3")
    if degree > 3 or count > _MAX_GAUSSIANS or bits > 23:
        raise ValueError(f"{count} Gaussians of degree {degree} with {bits} fractional bits")
    return _HEADER.size + count * sum(
        _widths(version, spherical_harmonics.num_coefficients(degree) - 1)
    )


def _widths(version: int, rest: int) -> tuple[int, ...]:
    """Bytes of a Gaussian's attributes; rest: coefficients of its harmonics but the constant
    one."""
    return 9, 1, 3, 3, 3 if version == 2 else 4, 3 * rest


def _bytes(values: np.ndarray) -> bytes:
    return np.rint(values).clip(0, 255).astype(np.uint8).tobytes()


def _fractional_bits(means: np.ndarray) -> int:
    """The finest steps that hold the farthest Gaussian: a head within ±1 m has 23 bits, 0.1 µm."""
    extent = float(np.abs(means).max(initial=0)) + 1e-6
    bits = math.floor(math.log2((_FIXED_LIMIT - 1) / extent))
    if bits < 0:
        raise UserError(
            f"a Gaussian lies {extent:.3g} m from the origin, too far for the .spz format"
        )
    # More than 20 would be finer than the floats of readers; 12 is what the format's own writer
    # uses.
    return min(bits, 20)


def _fixed(means: np.ndarray, bits: int) -> bytes:
    whole = np.rint(means * (1 << bits)).astype("<i4").clip(-_FIXED_LIMIT, _FIXED_LIMIT - 1)
    return np.ascontiguousarray(whole.astype("<i4")).view(np.uint8).reshape(-1, 4)[:, :3].tobytes()


def _from_fixed(fixed: np.ndarray, bits: int) -> np.ndarray:
    parts = fixed.reshape(len(fixed), 3, 3)
    whole = parts[..., 0] | parts[..., 1] << 8 | parts[..., 2] << 16
    return np.where(whole >= _FIXED_LIMIT, whole - 2 * _FIXED_LIMIT, whole) / (1 << bits)


def _first_three(quats: np.ndarray) -> bytes:
    """quats: [N, 4] xyzw, unit."""
    upright = np.where(quats[:, 3:] < 0, -quats, quats)
    return _bytes(upright[:, :3] * 127.5 + 127.5)


def _from_first_three(rotations: np.ndarray) -> np.ndarray:
    xyz = rotations / 127.5 - 1
    w = np.sqrt(np.maximum(0, 1 - (xyz**2).sum(1, keepdims=True)))
    return np.concatenate([xyz, w], 1)


def _smallest_three(quats: np.ndarray) -> bytes:
    """quats: [N, 4] xyzw, unit."""
    largest = np.abs(quats).argmax(1)
    positive = np.where(np.take_along_axis(quats, largest[:, None], 1) < 0, -quats, quats)
    packed = largest.astype(np.uint32)
    for index in range(4):
        value = positive[:, index]
        size = np.floor(511 * np.abs(value) / _SQRT_HALF + 0.5).clip(0, 511).astype(np.uint32)
        appended = packed << np.uint32(10) | (value < 0).astype(np.uint32) << np.uint32(9) | size
        packed = np.where(largest == index, packed, appended)
    return packed.astype("<u4").tobytes()


def _from_smallest_three(rotations: np.ndarray) -> np.ndarray:
    packed = rotations[:, 0] | rotations[:, 1] << 8 | rotations[:, 2] << 16 | rotations[:, 3] << 24
    largest = packed >> 30
    quats = np.zeros((len(packed), 4))
    for index in (3, 2, 1, 0):
        value = (packed & 511) / 511 * _SQRT_HALF * np.where(packed >> 9 & 1, -1, 1)
        quats[:, index] = np.where(largest == index, 0, value)
        packed = np.where(largest == index, packed, packed >> 10)
    left_out = np.sqrt(np.maximum(0, 1 - (quats**2).sum(1)))
    np.put_along_axis(quats, largest[:, None], left_out[:, None], 1)
    return quats


def _export(
    bundle: AvatarBundle, states: HeadState, out: Path, options: ExportOptions
) -> dict[str, Any]:
    """The axes are the format's. The first file is read back and compared with the avatar."""
    version, anchor = options.spz_version or VERSIONS[-1], options.anchor or "head"

    def write(path: Path, cloud: GaussianCloud) -> None:
        write_spz(path, cloud, version)

    facts = write_clouds(bundle, states, out, options, "y-up", ".spz", write)
    files = facts["files"]
    psnr = _agreement(bundle, states[0], read_spz(files[0]), anchor)
    return {**facts, "files": len(files), "psnr": psnr}


@torch.no_grad()
def _agreement(bundle: AvatarBundle, state: HeadState, cloud: GaussianCloud, anchor: str) -> float:
    """PSNR in dB of a cloud in the file's frame against the avatar's image."""
    renderer, view = create("cpu"), bundle.default_camera.in_frame(state.T_world_head)
    decoded = moved(cloud, invert_transform(T_file_head(state, "y-up", anchor)))
    expected = bundle.avatar(bundle.tuned(state), view.center)
    images = [
        renderer.render(cloud, view).over(torch.ones(3)).clamp(0, 1)
        for cloud in (decoded, expected)
    ]
    return agreement(*images)


SPZ = Exporter(_export, "avatar.spz", frozenset({"states", "anchor", "spz_version"}))
