"""Smoothing of states in time: without lag for recordings, causal for live use. Blinks are left as
they are: they last a few frames, and a filter would leave the eye ajar. What else is sudden, such
as lips that meet, is left by how far it stands out of the noise."""

from __future__ import annotations

import dataclasses
import math

import torch
from torch import Tensor

from likeness.playback.transfer.lips import has_lips, opening, with_opening
from likeness.playback.transfer.retarget import BLINKS
from likeness.scene.head_state import HeadState
from likeness.scene.transforms import (
    conjugate_quats,
    make_transform,
    matrices_to_quats,
    multiply_quats,
    normalize_quats,
    quats_to_matrices,
    quats_to_rotvecs,
    rotvecs_to_quats,
)

_NOISE = 10.0  # times the usual energy of what smoothing takes away: so much is noise
_GAP = 2.5  # steps between frames from which on they do not belong together


def zero_phase(
    states: HeadState, times: Tensor, names: tuple[str, ...], window_s: float
) -> HeadState:
    """States [T] smoothed over ``window_s`` seconds by Savitzky and Golay's filter of order 2
    (1964), which is symmetric: it has no lag. Gaps in the times [T] divide the clip. Rotations are
    smoothed in the tangent space at each of them. 0 seconds, or a window of less than 5 frames,
    changes nothing."""
    if window_s <= 0 or len(times) < 3:
        return states
    steps = times.diff()
    window = int(window_s / float(steps.median())) // 2 * 2 + 1
    if window < 5:
        return states
    ends = [0, *((steps > _GAP * steps.median()).nonzero()[:, 0] + 1).tolist(), len(times)]
    return HeadState.cat([_smoothed(states[a:b], names, window) for a, b in zip(ends, ends[1:])])


def _smoothed(states: HeadState, names: tuple[str, ...], window: int) -> HeadState:
    from scipy.signal import savgol_coeffs

    count = len(states)
    window = min(window, (count - 1) // 2 * 2 + 1)
    if window < 5:
        return states
    half = window // 2
    place = torch.arange(count)[:, None] + torch.arange(-half, half + 1)
    # Mirrored ends: the clip stands still there, instead of being pulled to where it never was.
    place = torch.where(place < 0, -place, place)
    place = torch.where(place >= count, 2 * (count - 1) - place, place)
    weights = torch.from_numpy(savgol_coeffs(window, 2).copy()).to(states.expression)

    def vectors(values: Tensor) -> Tensor:
        return torch.einsum("w,tw...->t...", weights, values[place])

    def rotations(quats: Tensor) -> Tensor:
        around = quats[place]
        relative = multiply_quats(conjugate_quats(quats)[:, None].expand_as(around), around)
        mean = torch.einsum("w,tw...->t...", weights, quats_to_rotvecs(relative))
        return normalize_quats(multiply_quats(quats, rotvecs_to_quats(mean)))

    def poses(transforms: Tensor) -> Tensor:
        smooth = rotations(matrices_to_quats(transforms[:, :3, :3]))
        return make_transform(quats_to_matrices(smooth), vectors(transforms[:, :3, 3]))

    blink = torch.tensor([name in BLINKS for name in names])
    smooth = vectors(states.expression)
    sudden = states.expression - smooth
    # Lee's filter (1980): what a smoothing takes away is put back where it is more than noise
    noise = (sudden.abs().median(0).values / 0.6745).square()
    energy = sudden.square()[place].mean(1)
    smooth = smooth + (1 - _NOISE * noise / energy.clamp_min(1e-12)).clamp_min(0) * sudden
    expression = torch.where(blink, states.expression, smooth.clamp(0, 1))
    return HeadState(
        expression,
        rotations(states.joints),
        poses(states.T_world_head),
        poses(states.T_world_body),
        vectors(states.secondary_motion),
    )


@dataclasses.dataclass(frozen=True)
class OneEuroConfig:
    """Cut-off frequencies in Hz at rest, and how many Hz each unit per second of speed adds."""

    expression_cutoff: float = 1.5
    expression_slope: float = 4.0
    rotation_cutoff: float = 1.2
    rotation_slope: float = 8.0
    translation_cutoff: float = 1.2
    translation_slope: float = 60.0
    speed_cutoff: float = 1.0
    lips_noise_mm: float = 1.0
    """Changes of the lips' opening that are well above this pass as they are."""


class CausalSmoother:
    """The One-Euro filter (Casiez, Roussel and Vogel 2012) on states as they come: strong at rest,
    weak in fast motion. Its output depends on the past alone."""

    def __init__(self, names: tuple[str, ...], config: OneEuroConfig = OneEuroConfig()) -> None:
        self._names, self._config = names, config
        self._blink = torch.tensor([name in BLINKS for name in names])
        self._opening: Tensor | None = None
        self._last: HeadState | None = None
        self._time_s = 0.0
        self._speeds: dict[str, Tensor] = {}

    def __call__(self, state: HeadState, time_s: float) -> HeadState:
        """The smoothed state [] at a time in seconds; times rise from call to call."""
        last, step = self._last, time_s - self._time_s
        self._time_s = time_s
        if last is None or step <= 0:
            self._last = state if last is None else last
            return self._last
        c = self._config
        faces = last.expression, state.expression
        rates = c.expression_cutoff, c.expression_slope
        expression = self._lips(self._vector("expression", *faces, step, *rates), state, step)
        self._last = HeadState(
            torch.where(self._blink, state.expression, expression),
            self._rotation("joints", last.joints, state.joints, step),
            self._pose("head", last.T_world_head, state.T_world_head, step),
            self._pose("body", last.T_world_body, state.T_world_body, step),
            self._translation(
                "secondary motion", last.secondary_motion, state.secondary_motion, step
            ),
        )
        return self._last

    def _lips(self, smooth: Tensor, state: HeadState, step: float) -> Tensor:
        """Coefficients [E] whose lips follow the state's, sudden changes at once."""
        names = self._names
        if not has_lips(names):
            return smooth
        new = opening(state.expression, names)
        last = new if self._opening is None else self._opening
        sudden = 1 - (self._config.lips_noise_mm / (new - last).abs().clamp_min(1e-6)).square()
        share = _share(torch.full_like(new, self._config.expression_cutoff), step)
        self._opening = last + torch.maximum(share, sudden) * (new - last)
        low, high = torch.zeros_like(smooth), torch.ones_like(smooth)
        return with_opening(smooth[None], self._opening[None], names, low, high)[0]

    def _vector(
        self, name: str, last: Tensor, new: Tensor, step: float, cutoff: float, slope: float
    ) -> Tensor:
        speed = self._speed(name, (new - last) / step, step).abs()
        return last + _share(cutoff + slope * speed, step) * (new - last)

    def _translation(self, name: str, last: Tensor, new: Tensor, step: float) -> Tensor:
        c = self._config
        return self._vector(name, last, new, step, c.translation_cutoff, c.translation_slope)

    def _rotation(self, name: str, last: Tensor, new: Tensor, step: float) -> Tensor:
        change = quats_to_rotvecs(multiply_quats(conjugate_quats(last), new))
        speed = self._speed(name, change / step, step).norm(dim=-1, keepdim=True)
        share = _share(self._config.rotation_cutoff + self._config.rotation_slope * speed, step)
        return normalize_quats(multiply_quats(last, rotvecs_to_quats(share * change)))

    def _pose(self, name: str, last: Tensor, new: Tensor, step: float) -> Tensor:
        quats = matrices_to_quats(last[:3, :3]), matrices_to_quats(new[:3, :3])
        rotation = quats_to_matrices(self._rotation(name, *quats, step))
        place = self._translation(f"{name} place", last[:3, 3], new[:3, 3], step)
        return make_transform(rotation, place)

    def _speed(self, name: str, speed: Tensor, step: float) -> Tensor:
        """The smoothed speed of a quantity."""
        before = self._speeds.get(name, torch.zeros_like(speed))
        share = _share(torch.full_like(speed, self._config.speed_cutoff), step)
        self._speeds[name] = before + share * (speed - before)
        return self._speeds[name]


def _share(cutoff: Tensor, step: float) -> Tensor:
    """Weight of a new value in an exponential filter of cut-off frequencies in Hz, ``step`` seconds
    after the last."""
    return 1 / (1 + 1 / (2 * math.pi * cutoff * step))
