"""Frozen avatars on a CPU: the cloud of a state in one sweep over the Gaussians.

What a network says of each Gaussian, then the rig, sway and the two frames: in single precision
what ``rig.displace``, ``sway.apply_secondary_motion`` and ``skinning.blend_two_frames`` do one
after the other.
"""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from likeness.ops import blend
from likeness.ops.deform import secondary_motion, skinning
from likeness.ops.deform.rig import check_vertices
from likeness.ops.mlp import BlockedNetwork
from likeness.ops.threads import run_rows
from likeness.scene.cloud import GaussianCloud
from likeness.scene.head_state import HeadState
from likeness.scene.lattice import COLUMNS
from likeness.scene.rig_binding import RigBinding

_AT_REST = torch.eye(4)


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
    logit and harmonics, 1 + 3 K ``looks``; a shift [3] and a turn [3] in ``units`` of metres and
    radians; what log-scales grow by [3].

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
        rest: CanonicalGaussians,
        additions: NetworkOffsets | None = None,
        *,
        head_weights: Tensor | None = None,
        rig: RigBinding | None = None,
        swaying: bool = False,
    ) -> None:
        """head_weights: how much each Gaussian [N] moves with the head, the rest with the body;
        None: all do. Without additions ``rest`` has logits and colours.

        Raises IndexError where the rig has not the vertices that the Gaussians are tied to.
        """
        means, looks = rest.means.detach(), 0 if additions is None else additions.looks
        none, count = means.new_empty(0), len(means)
        self._network = None if additions is None else additions.network
        self._coefficients = (looks - 1) // 3 if rest.colours is None else rest.colours.shape[1]
        self._scales, self._shapes, self._swaying = rest.scales.detach(), None, swaying
        log_scales, limits, corners, weights = (
            none[:, None],
            (0.0, 0.0),
            torch.empty(0, 3, dtype=torch.int32),
            none,
        )
        self._grows = additions is not None and additions.grown is not None
        if self._grows:
            log_scales, limits = additions.grown
        if rig is not None:
            check_vertices(rig.vertices, rig.shapes.shape[1])
            self._shapes, corners, weights = (
                rig.shapes.detach().flatten(1),
                rig.vertices.int(),
                rig.weights,
            )
        fixed = (
            torch.tensor((1.0, 1.0) if additions is None else additions.units),
            torch.tensor(limits),
            means,
            rest.quats,
            log_scales,
            none if rest.logits is None else rest.logits,
            none.view(0, 1, 3) if rest.colours is None else rest.colours,
            means.new_ones(count) if head_weights is None else head_weights,
            corners,
            weights.view(-1, 3),
        )
        self._fixed = [looks, *(tensor.detach().contiguous().numpy() for tensor in fixed)]

    def __call__(
        self, codes: Tensor | None, state: HeadState, T_head: Tensor | None = None
    ) -> GaussianCloud:
        """The cloud [N] of one state and the codes [B] that the network wants; T_head [4, 4] moves
        the head, None: it stays."""
        from likeness.ops.deform.fused_kernels import place
        from likeness.ops.mlp_kernels import LANES  # numba loads slowly: only when used

        count, T_body = len(self._scales), state.T_head_body
        values, fill = torch.empty(count, 0), None
        if self._network is not None:
            values, fill = self._network.begin(codes)
        vertices = torch.empty(0, 3)
        if self._shapes is not None:
            vertices = blend.blend_by_code(self._shapes, state.expression).view(-1, 3)
        sheet = state.sway.detach() if self._swaying else torch.empty(0, 2)
        moving = (
            vertices,
            sheet.reshape(-1, COLUMNS, 2),
            torch.from_numpy(secondary_motion.constants()),
            skinning.frame_rows(_AT_REST if T_head is None else T_head, T_body),
            skinning.harmonics_turn(T_body, self._coefficients),
        )
        scales = torch.empty(count, 3) if self._grows else self._scales
        out = (
            torch.empty(count, 3),
            torch.empty(count, 4),
            scales,
            torch.empty(count),
            torch.empty(count, self._coefficients, 3),
        )
        arrays = [*self._fixed, *(tensor.numpy() for tensor in (*moving, *out))]

        def write(first: int, last: int) -> None:
            if fill is not None:
                fill(first, last)
            place(first * LANES, min(last * LANES, count), values.numpy(), *arrays)

        run_rows(write, -(-count // LANES))
        return GaussianCloud(*out)
