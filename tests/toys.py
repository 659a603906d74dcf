"""Small made things that tests share: states, clouds, and a capture of a head-like blob that
changes colour."""

from __future__ import annotations

import dataclasses
import signal
from pathlib import Path

import numpy as np
import torch

from likeness.ops import harmonics
from likeness.scene.camera import Camera
from likeness.scene.capture import Capture, TrackedFrame, TrackedFrames
from likeness.scene.cloud import GaussianCloud
from likeness.scene.head_state import HeadState
from likeness.scene.lattice import NUM_POINTS
from likeness.scene.rig_binding import CHANGES, RigBinding
from likeness.scene.transforms import make_transform, rotvecs_to_matrices

# The head looks into the camera: +y of the head is -y of the image.
FACING = torch.diag(torch.tensor([1.0, -1.0, -1.0]))


def head_pose(yaw: float = 0.0, distance: float = 0.9) -> torch.Tensor:
    """T_world_head [4, 4] of a head in front of the camera, turned by ``yaw`` radians."""
    rotation = FACING @ rotvecs_to_matrices(torch.tensor([0.0, yaw, 0.0]))
    return make_transform(rotation, torch.tensor([0.0, 0.0, distance]))


def camera(size: int) -> Camera:
    """The fixed camera of the toy captures, 2.5 widths focal length."""
    K = torch.tensor([[2.5 * size, 0.0, size / 2], [0.0, 2.5 * size, size / 2], [0.0, 0.0, 1.0]])
    return Camera(K, torch.eye(4), size, size)


def random_states(
    batch: tuple[int, ...], expressions: int = 52, joints: int = 2, seed: int = 0
) -> HeadState:
    """States [*batch] with small head turns around a body that stands still, and hair that
    sways."""
    generator = torch.Generator().manual_seed(seed)
    expression = torch.rand(*batch, expressions, generator=generator)
    quats = torch.tensor([1.0, 0.0, 0.0, 0.0]).expand(*batch, joints, 4).clone()
    turn = rotvecs_to_matrices(torch.randn(*batch, 3, generator=generator) * 0.2)
    poses = head_pose() @ make_transform(turn, torch.randn(*batch, 3, generator=generator) * 0.01)
    sway = torch.randn(*batch, NUM_POINTS, 2, generator=generator) * 0.003
    return HeadState(expression, quats, poses, head_pose().expand(*batch, 4, 4).clone(), sway)


def blob(count: int = 300, seed: int = 0) -> GaussianCloud:
    """A head-sized ellipsoid of coloured Gaussians around the skull's centre."""
    generator = torch.Generator().manual_seed(seed)
    direction = torch.nn.functional.normalize(torch.randn(count, 3, generator=generator), dim=-1)
    means = direction * torch.tensor([0.07, 0.1, 0.08]) + torch.tensor([0.0, -0.02, -0.08])
    colours = 0.5 + 0.4 * torch.sin(means * 60 + torch.tensor([0.0, 1.0, 2.0]))
    return GaussianCloud(
        means=means,
        quats=torch.nn.functional.normalize(torch.randn(count, 4, generator=generator), dim=-1),
        scales=torch.full((count, 3), 0.012),
        opacities=torch.full((count,), 0.9),
        sh=harmonics.from_rgb(colours)[:, None],
    )


RIG_VERTICES = 30


def rig(count: int, expressions: int = 52, seed: int = 0) -> RigBinding:
    """Gaussians tied at random to a rig of RIG_VERTICES vertices."""
    generator = torch.Generator().manual_seed(seed)
    weights = torch.rand(count, 3, generator=generator)
    return RigBinding(
        torch.randn(expressions, RIG_VERTICES, 3, generator=generator) * 0.003,
        torch.randint(RIG_VERTICES, (count, 3), generator=generator),
        weights / weights.sum(-1, keepdim=True) * torch.linspace(0, 1, count)[:, None],
        torch.randn(expressions, RIG_VERTICES, CHANGES, generator=generator) * 0.05,
    )


def swing(frames: int, swing_m: float) -> torch.Tensor:
    """Metres [frames] by which the lower edge of the capture's blob is aside."""
    return swing_m * torch.sin(2 * 2 * torch.pi * torch.arange(frames) / frames)


def make_capture(
    root: Path, frames: int = 16, size: int = 48, test: int = 3, swing_m: float = 0.0
) -> Capture:
    """A saved capture whose blob turns, brightens in the lower half with ``jawOpen``, and swings at
    its lower edge."""
    import cv2

    from likeness.head_models import HEAD_MODELS
    from likeness.renderers import create

    model = HEAD_MODELS["anny"]()
    renderer, view, cloud = create("cpu", "cpu"), camera(size), blob()
    jaw = model.expression_names.index("jawOpen")
    lower = (cloud.means[:, 1] < -0.03).float()[:, None, None]
    tracked = []
    for index in range(frames):
        phase = 2 * np.pi * index / frames
        expression = torch.zeros(len(model.expression_names))
        expression[jaw] = 0.5 + 0.5 * float(np.sin(3 * phase))
        joints = torch.tensor([1.0, 0.0, 0.0, 0.0]).repeat(len(model.joint_names), 1)
        state = HeadState(expression, joints, head_pose(0.25 * float(np.sin(phase))), head_pose())
        aside = (-0.05 - cloud.means[:, 1:2]).clamp(0, 0.05) / 0.05 * swing(frames, swing_m)[index]
        means = torch.cat([cloud.means[:, :1] + aside, cloud.means[:, 1:]], -1)
        shown = dataclasses.replace(
            cloud, means=means, sh=cloud.sh + lower * (expression[jaw] - 0.5)
        )
        output = renderer.render(shown, view.in_frame(state.T_world_head))
        alpha = output.alpha.clamp(0, 1)
        colour = (output.rgb / alpha.clamp_min(1e-3)).clamp(0, 1)
        paths = [root / "images" / f"{index:06d}.png", root / "mattes" / f"{index:06d}.png"]
        for path, picture in zip(paths, (colour.flip(-1), alpha)):
            path.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(path), (picture.numpy() * 255).round().astype(np.uint8))
        posed = model.shaped(model.neutral_identity()).posed(state)
        landmarks, _ = view.in_frame(state.T_world_head).project(posed.landmarks())
        tracked.append(
            TrackedFrame(
                *paths, index / 25, view, state, landmarks, torch.ones(len(landmarks)), 0.5
            )
        )
    capture = Capture(
        root=root,
        head_model="anny",
        expression_names=tuple(model.expression_names),
        joint_names=tuple(model.joint_names),
        identity=model.neutral_identity(),
        fps=25.0,
        frames=TrackedFrames.stack(tracked),
        train=tuple(range(frames - test)),
        test=tuple(range(frames - test, frames)),
        source_hash="toy",
        report={"warnings": []},
    )
    capture.save()
    return capture


def bundle(avatar, size: int = 32, state: HeadState | None = None, frames: int = 12):
    """A bundle around an avatar of 52 expressions named e0 ... and two joints, with a recording of
    random states."""
    from likeness.fitting.bundle import AvatarBundle

    recording = random_states((frames,), avatar.num_expressions, avatar.num_joints, seed=9)
    neutral = (
        HeadState.neutral(avatar.num_expressions, avatar.num_joints, head_pose())
        if state is None
        else state
    )
    ranges = torch.stack([recording.expression.amin(0), recording.expression.amax(0)])
    names = tuple(f"e{i}" for i in range(avatar.num_expressions))
    times = torch.arange(frames, dtype=torch.float64) / 25
    return AvatarBundle(
        avatar, "none", names, ("a", "b"), ranges, camera(size), neutral, recording, times, {}
    )


def refined(bundle):
    """The bundle with a screen refiner that makes everything brighter by 0.2."""
    from likeness.renderers.screen_refiner import Refinement, RefinerConfig, ScreenRefiner

    network = ScreenRefiner(
        RefinerConfig(enabled=True, features=3, width=2, size=32)
    ).requires_grad_(False)
    network.exit.bias[:12] = 0.2
    refinement = Refinement(network, torch.rand(bundle.avatar.num_gaussians, 3))
    return dataclasses.replace(bundle, refinement=refinement)


def arkit_bundle(size: int = 32, frames: int = 40):
    """A toy avatar in the names of the head model anny, whose recording has a rest, blinks, speech
    and turns."""
    from likeness.head_models.arkit import ARKIT_EXPRESSIONS
    from tests.contract.test_avatars import EXTENDED, make

    made = bundle(make("headgas", EXTENDED), size)
    recording, times = performance(frames)
    ranges = torch.stack([recording.expression.amin(0), recording.expression.amax(0)])
    return dataclasses.replace(
        made,
        head_model="anny",
        expression_names=ARKIT_EXPRESSIONS,
        joint_names=("eye_left", "eye_right"),
        expression_range=ranges,
        recording=recording,
        times=times,
    )


def performance(
    frames: int = 40, fps: float = 25.0, amount: float = 0.5, rest: float = 0.05, blink: float = 0.7
):
    """States [T] and times [T] of a face that speaks, blinks twice and looks about while the head
    turns.

    amount: coefficients of full expressions. rest: of all at rest.
    """
    from likeness.head_models.arkit import ARKIT_EXPRESSIONS
    from likeness.scene.gaze import gaze_expression, gaze_quats

    names, t = ARKIT_EXPRESSIONS, torch.arange(frames) / fps
    expression = torch.full((frames, len(names)), rest)
    for number, name in enumerate(names):
        if not name.startswith("eye") and name not in ("tongueOut", "mouthClose"):
            expression[:, number] += amount * (2.4 * t + 0.37 * number).sin().clamp_min(0)
    for side in ("Left", "Right"):
        column = expression[:, names.index(f"eyeBlink{side}")]
        column[frames // 4], column[frames // 4 + 1], column[3 * frames // 4] = (
            blink,
            0.6 * blink,
            blink,
        )
    angles = torch.stack([0.3 * (1.7 * t).sin(), 0.1 * (1.1 * t).cos()], -1)[:, None].expand(
        -1, 2, -1
    )
    look = torch.tensor([name.startswith("eyeLook") for name in names])
    expression = torch.where(look, gaze_expression(angles, names), expression)
    turns = torch.stack([0.15 * (1.3 * t).sin(), 0.3 * (0.9 * t).sin(), 0.05 * t.sin()], -1)
    poses = head_pose() @ make_transform(rotvecs_to_matrices(turns), 0.01 * turns)
    states = HeadState(
        expression, gaze_quats(angles), poses, head_pose().expand(frames, 4, 4).clone()
    )
    return states, torch.arange(frames, dtype=torch.float64) / fps


def hears_ctrl_c() -> None:
    """In the child: shells let what they run in the background ignore Ctrl-C, and children inherit
    that."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
