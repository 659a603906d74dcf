"""A training step on a synthetic head, whole as the training loop takes it, or part by part with
the clock read between."""

from __future__ import annotations

import dataclasses
import math

import torch
from torch import Tensor, nn

from benchmarks.common.device_times import Clock, clock
from benchmarks.common.synthetic_head import RIG_VERTICES, head_like_scene
from likeness.renderers import create
from likeness.renderers.cpu import CpuRenderer
from likeness.scene.camera import Camera
from likeness.scene.to_device import to_device

_FRAMES = 8
PARTS = (
    "frame",
    "avatar forward",
    "rasteriser forward",
    "losses and their gradient",
    "rasteriser backward",
    "avatar backward",
    "densify statistics",
    "optimizer",
)


class TrainingStep:
    """Steps of a preset on ``count`` Gaussians at ``size`` squared, without the VGG loss.

    threads: of the CPU. densifying: with the screen's gradients, which a fit gathers as long as it
    densifies. batch: frames of a step.
    """

    def __init__(
        self,
        preset: str,
        size: int,
        count: int,
        threads: int,
        densifying: bool = False,
        device: str = "cpu",
        batch: int = 1,
    ) -> None:
        from likeness.fitting.avatars import AVATARS, AvatarShape, TrainingStates
        from likeness.fitting.config import FitConfig
        from likeness.fitting.densify import DENSIFIERS
        from likeness.fitting.memory import keep_pages
        from likeness.fitting.optimizers import make_optimizer
        from likeness.ops import adam, image_loss
        from likeness.scene.config_files import load_preset
        from likeness.scene.head_state import HeadState
        from likeness.scene.rig_binding import RigBinding
        from likeness.scene.seeds import Seeds

        keep_pages()
        if device == "cpu":
            image_loss.compile_kernels()
            adam.compile_kernels()
        torch.set_num_threads(threads)
        self.device = device
        self.config, self.size, self.batch = load_preset(preset, FitConfig), size, batch
        cloud, camera = head_like_scene(count, size, 0)
        self._random = torch.Generator().manual_seed(0)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            shape = AvatarShape(count, 52, 2, RIG_VERTICES)
            avatar = AVATARS[self.config.avatar](self.config.avatar_config(), shape)
        seen = TrainingStates(
            torch.rand(100, 52, generator=self._random), torch.eye(4).expand(100, 4, 4)
        )
        avatar.initialize(
            Seeds(cloud, torch.full((count,), 0.5), RigBinding.empty(count, 52, RIG_VERTICES)), seen
        )
        self.avatar = avatar.to(device)
        avatar.warm_up()
        avatar.advance(self.config.schedule.iterations)
        self.renderer = CpuRenderer(threads) if device == "cpu" else create("gsplat", device)
        self.optimizer = make_optimizer(avatar, self.config.optimizer)
        self.densifier = DENSIFIERS[self.config.densifier](self.config.densify)
        self._screen = densifying and self.densifier.wants_screen(0)
        # The world is the camera's frame, as in a capture.
        self.camera = Camera(camera.K, torch.eye(4), size, size).to(device)
        self._rest = HeadState.neutral(52, 2, camera.T_cam_world).to(device)
        if batch > 1:
            self.camera, self._rest = (
                Camera.stack([self.camera] * batch),
                HeadState.stack([self._rest] * batch),
            )
        images = torch.rand(_FRAMES, size, size, 4, generator=self._random)
        self._frames, self._taken = (images * 255).to(device, torch.uint8), 0

    def _next(self):
        """States, backgrounds and targets of the next step; every coefficient moves, which costs
        the most."""
        from likeness.fitting import objective

        self._taken += 1
        shape, config = self._rest.batch_shape, self.config.objective
        colours = [objective.background_colour(config, self._random) for _ in range(self.batch)]
        drawn = torch.rand(*shape, 52, generator=self._random), torch.stack(colours).view(*shape, 3)
        expression, background = to_device(drawn, self.device)
        state = dataclasses.replace(self._rest, expression=expression)
        numbers = [(self._taken * self.batch + b) % _FRAMES for b in range(self.batch)]
        # As likeness.scene.frame_images.FrameStore gives them.
        rgba = (
            torch.stack([self._frames[n] for n in numbers]) if shape else self._frames[numbers[0]]
        )
        rgba = rgba.float() / 255
        return state, background, (rgba[..., :3], rgba[..., 3:])

    def take(self) -> list[Clock]:
        """One step, with its figure read; the clock at its start and its end."""
        start = clock(self.device)
        math.log10(max(float(self.go_on()), 1e-10))
        return [start, clock(self.device)]

    def go_on(self) -> Tensor:
        """One step as a fit takes it between two readings: the squared error stays where it is."""
        from likeness.fitting import loop, objective

        state, background, target = self._next()
        output, cloud = loop.render(
            self.avatar, self.renderer, state, self.camera, self.config, screen=self._screen
        )
        loss, _, error = objective.compute(
            self.config.objective, output, target, background, self.avatar, None, None
        )
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.densifier.observe(output, cloud, self.size)
        self.optimizer.step()
        return error

    def take_apart(self) -> list[Clock]:
        """The same step with its graph cut between the parts; the clock at the borders of PARTS."""
        from likeness.fitting import objective

        times = [clock(self.device)]
        state, background, target = self._next()
        in_head = self.camera.in_frame(state.T_world_head)
        times.append(clock(self.device))
        cloud = self.avatar(state, in_head.center)
        times.append(clock(self.device))
        leaves = cloud.map(_leaf)
        output = self.renderer.render(leaves, in_head, screen=self._screen)
        times.append(clock(self.device))
        cut = dataclasses.replace(output, rgb=_leaf(output.rgb), alpha=_leaf(output.alpha))
        self.optimizer.zero_grad(set_to_none=True)
        loss, _, error = objective.compute(
            self.config.objective, cut, target, background, self.avatar, None, None
        )
        loss.backward()
        math.log10(max(float(error), 1e-10))
        times.append(clock(self.device))
        torch.autograd.backward([output.rgb, output.alpha], [cut.rgb.grad, cut.alpha.grad])
        times.append(clock(self.device))
        fields = [
            (v, leaves.fields()[name].grad) for name, v in cloud.fields().items() if v.requires_grad
        ]
        torch.autograd.backward(*zip(*fields))
        times.append(clock(self.device))
        self.densifier.observe(output, cloud, self.size)
        times.append(clock(self.device))
        self.optimizer.step()
        return [*times, clock(self.device)]

    def work(self) -> dict[str, tuple[float, float]]:
        """(bytes, operations) that the parts with a simple count cannot do without, by name.

        Bytes: what is read and written of numbers too many for a cache. A parameter updated by Adam
        is read and written with its two moments. A network's gradient by weights and by inputs
        costs twice its forward pass.
        """
        bases = sum(
            p.numel() for p in self.avatar.per_gaussian.values() if p.ndim == 3 and p.requires_grad
        )
        learned = sum(p.numel() for p in self.avatar.parameters() if p.requires_grad)
        rows = self.batch * self.avatar.num_gaussians
        network = (
            2
            * rows
            * sum(m.in_features * m.out_features for m in self.avatar.modules() if _is_layer(m))
        )
        pixels = self.batch * self.size**2
        # SSIM: four blurs there, three back, of three channels, two directions and 11 taps each.
        ssim = 7 * 3 * pixels * 2 * 11 * 2
        return {
            "avatar forward": (4 * learned, network),
            "avatar backward": (4 * (learned - bases), 2 * network),
            "losses and their gradient": (4 * pixels * (8 + 4), ssim),
            "optimizer": (6 * 4 * learned, 0),
        }


def _leaf(tensor: Tensor) -> Tensor:
    return tensor.detach().requires_grad_()


def _is_layer(module: nn.Module) -> bool:
    return isinstance(module, nn.Linear)
