"""Frozen avatars on a CPU: network, activations and deformation of one state, part by part of the
Gaussians.

The second way to a cloud beside a network and ``likeness.ops.deform``, with the same kernels: what
a thread computes of its Gaussians stays in its cache from one to the next. That halves the default
avatar's time (20,000 Gaussians on two threads: 7.8 ms instead of 14.3; HeadGaS 10.8 instead of
14.8); ``python -m benchmarks.playback`` compares both ("times plain").
"""

from __future__ import annotations

import dataclasses

import numpy as np
import torch
from torch import Tensor

from likeness.ops import harmonics
from likeness.ops.deform import displacement
from likeness.ops.mlp import BlockedNetwork
from likeness.ops.rig_changes import compact, of_vertices
from likeness.ops.threads import run_rows
from likeness.scene.cloud import GaussianCloud
from likeness.scene.head_state import HeadState
from likeness.scene.rig_binding import RigBinding


@dataclasses.dataclass(frozen=True)
class CanonicalGaussians:
    """N Gaussians without what the network adds: means [N, 3], quats [N, 4] of length 1, scales [N,
    3] in metres, logits [N] of the opacities and harmonics ``colours`` [N, K, 3]; the last two None
    for zeros."""

    means: Tensor
    quats: Tensor
    scales: Tensor
    logits: Tensor | None = None
    colours: Tensor | None = None


@dataclasses.dataclass(frozen=True)
class NetworkOffsets:
    """What a network adds for codes. Its outputs are, in this order and as far as there are any: a
    logit and harmonics, 1 + 3 K ``looks``; a translation [3] and a rotation vector [3] in ``units``
    of metres and radians; changes of log-scales [3].

    grown: these log-scales [N, 3] and their limits.
    """

    network: BlockedNetwork
    looks: int
    units: tuple[float, float] = (1.0, 1.0)
    grown: tuple[Tensor, tuple[float, float]] | None = None


class FusedDeformer:
    """Holds what no state changes; the tensors that it is made of must stay as they are."""

    def __init__(
        self,
        canonical: CanonicalGaussians,
        offsets: NetworkOffsets | None = None,
        *,
        head_weights: Tensor | None = None,
        rig: RigBinding | None = None,
        swaying: bool = False,
    ) -> None:
        """head_weights: how much each Gaussian [N] moves with the head, the rest with the body;
        None: all do. Without offsets ``canonical`` has logits and colours.
        """
        from likeness.ops import fused_deform_cpu as cpu  # numba loads slowly: only when used

        means, colours = canonical.means, canonical.colours
        looks = 0 if offsets is None else offsets.looks
        self._count = len(means)
        self._coefficients = (looks - 1) // 3 if colours is None else colours.shape[1]
        self._network = None if offsets is None else offsets.network
        self._rig, self._swaying, self._scales = rig, swaying, canonical.scales.detach()
        self._changing = None
        if rig is not None and rig.changes is not None and rig.changes.any():
            self._changing = compact(rig)
        log_scales, limits = means[:0], (0.0, 0.0)
        self._grows = offsets is not None and offsets.grown is not None
        if offsets is not None and offsets.grown is not None:
            log_scales, limits = offsets.grown
        fixed = (
            means,
            canonical.quats,
            log_scales,
            means.new_empty(0) if canonical.logits is None else canonical.logits,
            means.new_empty(0, 1, 3) if colours is None else colours,
        )
        self._canonical = cpu.Canonical(*(t.detach().contiguous().numpy() for t in fixed))
        units = (1.0, 1.0) if offsets is None else offsets.units
        self._scaling = looks, np.array(units, np.float32), np.array(limits, np.float32)
        weights = means.new_ones(self._count) if head_weights is None else head_weights
        self._weights = weights.detach().contiguous().numpy()[:, None]
        self._start = self._scales.contiguous().numpy()

    @torch.no_grad()
    def __call__(
        self, codes: Tensor | None, state: HeadState, T_head: Tensor | None = None
    ) -> GaussianCloud:
        """The cloud [N] of one state and the codes [B] that the network wants; T_head [4, 4] moves
        the head, None: it stays."""
        from likeness.ops import deform_cpu, fused_deform_cpu, rig_changes_cpu
        from likeness.ops.mlp_cpu import LANES

        count, coefficients = self._count, self._coefficients
        values, fill = torch.empty(count, 0), None
        if self._network is not None:
            assert codes is not None
            values, fill = self._network.begin(codes)
        offsets = fused_deform_cpu.Offsets(values.numpy(), *self._scaling)
        cloud = GaussianCloud(
            torch.empty(count, 3),
            torch.empty(count, 4),
            torch.empty(count, 3) if self._grows or self._changing is not None else self._scales,
            torch.empty(count),
            torch.empty(count, coefficients, 3),
        )
        arrays = fused_deform_cpu.Cloud(*(t.numpy() for t in cloud.fields().values()))
        T = torch.stack([torch.eye(4) if T_head is None else T_head, state.T_head_body]).detach()
        D = harmonics.rotation_matrices(T[1, :3, :3], round(coefficients**0.5) - 1)
        motion = deform_cpu.motion_of(
            None if self._rig is None else displacement(state.expression, self._rig)[None],
            state.secondary_motion[None] if self._swaying else None,
            T[None],
            D[None, 1:, 1:].contiguous() if coefficients > 1 else None,
        )
        sh = (
            arrays.sh.reshape(1, count, -1) if coefficients > 1 else np.empty((0, 0, 0), np.float32)
        )
        placed = deform_cpu.Deformed(arrays.means[None], arrays.quats[None], sh)
        canonical = deform_cpu.Canonical(*placed, self._weights)

        bound, start = None, arrays.scales if self._grows else self._start
        if (changing := self._changing) is not None:
            bound = rig_changes_cpu.bound_of(of_vertices(state.expression, changing), changing)
        none = np.empty((0, 7), np.float32)

        def write(first: int, last: int) -> None:
            if fill is not None:
                fill(first, last)
            rows = first * LANES, min(last * LANES, count)
            fused_deform_cpu.activate(*rows, self._canonical, offsets, arrays)
            if bound is not None:
                before, after = (arrays.quats, start), (arrays.quats, arrays.scales)
                rig_changes_cpu.change_rows(*rows, bound, *before, *after, arrays.sh, none)
            deform_cpu.deform_rows(*rows, canonical, motion, placed)

        run_rows(write, -(-count // LANES))
        return cloud
