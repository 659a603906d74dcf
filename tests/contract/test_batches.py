"""What a step makes of several frames, for every avatar: the mean gradient, and what a densifier
sees of each alone."""

from __future__ import annotations

import copy

import pytest
import torch

from likeness.fitting import loop, objective
from likeness.fitting.avatars import AVATARS
from likeness.fitting.config import FitConfig
from likeness.fitting.densify import AdaptiveConfig, AdaptiveDensifier
from likeness.renderers import create
from likeness.renderers.output import RenderOutput
from likeness.scene.camera import Camera
from tests import toys
from tests.contract.test_avatars import EXTENDED, make

SIZE, PICTURES = 32, 3
CONFIG = FitConfig(
    objective=objective.ObjectiveConfig(matte=0.3, background="random", basis_penalty=0.1)
)


def frames():
    """States, cameras, targets (colour and matte), backgrounds and boxes of a batch."""
    generator = torch.Generator().manual_seed(0)
    states = toys.random_states((PICTURES,), seed=3)
    cameras = Camera.stack([toys.camera(SIZE)] * PICTURES)
    rgba = torch.rand(PICTURES, SIZE, SIZE, 4, generator=generator)
    backgrounds = torch.rand(PICTURES, 3, generator=generator)
    boxes = [(2, 3, 20, 15), (2, 3, 20, 15), (0, 8, 32, 31)]
    return states, cameras, (rgba[..., :3], rgba[..., 3:]), backgrounds, boxes


def perceptual(picture, truth):
    return (picture - truth).square().mean()


def take(avatar, densifier, which, device):
    """One step without its update: the loss, its terms and the squared error; the densifier sees
    it."""
    states, cameras, target, backgrounds, boxes = frames()
    states, cameras, background = (
        part[which].to(device) for part in (states, cameras, backgrounds)
    )
    output, cloud = loop.render(
        avatar, create("auto", device), states, cameras, CONFIG, screen=densifier.wants_screen(0)
    )
    target = tuple(tensor[which].to(device) for tensor in target)
    boxes = boxes[which] if isinstance(which, slice) else [boxes[which]]
    total, terms, error = objective.compute(
        CONFIG.objective, output, target, background, avatar, perceptual, boxes
    )
    total.backward()
    densifier.observe(output, cloud, SIZE)
    return {
        name: float(value.detach())
        for name, value in {"loss": total, "error": error, **terms}.items()
    }


def check_batch(kind, absolute, device="cpu"):
    """A batch has the mean gradient of its pictures, and a densifier sees of it what it sees of
    each alone."""
    together, alone = (make(kind, EXTENDED).to(device) for _ in range(2))
    of_batch, of_each = (
        AdaptiveDensifier(AdaptiveConfig(absolute_gradients=absolute)) for _ in range(2)
    )
    found = take(together, of_batch, slice(None), device)
    singles = [take(alone, of_each, index, device) for index in range(PICTURES)]
    for name, value in found.items():
        assert value == pytest.approx(
            sum(single[name] for single in singles) / PICTURES, rel=1e-4
        ), name
    near = 1e-4 if device == "cpu" else 1e-3  # a GPU adds in any order
    for (name, parameter), other in zip(together.named_parameters(), alone.parameters()):
        if parameter.requires_grad:
            gradient, mean = parameter.grad.cpu(), other.grad.cpu() / PICTURES
            assert mean.abs().max() > 0, name
            assert (gradient - mean).norm() < near * mean.norm(), name
    expected = {name: value.cpu() for name, value in of_each.state().items()}
    assert expected["gradients"].max() > 0 and expected["counts"].max() == PICTURES
    assert expected["progress"][0] == PICTURES
    for name, value in of_batch.state().items():
        torch.testing.assert_close(value.cpu(), expected[name], rtol=near, atol=1e-9, msg=name)


@pytest.mark.parametrize("absolute", [False, True], ids=["gradients", "absolute"])
@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
@pytest.mark.parametrize("kind", AVATARS)
def test_a_batch_has_the_mean_gradient_and_is_seen_picture_by_picture(kind, device, absolute):
    check_batch(kind, absolute, device)


@pytest.mark.parametrize("kind", AVATARS)
def test_states_in_one_go_have_the_sum_of_their_gradients(kind):
    """As on a GPU: in double precision no avatar evaluates the states of a batch one by one."""
    whole = make(kind, EXTENDED).double()
    generator = torch.Generator().manual_seed(3)
    states, eyes = (
        toys.random_states((2, 3), seed=1).to(torch.float64),
        torch.randn(2, 3, 3, generator=generator),
    )
    eyes, single = eyes.double(), copy.deepcopy(whole)

    def total(cloud, weights):
        return sum((value * w).sum() for value, w in zip(cloud.fields().values(), weights))

    batch = whole(states, eyes)
    weights = [
        torch.randn(value.shape, generator=generator, dtype=value.dtype)
        for value in batch.fields().values()
    ]
    total(batch, weights).backward()
    for i in range(2):
        for j in range(3):
            total(single(states[i, j], eyes[i, j]), [w[i, j] for w in weights]).backward()
    for (name, parameter), other in zip(whole.named_parameters(), single.parameters()):
        if parameter.requires_grad:
            assert (parameter.grad - other.grad).norm() < 1e-9 * other.grad.norm(), name


@pytest.mark.parametrize("kind", AVATARS)
def test_a_batch_is_one_call_of_the_renderer(kind):
    calls = []

    class Watched:
        def render(self, cloud, camera, *, screen):
            calls.append((cloud.batch_shape, camera.batch_shape))
            picture = torch.zeros(*cloud.batch_shape, SIZE, SIZE, 3)
            return RenderOutput(picture, picture[..., :1])

    states, cameras, *_ = frames()
    loop.render(make(kind), Watched(), states, cameras, CONFIG)
    assert calls == [((PICTURES,), (PICTURES,))]
