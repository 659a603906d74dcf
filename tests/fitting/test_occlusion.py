"""What closed lips hide gets no gradient, and what an open mouth shows does."""

from __future__ import annotations

import dataclasses
import functools

import pytest
import torch

from likeness.fitting import loop
from likeness.fitting.binding import Binder
from likeness.fitting.config import FitConfig
from likeness.fitting.inside import Inside
from likeness.fitting.occlusion import EYES_BEHIND_LIDS, MOUTH, Occlusion
from likeness.head_models import shaped_head
from likeness.head_models.inside import inside_mouth
from likeness.head_models.landmarks import LIP_PAIRS, LIPS
from likeness.renderers import create
from likeness.scene.capture import Capture
from likeness.scene.frame_images import FrameStore
from tests.fitting.synthetic_run import make_capture

CONFIG = FitConfig(avatar="rigged", initializer="mesh")
CLOSED, OPEN = 0, 5  # frames; the jaw opens from one to the next


def with_landmarks_of_the_mesh(capture: Capture) -> Capture:
    """The same with landmarks where the posed head has them."""
    posed = shaped_head(capture).posed(capture.states).landmarks()
    landmarks, _ = capture.cameras.in_frame(capture.states.T_world_head).project(posed)
    return dataclasses.replace(
        capture, frames=dataclasses.replace(capture.frames, landmarks=landmarks)
    )


@pytest.fixture(scope="module")
def capture(tmp_path_factory) -> Capture:
    return with_landmarks_of_the_mesh(make_capture(tmp_path_factory.mktemp("capture")))


@pytest.fixture(scope="module")
def avatar(capture):
    return loop.create_avatar(CONFIG, capture, FrameStore(capture, capture.train, "cpu"), 0)


def inside_of(capture) -> Inside:
    return Inside(capture, FrameStore(capture, capture.train, "cpu"), "cpu")


def gradients(avatar, capture, *frames: int, suited: bool) -> dict[str, torch.Tensor]:
    """What the Gaussians get of a loss over all pixels of frames."""
    chosen = frames[0] if len(frames) == 1 else list(frames)
    state, camera = capture.states[chosen], capture.cameras[chosen]
    drawn = functools.partial(inside_of(capture).drawn, frames=frames, suited=suited)
    output, _ = loop.render(avatar, create("cpu", "cpu"), state, camera, CONFIG, drawn=drawn)
    avatar.zero_grad()
    (output.rgb.square().sum() + output.alpha.square().sum()).backward()
    return {
        name: p.grad.flatten(1).abs().sum(1) if p.grad.ndim > 1 else p.grad.abs()
        for name, p in avatar.per_gaussian.items()
        if p.grad is not None
    }


@pytest.mark.parametrize("suited", [True, False])
def test_closed_lips_give_no_gradient_to_the_inside(avatar, capture, suited):
    inside = inside_mouth(shaped_head(capture).model)[avatar.rig.vertices].all(-1)
    assert inside.sum() > 100
    closed = gradients(avatar, capture, CLOSED, suited=suited)
    opened = gradients(avatar, capture, OPEN, suited=suited)
    for name in ("means", "colors", "opacity_logits", "log_scales"):
        assert (closed[name][inside] == 0).all(), name
        assert (closed[name][~inside] > 0).any(), name
        assert (opened[name][inside] > 0).sum() > 10, name


def test_lids_give_no_gradient_to_what_they_hide_of_an_eye(avatar, capture):
    """Of an open eye the front learns and the top does not, and nothing of a shut one."""
    head = shaped_head(capture)
    for opening in EYES_BEHIND_LIDS:
        eye = opening.behind(head.model)
        points = head.posed(capture.states[CLOSED]).vertices[eye]
        arms = points - points.mean(0)
        hidden = Occlusion(capture, head, "cpu", [opening]).hidden(CLOSED, points)
        front = arms[:, 2].argmax()[None]
        assert not hidden[front].any() and hidden[arms[:, 1] > 0.01].all()
        pairs = torch.tensor(opening.gaps)
        landmarks = capture.frames.landmarks.clone()
        landmarks[:, pairs[:, 0]] = landmarks[:, pairs[:, 1]]
        shut = dataclasses.replace(
            capture, frames=dataclasses.replace(capture.frames, landmarks=landmarks)
        )
        assert Occlusion(shut, head, "cpu", [opening]).hidden(CLOSED, points).all()
    part = head.model.vertex_part[avatar.rig.vertices].amax(-1)
    eyes = (part == 1) | (part == 2)
    got = gradients(avatar, capture, CLOSED, suited=True)["colors"][eyes]
    assert (got > 0).any() and (got == 0).float().mean() > 0.5


def test_a_batch_is_as_its_frames(avatar, capture):
    both = gradients(avatar, capture, CLOSED, OPEN, suited=False)["colors"]
    inside = inside_mouth(shaped_head(capture).model)[avatar.rig.vertices].all(-1)
    alone = gradients(avatar, capture, OPEN, suited=False)["colors"]
    torch.testing.assert_close(both[inside], alone[inside], rtol=1e-4, atol=1e-5)


def test_landmarks_of_closed_lips_hide_all(capture):
    head, pairs = shaped_head(capture), torch.tensor(LIP_PAIRS)
    points = head.posed(capture.states[OPEN]).vertices[inside_mouth(head.model)]
    assert not Occlusion(capture, head, "cpu").hidden(OPEN, points).all()
    landmarks = capture.frames.landmarks.clone()
    landmarks[:, pairs[:-2, 0]] = landmarks[:, pairs[:-2, 1]]
    shut = dataclasses.replace(
        capture, frames=dataclasses.replace(capture.frames, landmarks=landmarks)
    )
    assert MOUTH.is_closed(shut, OPEN)
    assert Occlusion(shut, head, "cpu").hidden(OPEN, points).all()
    unknown = dataclasses.replace(shut.frames, confidence=torch.zeros_like(shut.frames.confidence))
    blind = Occlusion(dataclasses.replace(shut, frames=unknown), head, "cpu")
    assert not blind.hidden(OPEN, points).all()


def test_members_follow_the_binding(avatar, capture):
    inside = inside_of(capture)
    members = inside.members(avatar).index
    fewer = avatar.subset(members[:7])
    assert inside.members(fewer).index.tolist() == list(range(7))
    skin = shaped_head(capture).model.skin_faces[0]
    with torch.no_grad():
        fewer.per_gaussian["rig_vertices"][3] = skin
    assert inside.members(fewer).index.tolist() == [0, 1, 2, 4, 5, 6]


def test_what_does_not_learn_does_not_grow(avatar, capture):
    """Neither by densification nor in size."""
    inside, state = inside_of(capture), capture.states[CLOSED]
    camera = capture.cameras[CLOSED].in_frame(state.T_world_head)
    cloud = avatar(state, camera.center)
    drawn = inside.drawn(cloud, avatar, (CLOSED,), suited=True)
    output = create("cpu", "cpu").render(drawn, camera, screen="absolute")
    (output.rgb.square().sum() + output.alpha.sum()).backward()
    members, learns = inside.members(avatar), inside.learns(cloud, avatar, (CLOSED,))
    assert learns.any() and not learns[members.openings == 0].any()  # eyes are open
    members = members.index[~learns]
    inside.silence(output.screen, cloud, avatar, (CLOSED,))
    for gradient in (output.screen.means2d.grad, output.screen.absgrad):
        assert (gradient[members] == 0).all() and (gradient != 0).any()
    large = avatar.duplicate(lambda tensor: tensor.clone())
    large.per_gaussian["log_scales"].data[:] = -2.0
    Binder(capture).after_step(large, 1, False)
    parts = Binder(capture).surface.membership(avatar.rig).part
    names = shaped_head(capture).model.part_names
    sizes = large.per_gaussian["log_scales"].exp()
    assert sizes[members].max() < 0.01 and sizes[parts == names.index("eye_left")].max() < 0.005
    assert (sizes[parts == names.index("skin")] > 0.1).all()


def test_what_strays_into_the_mouth_is_left_out(avatar, capture):
    """Skin's Gaussians in the mouth become transparent; those before the lips stay."""
    head = shaped_head(capture)
    skin = head.model.vertex_part == head.model.part_names.index("skin")
    of_skin = skin[avatar.rig.vertices].all(-1).nonzero()[:, 0]
    inner, outer = of_skin[:2].tolist()
    astray = avatar.duplicate(lambda tensor: tensor.clone())
    tongue = head.model.vertex_part == head.model.part_names.index("tongue")
    lips = head.posed(head.model.neutral_state()).landmarks()[list(LIPS)].mean(0)
    with torch.no_grad():
        astray.per_gaussian["means"][inner] = head.vertices[tongue].mean(0)
        astray.per_gaussian["means"][outer] = lips + torch.tensor([0.0, 0.0, 0.01])
    inside_of(capture).remove_strays(astray)
    logits, before = astray.base_opacities(), avatar.base_opacities()
    assert logits[inner] < -9 and logits[outer] == before[outer]
    assert (logits != before).sum() < 0.01 * len(of_skin)
