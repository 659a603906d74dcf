"""The player: an avatar bundle that turns head states into pictures."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterable, Iterator
from pathlib import Path

import torch
from torch import Tensor

from likeness.fitting.bundle import AvatarBundle
from likeness.fitting.networks import Choice, NetworksConfig, choose_for, require, settle
from likeness.playback.evaluators import (
    EVALUATION,
    EVALUATIONS,
    Evaluation,
    Evaluator,
    choose_evaluator,
    make_evaluator,
)
from likeness.playback.graphs import GraphedAvatar
from likeness.playback.view_clamp.avatar import ViewClampedAvatar
from likeness.renderers import create
from likeness.renderers.output import RenderOutput
from likeness.scene.camera import Camera
from likeness.scene.cloud import GaussianCloud
from likeness.scene.expression_tuning import ExpressionTuning
from likeness.scene.head_state import HeadState
from likeness.scene.to_device import to_device


class Player:
    """Plays one bundle on one device. Builds no gradients.

    Players are independent of each other, of the same bundle too; each belongs to one thread at a
    time. Neither the bundle nor what is given to ``step`` is changed.
    """

    def __init__(
        self,
        bundle: AvatarBundle | Path | str,
        device: str = "cpu",
        renderer: str = "auto",
        *,
        evaluation: Evaluation | None = None,
        compile: bool = False,
        networks: NetworksConfig | None = None,
        refine: bool = True,
    ) -> None:
        """bundle: a loaded bundle or its folder. renderer: a name in RENDERERS, or the best one for
        the device.

        evaluation: what evaluates the avatar, one of ``likeness.playback.evaluators``; all but
        torch need CUDA. None: what there works, gives the same and is fastest.
        compile: of these ``torch.compile`` is one; it delays the first picture by a minute. Nothing
            on a CPU.
        networks: what evaluates the avatar's networks on CUDA; None: what its fit asked for, as far
        as it is there. Both are chosen at the first state; ``choices`` then says how. Raises
        UserError where tinycudann is given and missing, and where the renderer cannot be compiled.
        refine: pictures are refined by the bundle's screen refiner, where it has one.
        """
        on_cuda = torch.device(device).type == "cuda"
        if evaluation not in (None, *EVALUATIONS[: None if on_cuda else 1]):
            raise ValueError(f"Player: expected an evaluation of {device}, got {evaluation!r}")
        bundle = bundle if isinstance(bundle, AvatarBundle) else AvatarBundle.load(Path(bundle))
        self.device = torch.device(device)
        if networks is not None:
            require(networks, self.device)
        self._wish = settle(networks or NetworksConfig.of_bundle(bundle.facts), self.device)
        self.choices: dict[str, Choice] | None = None
        self.avatar = bundle.avatar.duplicate(lambda tensor: tensor.to(self.device))
        self.avatar.freeze()
        self.bundle = dataclasses.replace(bundle, avatar=self.avatar)
        self.avatar.warm_up()
        self.renderer = create(renderer, device)
        # now, not at the first picture: what cannot be compiled is said here
        self.renderer.warm_up(gradients=False)
        self.camera = self.bundle.default_camera.to(self.device)
        self._refinement = (
            bundle.refinement.to(self.device) if refine and bundle.refinement is not None else None
        )
        self._memory: _Memory | None = None
        self._tuning = _on(bundle.tuning, self.device)
        self._evaluation, self._compiles = evaluation if on_cuda else "torch", compile
        self._evaluator: Evaluator | None = None

    @property
    def refines(self) -> bool:
        """Whether a screen refiner corrects its pictures."""
        return self._refinement is not None

    @torch.no_grad()
    def step(
        self,
        state: HeadState,
        camera: Camera | None = None,
        background: Tensor | None = None,
        *,
        depth: bool = False,
        hold: bool = False,
    ) -> RenderOutput:
        """The picture of one state (unbatched) by a camera of the world; the bundle's own camera if
        none is given.

        background: a colour [3] or picture [H, W, 3] that is put behind; then alpha is 1. Without
        one the colour stays premultiplied. depth: also the expected depth in metres. hold: where
        the camera sees what the recording never showed, the avatar is held; see
        ``likeness.playback.view_clamp.avatar``.
        """
        if camera is None:
            camera = self.camera
        else:
            K, T_cam_world = to_device((camera.K, camera.T_cam_world), self.device)
            camera = dataclasses.replace(camera, K=K, T_cam_world=T_cam_world)
        there = self._there(state)
        in_head = camera.in_frame(there.T_world_head)
        cloud = (
            self.held.cloud(there, in_head.center)
            if hold
            else self._cloud(state, there, in_head.center)
        )
        output = self.renderer.render(cloud, in_head, depth=depth)
        if self._refinement is not None:
            output = self._refinement(output, self.renderer, cloud, in_head)
        if background is None:
            return output
        (background,) = to_device((background,), self.device)
        return RenderOutput(output.over(background), torch.ones_like(output.alpha), output.depth)

    @torch.no_grad()
    def cloud(self, state: HeadState, eye: Tensor) -> GaussianCloud:
        """The Gaussians [N] of one state in the head frame, seen from ``eye`` [3] there.

        The last cloud is kept: the same state again costs nothing, where the avatar looks the same
        from everywhere or the eye has not moved. Treat the cloud as read-only; it stays what it is
        when others are made.
        """
        cloud = self._cloud(state, None, eye)
        return cloud.map(torch.clone) if isinstance(self._evaluator, GraphedAvatar) else cloud

    def _there(self, state: HeadState) -> HeadState:
        """The state on the player's device."""
        if state.expression.device == self.device:
            return state
        return HeadState(*to_device(_tensors(state, None), self.device))

    def _tuned(self, there: HeadState) -> HeadState:
        return there if self._tuning is None else self._tuning(there)

    def _cloud(self, state: HeadState, there: HeadState | None, eye: Tensor) -> GaussianCloud:
        """``cloud`` of a state as it was given, which is told apart by that, and as it is on the
        device, if it is."""
        eye = eye if self.avatar.view_dependent else None
        if self._memory is None or not self._memory.holds(state, eye):
            seen = self._tuned(self._there(state) if there is None else there)
            position = (
                torch.zeros(3, device=self.device)
                if eye is None
                else to_device((eye,), self.device)[0]
            )
            self._memory = None  # the last cloud may be overwritten now
            self._memory = _Memory.of(state, eye, self._evaluate(seen, position))
        return self._memory.cloud

    def _evaluate(self, state: HeadState, eye: Tensor) -> GaussianCloud:
        if self._evaluator is None:
            self.choices = choose_for(self.avatar, state, eye, self._wish)
            if self._evaluation is not None:
                self._evaluator = make_evaluator(self._evaluation, self.avatar, state, eye)
            else:
                other = self._tuned(
                    self._there(self.bundle.recording[len(self.bundle.recording) // 2])
                )
                choice, self._evaluator = choose_evaluator(
                    self.avatar, state, other, eye, self._compiles
                )
                self.choices[EVALUATION] = choice
        return self._evaluator(state, eye)

    @functools.cached_property
    def held(self) -> ViewClampedAvatar:
        """The avatar as ``step`` shows it with ``hold``."""
        return ViewClampedAvatar(self)

    def tune(self, tuning: ExpressionTuning | None) -> None:
        """From here on plays with another neutral and other gains; see ``AvatarBundle.tuning``."""
        if tuning is not self.bundle.tuning:
            self.bundle, self._memory = dataclasses.replace(self.bundle, tuning=tuning), None
            self._tuning = _on(tuning, self.device)

    def stream(
        self,
        driver: Iterable[HeadState],
        camera: Camera | None = None,
        background: Tensor | None = None,
        *,
        depth: bool = False,
        hold: bool = False,
    ) -> Iterator[RenderOutput]:
        """The pictures of a driver's states, one by one as they are asked for; see ``step``."""
        for state in driver:
            yield self.step(state, camera, background, depth=depth, hold=hold)


@dataclasses.dataclass(frozen=True)
class _Memory:
    """A cloud with what it was made of.

    given: the tensors as they came, with their versions; copied: their values, where these are on
        the CPU. Values on a
    GPU are told apart by the tensors alone: to compare them would stop the GPU.
    """

    given: tuple[Tensor, ...]
    versions: tuple[int, ...]
    copied: tuple[Tensor | None, ...]
    cloud: GaussianCloud

    @classmethod
    def of(cls, state: HeadState, eye: Tensor | None, cloud: GaussianCloud) -> _Memory:
        given = _tensors(state, eye)
        copied = tuple(tensor.clone() if tensor.device.type == "cpu" else None for tensor in given)
        return cls(given, tuple(map(_version, given)), copied, cloud)

    def holds(self, state: HeadState, eye: Tensor | None) -> bool:
        now = _tensors(state, eye)
        return len(now) == len(self.given) and all(
            torch.equal(tensor, copied)
            if copied is not None and tensor.device.type == "cpu"
            else tensor is given and _version(tensor) == version
            for tensor, given, version, copied in zip(now, self.given, self.versions, self.copied)
        )


def _on(tuning: ExpressionTuning | None, device: torch.device) -> ExpressionTuning | None:
    """Moved once: a tuning checks its numbers, for which a GPU would have to be waited for."""
    return None if tuning is None else tuning.to(device)


def _tensors(state: HeadState, eye: Tensor | None) -> tuple[Tensor, ...]:
    tensors = (
        state.expression,
        state.joints,
        state.T_world_head,
        state.T_world_body,
        state.secondary_motion,
    )
    return tensors if eye is None else (*tensors, eye)


def _version(tensor: Tensor) -> int:
    """Counts the changes of a tensor in place."""
    return -1 if tensor.is_inference() else tensor._version
