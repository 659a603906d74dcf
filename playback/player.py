"""The player: an avatar bundle that turns head states into images."""

from __future__ import annotations

import dataclasses
import functools
import logging
from collections.abc import Iterable, Iterator
from pathlib import Path

import torch
from torch import Tensor

from likeness.fitting.bundle import AvatarBundle
from likeness.fitting.networks import Choice, NetworksConfig, choose_for, describe, require, settle
from likeness.playback.evaluators import (
    EVALUATION,
    EVALUATIONS,
    Evaluation,
    Evaluator,
    choose_evaluator,
    make_evaluator,
)
from likeness.playback.view_clamp.avatar import ViewClampedAvatar
from likeness.renderers import create
from likeness.renderers.output import RenderOutput
from likeness.scene.camera import Camera
from likeness.scene.cloud import GaussianCloud
from likeness.scene.expression_caps import capped_state
from likeness.scene.expression_tuning import ExpressionTuning
from likeness.scene.head_state import HeadState
from likeness.scene.to_device import to_device

log = logging.getLogger(__name__)


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
        compile: of these ``torch.compile`` is one; it delays the player by a minute. Nothing on a
            CPU.
        networks: what evaluates the avatar's networks on CUDA; None: what its fit asked for, as far
        as it is there. Both are chosen here, at recorded states; ``choices`` and one line of log
        say how. Raises UserError where tinycudann is given and missing, and where the renderer
        cannot be compiled.
        refine: images are refined by the bundle's screen refiner, where it has one.
        """
        self.device = torch.device(device)
        on_cuda = self.device.type == "cuda"
        if evaluation not in (None, *EVALUATIONS[: None if on_cuda else 1]):
            raise ValueError(f"Player: expected an evaluation of {device}, got {evaluation!r}")
        self.bundle = (
            bundle if isinstance(bundle, AvatarBundle) else AvatarBundle.load(Path(bundle))
        )
        if networks is not None:
            require(networks, self.device)
        self.avatar = self.bundle.avatar.compile(self.device)
        self.avatar.warm_up()
        self.renderer = create(renderer, device)
        # now, not at the first image: what cannot be compiled is an error here
        self.renderer.warm_up(gradients=False)
        self.camera = self.bundle.default_camera.to(self.device)
        refinement = self.bundle.refinement if refine else None
        self._refinement = None if refinement is None else refinement.to(self.device)
        self._memory: _Memory | None = None
        self._origin = torch.zeros(3, device=self.device)
        self._tuning = _on(self.bundle.tuning, self.device)
        self.choices: dict[str, Choice] = {}
        wish = settle(networks or NetworksConfig.of_bundle(self.bundle.facts), self.device)
        self._evaluator = self._choose(evaluation if on_cuda else "torch", compile, wish)

    @torch.no_grad()
    def _choose(
        self, evaluation: Evaluation | None, compile: bool, wish: NetworksConfig
    ) -> Evaluator:
        """What evaluates the avatar; None: the fastest."""
        recording = self.bundle.recording
        state, other = (
            self._tuned(self._on_device(recording[index])) for index in (0, len(recording) // 2)
        )
        eye = self.camera.in_frame(state.T_world_head).center
        self.avatar, self.choices = choose_for(self.avatar, state, eye, wish)
        if evaluation is not None:
            return make_evaluator(evaluation, self.avatar, state, eye)
        choice, evaluator = choose_evaluator(self.avatar, state, other, eye, compile)
        self.choices[EVALUATION] = choice
        log.info("playback: %s", describe(self.choices))
        return evaluator

    @property
    def refines(self) -> bool:
        """Whether a screen refiner corrects its images."""
        return self._refinement is not None

    @torch.no_grad()
    def step(
        self,
        state: HeadState,
        camera: Camera | None = None,
        background: Tensor | None = None,
        *,
        depth: bool = False,
        clamp_views: bool = False,
    ) -> RenderOutput:
        """The image of one state (unbatched) by a camera of the world; the bundle's own camera if
        none is given.

        background: a colour [3] or image [H, W, 3] that is put behind; then alpha is 1. Without
        one the colour stays premultiplied. depth: also the expected depth in metres.
        clamp_views: where the camera leaves the views of the recording, colours are clamped to
        those; see ``likeness.playback.view_clamp``.
        """
        if camera is None:
            camera = self.camera
        else:
            K, T_cam_world = to_device((camera.K, camera.T_cam_world), self.device)
            camera = dataclasses.replace(camera, K=K, T_cam_world=T_cam_world)
        local = self._on_device(state)
        in_head = camera.in_frame(local.T_world_head)
        if clamp_views:
            cloud = self.clamped.cloud(local, in_head.center)
        else:
            cloud = self._cloud(state, local, in_head.center)
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
        return cloud.map(torch.clone) if self._evaluator.overwrites else cloud

    def _on_device(self, state: HeadState) -> HeadState:
        if state.expression.device == self.device:
            return state
        return HeadState(*to_device(_tensors(state), self.device))

    def _tuned(self, local: HeadState) -> HeadState:
        tuned = local if self._tuning is None else self._tuning(local)
        return capped_state(tuned, self.bundle.expression_names)

    def _cloud(self, state: HeadState, local: HeadState | None, eye: Tensor) -> GaussianCloud:
        """``cloud`` of a state as it was given, by which it is recognised, and as it is on the
        device, if it is."""
        if not self.avatar.view_dependent:
            eye = self._origin
        if self._memory is None or not self._memory.holds(state, eye):
            tuned = self._tuned(self._on_device(state) if local is None else local)
            (position,) = to_device((eye,), self.device)
            self._memory = None  # the last cloud may be overwritten now
            self._memory = _Memory.of(state, eye, self._evaluator(tuned, position))
        return self._memory.cloud

    @functools.cached_property
    def clamped(self) -> ViewClampedAvatar:
        """The avatar as ``step`` shows it with ``clamp_views``."""
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
        clamp_views: bool = False,
    ) -> Iterator[RenderOutput]:
        """The images of a driver's states, one by one as they are asked for; see ``step``."""
        for state in driver:
            yield self.step(state, camera, background, depth=depth, clamp_views=clamp_views)


@dataclasses.dataclass(frozen=True)
class _Memory:
    """A cloud with what it was made of.

    given: the tensors as they came, with their versions; copied: their values, where these are on
    the CPU. Values on a GPU are told apart by the tensors alone: to compare them would stop it.
    """

    given: tuple[Tensor, ...]
    versions: tuple[int, ...]
    copied: tuple[Tensor | None, ...]
    cloud: GaussianCloud

    @classmethod
    def of(cls, state: HeadState, eye: Tensor, cloud: GaussianCloud) -> _Memory:
        given = *_tensors(state), eye
        copied = tuple(tensor.clone() if tensor.device.type == "cpu" else None for tensor in given)
        return cls(given, tuple(map(_version, given)), copied, cloud)

    def holds(self, state: HeadState, eye: Tensor) -> bool:
        return all(
            torch.equal(tensor, copied)
            if copied is not None and tensor.device.type == "cpu"
            else tensor is given and _version(tensor) == version
            for tensor, given, version, copied in zip(
                (*_tensors(state), eye), self.given, self.versions, self.copied
            )
        )


def _on(tuning: ExpressionTuning | None, device: torch.device) -> ExpressionTuning | None:
    """Moved once: a tuning checks its numbers, for which a GPU would have to be waited for."""
    return None if tuning is None else tuning.to(device)


def _tensors(state: HeadState) -> tuple[Tensor, ...]:
    return tuple(getattr(state, field.name) for field in dataclasses.fields(state))


def _version(tensor: Tensor) -> int:
    """Counts the changes of a tensor in place."""
    return -1 if tensor.is_inference() else tensor._version
