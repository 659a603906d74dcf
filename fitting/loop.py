"""The training loop. Listeners see every step; evaluation, logs and viewers are theirs."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import logging
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from likeness.fitting import checkpoint, memory, objective
from likeness.fitting.avatars import AVATARS, AvatarModel, AvatarShape, TrainingStates
from likeness.fitting.binding import Binder
from likeness.fitting.checkpoint import Progress
from likeness.fitting.config import FitConfig
from likeness.fitting.densify import DENSIFIERS
from likeness.fitting.fade import fade_border
from likeness.fitting.figures import Figures, FitDivergedError, Unread
from likeness.fitting.image_regions import head_box
from likeness.fitting.inside import Inside
from likeness.fitting.objective import Perceptual
from likeness.fitting.optimizers import make_optimizer, operate, set_rates
from likeness.fitting.seedings import SEEDINGS
from likeness.ops.blend import factors_of
from likeness.renderers import Renderer, RenderOutput, ScreenRequest
from likeness.scene.camera import Camera
from likeness.scene.capture import Capture
from likeness.scene.cloud import GaussianCloud
from likeness.scene.errors import UserError
from likeness.scene.expression_caps import capped_state
from likeness.scene.frame_images import FrameStore
from likeness.scene.head_state import HeadState
from likeness.scene.seeds import Seeds
from likeness.scene.to_device import to_device
from likeness.seeding.eyes import with_eyes
from likeness.seeding.inside import with_inside
from likeness.seeding.light import with_changes

log = logging.getLogger(__name__)

_CHECKPOINT_EVERY_S = 30.0
_FINITE_EVERY = 50
# Steps on a GPU between two readings. In between the host waits only inside gsplat, once a
# rendering, for the number of tiles: it prepares losses, gradients, the optimizer's update and the
# next avatar while the GPU works on the last ones.
_READ_EVERY = 10


@dataclasses.dataclass(frozen=True)
class Budget:
    """How long to fit: minutes of optimisation or a number of iterations, one of the two.

    clock: what minutes are counted by, in seconds; benchmarks on a shared machine count processor
        time.
    """

    minutes: float | None = None
    iterations: int | None = None
    clock: Callable[[], float] = time.monotonic

    def __post_init__(self) -> None:
        if (self.minutes is None) == (self.iterations is None):
            raise ValueError("Budget: give minutes or iterations, one of the two")

    def fraction(self, progress: Progress) -> float:
        """How much of the budget is spent, in [0, 1]."""
        if self.iterations is not None:
            return min(progress.step / max(self.iterations, 1), 1.0)
        return min(progress.seconds / max((self.minutes or 0) * 60, 1e-9), 1.0)


@dataclasses.dataclass(frozen=True)
class StepInfo:
    """What listeners hear after a step. ``nominal`` is the iteration in the preset's own units,
    ``frames`` are those that the step took.

    On a GPU ``figures`` are ready after every tenth step; to read them after others makes the fit
    wait.
    """

    step: int
    nominal: float
    fraction: float
    seconds: float
    frames: tuple[int, ...]
    figures: Figures
    num_gaussians: int

    @property
    def pictures_per_s(self) -> float:
        """Frames that were taken in a second, on average over the fit."""
        return self.step * len(self.frames) / max(self.seconds, 1e-9)


class Listener(Protocol):
    """Hears of a fit; changes nothing."""

    def on_step(self, info: StepInfo, avatar: AvatarModel) -> None: ...

    def on_end(self, avatar: AvatarModel) -> None: ...


class FitInterrupted(KeyboardInterrupt):
    """The fit was stopped by a signal after its state was saved."""


def create_avatar(
    config: FitConfig, capture: Capture, frames: FrameStore, seed: int
) -> AvatarModel:
    """A fresh avatar for a capture, started by the configured initializer."""
    return avatar_of(make_seeds(config, capture, frames, seed), config, capture, seed)


def make_seeds(config: FitConfig, capture: Capture, frames: FrameStore, seed: int) -> Seeds:
    """The configured initializer's seeds; those of a rigged avatar with the mouth's inside made
    anew, with whole eyes, with lids that shut, and with a rig that turns, stretches and lights."""
    seeds = SEEDINGS[config.initializer](capture, frames, config.seeds, seed)
    if not config.avatar_config().anchoring.rigged:
        return seeds
    seeds = with_inside(with_eyes(seeds, capture, frames, seed), capture, frames, seed)
    return with_changes(seeds, capture, frames)


def avatar_of(seeds: Seeds, config: FitConfig, capture: Capture, seed: int) -> AvatarModel:
    """A fresh avatar that starts from seeds. What a screen refiner would read of them is dropped: a
    fit changes the Gaussians that it was trained for."""
    shape = AvatarShape(
        seeds.cloud.num_gaussians,
        len(capture.expression_names),
        len(capture.joint_names),
        seeds.rig.shapes.shape[1],
    )
    torch.manual_seed(seed)
    avatar = AVATARS[config.avatar](config.avatar_config(), shape)
    states = capture.states[list(capture.train)]
    avatar.initialize(seeds, TrainingStates(states.expression, states.T_head_body))
    return avatar


def fit(
    capture: Capture,
    renderer: Renderer,
    config: FitConfig,
    budget: Budget,
    *,
    device: torch.device | str = "cpu",
    seed: int = 0,
    frames: FrameStore | None = None,
    perceptual: Perceptual | None = None,
    checkpoint_path: Path | None = None,
    listeners: Sequence[Listener] = (),
    should_stop: Callable[[], bool] = lambda: False,
) -> AvatarModel:
    """Fits an avatar to the training frames of a capture, ``config.schedule.batch`` of them in each
    step.

    With a ``checkpoint_path`` the fit resumes from there if the file exists, and saves itself there
    every half minute, at the end and when ``should_stop`` says so (then FitInterrupted is raised).
    Everything random depends on the seed and the step alone, so that a resumed fit takes the same
    steps as an uninterrupted one. Raises FitDivergedError when a loss or gradient is not finite (a
    GPU's are looked at every ten steps); the last checkpoint stays. Raises UserError where a batch
    is larger than the training frames are many.
    """
    check_batch(config, capture)
    capture = capture.with_states(capped_state(capture.states, capture.expression_names))
    frames = frames or FrameStore(capture, capture.train, device)
    avatar = create_avatar(config, capture, frames, seed).to(device)
    avatar.warm_up()
    optimizer = make_optimizer(avatar, config.optimizer)
    densifier = DENSIFIERS[config.densifier](config.densify)
    batches = _Batches(capture, frames, config, device, seed)
    binder = None if avatar.rig is None else Binder(capture)
    inside = None if avatar.rig is None else Inside(capture, frames, device)
    progress, unread, last_save = Progress(), Unread(), time.monotonic()
    read_every = 1 if torch.device(device).type == "cpu" else _READ_EVERY
    if checkpoint_path is not None and checkpoint_path.exists():
        progress = checkpoint.load(checkpoint_path, avatar, optimizer, densifier)
        log.info("resuming at iteration %d", progress.step)
    elif binder is not None:
        binder.bind(avatar)

    def save() -> None:
        unread.read()
        if checkpoint_path is not None:
            checkpoint.save(checkpoint_path, avatar, optimizer, densifier, progress)

    while (fraction := budget.fraction(progress)) < 1:
        if should_stop():
            save()
            raise FitInterrupted
        started, nominal = budget.clock(), fraction * config.schedule.iterations
        batch = batches.draw(progress.step, nominal)
        set_rates(optimizer, fraction, _stride(config, nominal, progress.step))
        avatar.advance(nominal)
        screen = densifier.wants_screen(nominal)
        drawn = inside and functools.partial(
            inside.drawn, frames=batch.frames, suited=progress.step % 2 == 0
        )
        output, cloud = render(
            avatar, renderer, batch.state, batch.camera, config, screen=screen, drawn=drawn
        )
        compare = perceptual if nominal >= config.objective.perceptual_from else None
        loss, terms, squared_error = objective.compute(
            config.objective,
            output,
            batch.target,
            batch.background,
            avatar,
            compare,
            None if compare is None else batches.boxes(batch),
        )
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        figures = unread.add(progress.step, loss, terms, squared_error)
        if (progress.step + 1) % read_every == 0:
            # waits for the device: what it has worked is in the time that is measured
            unread.read()
        if progress.step % _FINITE_EVERY == 0:
            _check_gradients(avatar, progress.step)
        if inside is not None and output.screen is not None:
            inside.silence(output.screen, cloud, avatar, batch.frames)
        densifier.observe(output, cloud, max(batch.camera.width, batch.camera.height))
        optimizer.step()
        if (surgery := densifier.plan(nominal, avatar, batch.generator)) is not None:
            operate(avatar, optimizer, surgery)
            memory.release_pages()
        if binder and inside and binder.after_step(avatar, progress.step, surgery is not None):
            inside.remove_strays(avatar)

        progress.step += 1
        progress.seconds += budget.clock() - started
        info = StepInfo(
            progress.step,
            nominal,
            budget.fraction(progress),
            progress.seconds,
            batch.frames,
            figures,
            avatar.num_gaussians,
        )
        for listener in listeners:
            listener.on_step(info, avatar)
        if time.monotonic() - last_save > _CHECKPOINT_EVERY_S:
            save()
            last_save = time.monotonic()
    save()
    if binder and inside:
        binder.bind(avatar)
        inside.remove_strays(avatar)
        inside.complete(avatar)
    fade_border(avatar, capture)
    for listener in listeners:
        listener.on_end(avatar)
    return avatar


@dataclasses.dataclass(frozen=True)
class _Batch:
    """What one step takes: the positions of its frames in the capture; their states and cameras,
    [] of one frame, else [B]; the colours and mattes to compare with, [*b, H, W, 3] and
    [*b, H, W, 1], reduced by ``divisor``; the background colours [*b, 3]; the step's random
    numbers."""

    frames: tuple[int, ...]
    state: HeadState
    camera: Camera
    target: tuple[Tensor, Tensor]
    background: Tensor
    divisor: int
    generator: torch.Generator


class _Batches:
    """The training frames of a capture, as steps take them."""

    def __init__(
        self,
        capture: Capture,
        frames: FrameStore,
        config: FitConfig,
        device: torch.device | str,
        seed: int,
    ) -> None:
        self._capture, self._frames, self._config = capture, frames, config
        self._device, self._seed = device, seed
        self._states, self._cameras = capture.states.to(device), capture.cameras.to(device)
        self._boxes: dict[tuple[int, int], objective.Box] = {}

    def draw(self, step: int, nominal: float) -> _Batch:
        """Those of a step, a function of the seed and the step alone."""
        schedule, generator = self._config.schedule, generator_of(self._seed, step)
        chosen = frames_of(self._capture.train, step, self._seed, schedule.batch)
        divisor = 2 if nominal < schedule.half_resolution_until else 1
        state, camera = _at(chosen, self._states, self._cameras)
        if divisor > 1:
            camera = camera.reduced(divisor)
        target = self._frames.get(chosen[0] if len(chosen) == 1 else chosen, divisor)
        colours = [objective.background_colour(self._config.objective, generator) for _ in chosen]
        shared = torch.stack(colours).view(*state.batch_shape, 3)
        (background,) = to_device((shared,), self._device)
        return _Batch(chosen, state, camera, target, background, divisor, generator)

    def boxes(self, batch: _Batch) -> list[objective.Box]:
        """Where the perceptual loss looks at each frame of a batch."""
        for frame in batch.frames:
            if (frame, batch.divisor) not in self._boxes:
                if self._config.objective.perceptual_region == "frame":
                    box = 0, 0, batch.camera.width, batch.camera.height
                else:
                    box = head_box(self._capture.frames[frame], batch.divisor)
                self._boxes[frame, batch.divisor] = box
        return [self._boxes[frame, batch.divisor] for frame in batch.frames]


def render(
    avatar: AvatarModel,
    renderer: Renderer,
    state: HeadState,
    camera: Camera,
    config: FitConfig,
    *,
    screen: ScreenRequest = False,
    drawn: Callable[[GaussianCloud, AvatarModel], GaussianCloud] | None = None,
) -> tuple[RenderOutput, GaussianCloud]:
    """The renderings of states [*b] by cameras [*b] of the world, and the clouds that the avatar
    gives. drawn: those as they are rendered; None: as they are."""
    if not config.schedule.expressions:
        state = state.expressionless()
    in_head = camera.in_frame(state.T_world_head)
    cloud = avatar(state, in_head.center)
    visible = cloud if drawn is None else drawn(cloud, avatar)
    return renderer.render(visible, in_head, screen=screen), cloud


def _stride(config: FitConfig, nominal: float, step: int) -> float:
    """What the learning rates are multiplied by in a fit that takes fewer steps than the
    preset's."""
    return max(nominal / max(step, 1), 1.0) ** config.schedule.short_fit_exponent


def check_batch(config: FitConfig, capture: Capture) -> None:
    """Raises UserError where a batch would need more training frames than there are."""
    if config.schedule.batch > len(capture.train):
        raise UserError(
            f"schedule.batch={config.schedule.batch}: there are only {len(capture.train)} training "
            "frames; set it to no more than these"
        )


def generator_of(seed: int, step: int) -> torch.Generator:
    """The random numbers of one step, the same on every machine and Python. seed, step: whole
    numbers from 0."""
    return torch.Generator().manual_seed(
        int(np.random.SeedSequence((seed, step)).generate_state(1)[0])
    )


def frames_of(train: tuple[int, ...], step: int, seed: int, batch: int) -> tuple[int, ...]:
    """The frames of a step: no frame twice per epoch, in an order that depends on seed and epoch
    alone.

    An epoch has as many steps as it has whole batches; the frames left over, fewer than a batch,
    are others each time.
    """
    epoch, position = divmod(step, len(train) // batch)
    generator = torch.Generator().manual_seed(seed * 1_000_003 + epoch)
    order = torch.randperm(len(train), generator=generator)
    chosen = order[position * batch : (position + 1) * batch]
    return tuple(train[index] for index in chosen.tolist())


def _at(chosen: tuple[int, ...], states: HeadState, cameras: Camera) -> tuple[HeadState, Camera]:
    """The state and camera of one frame, or those of several as a batch."""
    if len(chosen) == 1:
        return states[chosen[0]], cameras[chosen[0]]
    # Stacked, not indexed by a list, which would be copied to a GPU and make the host wait.
    state = HeadState.stack([states[frame] for frame in chosen])
    return state, Camera.stack([cameras[frame] for frame in chosen])


def _check_gradients(avatar: AvatarModel, step: int) -> None:
    names, finite = [], []
    for name, parameter in avatar.named_parameters():
        for gradient in (parameter.grad, *itertools.chain(*factors_of(parameter))):
            if gradient is not None:
                names.append(name)
                finite.append(torch.isfinite(gradient).all())
    flags = torch.stack(finite).tolist() if finite else []
    for name, is_finite in zip(names, flags):
        if not is_finite:
            raise FitDivergedError(f"iteration {step}: the gradient of {name} is not finite")
