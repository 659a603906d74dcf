"""What the kernels need of an avatar and of a state, whatever the avatar is."""

from __future__ import annotations

import contextlib
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from likeness.fitting.avatars import FrozenAvatar
from likeness.ops import harmonics as spherical_harmonics
from likeness.ops.deform import of_gaussians
from likeness.ops.rig_changes import changed
from likeness.scene.cloud import GaussianCloud
from likeness.scene.head_state import HeadState
from likeness.scene.lattice import NUM_POINTS

BLOCK = 128
"""Gaussians to a program."""


class Shared:
    """Reads states by ``read_state``, and places Gaussians as they are anchored. Not for several
    threads at a time.

    state, frames: what the kernels call so, of the last state read. codes: the coder's outputs
    then. bound, vertices: rows of ``stride`` numbers, for ``place_linear`` and ``place_cloud``;
    count: Gaussians.
    """

    def __init__(
        self, avatar: FrozenAvatar, degree: int, layers: tuple[Tensor, Tensor] | None = None
    ) -> None:
        """degree: of the harmonics. layers: of a coder, [L, W, W] and [L, W]."""
        from likeness.playback.fused.kernels.state import FRAMES, HARMONICS, SAMPLES

        model = avatar.model
        p, self._anchoring = model.per_gaussian, model.config.anchoring
        self.count, self.degree = model.num_gaussians, degree
        self.stride = -(-self.count // BLOCK) * BLOCK
        self._expressions, self._joints = model.num_expressions, model.num_joints
        nothing, rig, weights = p["means"].new_zeros(self.count, 3), model.rig, avatar.head_weights
        weights = nothing[:, :1] if weights is None else weights[:, None]
        corners = nothing if rig is None else rig.weights
        self.bound = self.rows(torch.cat([weights, corners], -1).T)
        self.vertices = self.rows((nothing if rig is None else rig.vertices).T.to(torch.int32))
        self._shapes = nothing.new_zeros(self._expressions, 3)
        self._changing = None
        if rig is not None:
            self._shapes = rig.shapes.flatten(1)
            if rig.changes is not None and rig.changes.any():
                self._changing = rig

        directions, solve = (t.to(nothing) for t in spherical_harmonics.rotation_samples(degree))
        spare = SAMPLES - len(directions)
        self._directions = pad(directions.T, (0, spare)).contiguous()
        self._solve = pad(solve, (0, spare, 0, HARMONICS - len(solve))).contiguous()
        if layers is None:
            layers = nothing.new_zeros(0, 0, 0), nothing.new_zeros(0, 0)
        self._weights, self._biases = layers
        sizes = [self._biases.shape[-1], FRAMES + HARMONICS * HARMONICS]
        results = nothing.new_zeros(sum(sizes))
        self.codes, self.frames = results.split(sizes)
        self._results = results
        # expressions, joints, two poses, and the secondary motion
        numbers = self._expressions + 4 * self._joints + 2 * 16 + 2 * NUM_POINTS
        self.state = nothing.new_zeros(numbers)

    def read(self, state: HeadState) -> Tensor:
        """From here on ``state``, ``frames`` and ``codes`` are of this state []; how far it moves
        the rig's vertices, [V * 3]."""
        from likeness.playback.fused.kernels.state import read_state

        torch.cat([part.reshape(-1) for part in state.fields().values()], out=self.state)
        kernel: Any = read_state
        with self._on_device():
            kernel[(1,)](
                self.state,
                self._weights,
                self._biases,
                self._directions,
                self._solve,
                self._results,
                self._expressions,
                self._joints,
                len(self._weights),
                len(self.codes),
                self.degree if self._anchoring.two_frames else 0,
                num_warps=8 if len(self.codes) else 1,
            )
        return torch.mv(self._shapes.T, self.state[: self._expressions])

    def place(self, kernel: Any, moved: Tensor, *arguments: Tensor, **options: Any) -> None:
        """Launches ``place_linear`` or ``place_cloud`` for the state that was read, which moves the
        rig's vertices by ``moved``. arguments, options: those that the kernel has of its own."""
        with self._on_device():
            kernel[(self.stride // BLOCK,)](
                self.state,
                self.frames,
                moved,
                self.bound,
                self.vertices,
                *arguments,
                self.count,
                self.stride,
                DEGREE=self.degree,
                SWAY=len(self.state) - 2 * NUM_POINTS,
                RIGGED=self._anchoring.rigged,
                SWAYING=self._anchoring.swaying,
                TWO_FRAMES=self._anchoring.two_frames,
                BLOCK=BLOCK,
                **options,
            )

    def changed(self, cloud: GaussianCloud, state: HeadState) -> GaussianCloud:
        """A canonical cloud [N] as the expression turns, stretches and lights it."""
        return cloud if self._changing is None else changed(cloud, state.expression, self._changing)

    def changes(self, state: HeadState) -> Tensor | None:
        """What the rig does to each Gaussian beside moving it: rows [CHANGES, stride]; None:
        nothing."""
        rig = self._changing
        if rig is None or rig.changes is None:
            return None
        return self.rows(of_gaussians(state.expression, rig.changes, rig).T)

    def rows(self, rows: Tensor) -> Tensor:
        """[*, N] as [*, stride], filled up with zeros."""
        return pad(rows, (0, self.stride - self.count)).contiguous()

    def _on_device(self) -> contextlib.AbstractContextManager:
        """Inside, kernels are launched on the avatar's device."""
        device = self.state.device
        return torch.cuda.device(device) if device.type == "cuda" else contextlib.nullcontext()
