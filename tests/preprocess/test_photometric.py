"""Photometric tracking: a capture whose true poses are known, put off and found again."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from likeness.head_models import HEAD_MODELS
from likeness.preprocess.photometric import refinement
from likeness.preprocess.photometric.config import PhotometricConfig
from likeness.preprocess.photometric.corrections import Corrections
from likeness.preprocess.photometric.knots import Knots
from likeness.preprocess.photometric.problem import Problem
from likeness.preprocess.photometric.refinement import refine
from likeness.preprocess.photometric.steadying import steadied
from likeness.renderers import create
from likeness.scene.capture import Capture, TrackedFrame, TrackedFrames
from likeness.scene.errors import UserError
from likeness.scene.gaze import gaze_angles, gaze_expression, gaze_quats, quats_to_gaze
from likeness.scene.head_state import HeadState
from likeness.scene.lattice import COLUMNS, NUM_POINTS, ROWS
from likeness.scene.transforms import (
    make_transform,
    mean_transform,
    rotation_angles,
    rotvecs_to_matrices,
)
from tests import toys

QUICK = PhotometricConfig(size=64, num_gaussians=800, visits=16)


@pytest.fixture(scope="module")
def truth(tmp_path_factory):
    """Sixteen pictures of a blob that turns, with its true states."""
    return toys.make_capture(tmp_path_factory.mktemp("capture"), size=64)


def put_off(capture, degrees=3.0, seed=0):
    """The capture with every head turned by about so much about a random axis."""
    generator = torch.Generator().manual_seed(seed)
    axes = torch.nn.functional.normalize(
        torch.randn(len(capture.frames), 3, generator=generator), dim=-1
    )
    turns = rotvecs_to_matrices(axes * torch.deg2rad(torch.tensor(degrees)))
    poses = capture.states.T_world_head @ make_transform(turns, torch.zeros(len(turns), 3))
    return capture.with_states(dataclasses.replace(capture.states, T_world_head=poses))


def synthetic_subject(folder, frames=20, size=96):
    """Pictures of the demo's person with true states."""
    import cv2

    from likeness.synthetic.truth import make_demo

    demo = make_demo(folder / "demo", frames=frames, size=size, texture_size=256)
    model = demo.model
    tracked = []
    for index in range(frames):
        rgb, alpha = demo.render_truth(index)
        paths = [folder / f"{index:06d}_{kind}.png" for kind in ("image", "matte")]
        colour = rgb / np.maximum(alpha, 1e-3)
        for path, picture in zip(paths, (colour[..., ::-1], alpha)):
            cv2.imwrite(str(path), (picture.clip(0, 1) * 255).round().astype(np.uint8))
        state = demo.states[index]
        posed = model.shaped(demo.identity).posed(state)
        landmarks, _ = demo.camera.in_frame(state.T_world_head).project(posed.landmarks())
        tracked.append(
            TrackedFrame(*paths, index / 25, demo.camera, state, landmarks, torch.ones(478), 0.5)
        )
    return Capture(
        folder,
        "anny",
        model.expression_names,
        model.joint_names,
        demo.identity,
        25.0,
        TrackedFrames.stack(tracked),
        tuple(range(frames - 2)),
        (frames - 2, frames - 1),
        "demo",
        {"warnings": []},
    )


def degrees_off(capture, truth):
    """[T] angles between two captures' heads, without the constant one that the cloud leaves
    free."""
    between = truth.states.T_world_head[:, :3, :3].mT @ capture.states.T_world_head[:, :3, :3]
    u, _, vh = torch.linalg.svd(between.mean(0))
    return torch.rad2deg(rotation_angles(between @ (u @ vh).T))


def test_poses_that_were_put_off_are_found(truth):
    off = put_off(truth)
    found = refine(off, QUICK, progress=False)
    before, after = degrees_off(off, truth), degrees_off(found, truth)
    assert float(after.median()) < 0.5 * float(before.median())
    test = list(truth.test)  # treated like the others
    assert float(after[test].median()) < 0.6 * float(before[test].median())
    report = found.report["photometric"]
    assert report["error"]["after"] < 0.9 * report["error"]["before"]
    assert 1.0 < report["rotation_deg"]["median"] < 6.0
    assert torch.isfinite(torch.tensor(report["landmark_percent"]["after"]))
    train = list(truth.train)
    drift = mean_transform(
        torch.linalg.inv(off.states.T_world_head[train]) @ found.states.T_world_head[train]
    )
    # landmarks say where the frame's origin is
    torch.testing.assert_close(drift, torch.eye(4), atol=2e-3, rtol=0)
    # the input is left alone
    assert off.states.T_world_head.equal(put_off(truth).states.T_world_head)


def test_true_poses_stay(truth):
    found = refine(truth, QUICK, progress=False)
    # a smooth blob of 64 pixels shows no more
    assert float(degrees_off(found, truth).median()) < 1.0


def test_sway_that_poses_cannot_say_is_found(tmp_path):
    """The lower edge of the blob swings from side to side."""
    capture = toys.make_capture(tmp_path, size=64, swing_m=0.012)
    found = refine(capture, dataclasses.replace(QUICK, visits=40), progress=False)
    train, sway = list(capture.train), found.states.secondary_motion
    # x, where the blob ends
    lower = sway.unflatten(1, (ROWS, COLUMNS))[:, 3:5, 5:8, 0].mean((1, 2))
    true = toys.swing(len(sway), 0.012)
    assert float(torch.corrcoef(torch.stack([lower, true]))[0, 1]) > 0.8
    assert (
        float(found.states.secondary_motion[train].mean(0).abs().max()) < 2e-4
    )  # it is from the mean
    assert found.report["photometric"]["sway_mm"]["most"] > 1.0
    still = refine(capture, dataclasses.replace(QUICK, visits=8, sway_rate=0.0), progress=False)
    assert not still.states.secondary_motion.any()


def test_an_interrupted_refinement_goes_on_where_it_was(truth, tmp_path, monkeypatch):
    monkeypatch.setenv("LIKENESS_THREADS", "1")
    # 32 steps, of which 12 move poses, expressions and sway
    quick = dataclasses.replace(QUICK, visits=8)
    whole = refine(truth, quick, progress=False)
    monkeypatch.setattr(refinement, "_SAVE_EVERY_S", 0.0)
    path, original = tmp_path / "state.safetensors", Problem.step
    taken, stopped = [], []

    def step(self, number, renderer):
        if number == 26 and not stopped:
            stopped.append(number)
            raise KeyboardInterrupt
        taken.append(number)
        return original(self, number, renderer)

    monkeypatch.setattr(Problem, "step", step)
    with pytest.raises(KeyboardInterrupt):
        refine(truth, quick, checkpoint=path, progress=False)
    resumed = refine(truth, quick, checkpoint=path, progress=False)
    assert taken == list(range(32))
    for field in dataclasses.fields(HeadState):
        found, expected = getattr(resumed.states, field.name), getattr(whole.states, field.name)
        assert found.equal(expected), field.name
    assert whole.states.secondary_motion.any() and not whole.states.T_world_head.equal(
        truth.states.T_world_head
    )


def test_a_frame_that_gets_worse_keeps_its_landmarks_state(truth, monkeypatch):
    off = put_off(truth)
    refined = Problem.states

    def one_lost(self):
        states = refined(self)
        states.T_world_head[5, :3, 3] += 0.5
        return states

    config = dataclasses.replace(QUICK, steadiness=0.0)
    undisturbed = refine(off, config, progress=False)
    monkeypatch.setattr(Problem, "states", one_lost)
    found = refine(off, config, progress=False)
    assert found.report["photometric"]["fallen_back"] == [off.frames[5].image_path.stem]
    assert found.frames[5].state.T_world_head.equal(off.frames[5].state.T_world_head)
    others = [index for index in range(len(off.frames)) if index != 5]
    # The frame that was lost moves no other one (but for its share in the mean that is held).
    torch.testing.assert_close(
        found.states.T_world_head[others],
        undisturbed.states.T_world_head[others],
        atol=6e-3,
        rtol=0,
    )


def test_no_finite_solution_is_said_and_leaves_nothing_behind(truth, monkeypatch, tmp_path):
    path = tmp_path / "state.safetensors"
    step = Problem.step

    def poisoned(self, number, renderer):
        loss = step(self, number, renderer)
        if number == 5:
            self._corrections._poses.table[2] = torch.nan
        return loss

    monkeypatch.setattr(refinement, "_SAVE_EVERY_S", 0.0)
    monkeypatch.setattr(Problem, "step", poisoned)
    with pytest.raises(UserError, match="step 6; use --tracking landmarks"):
        refine(truth, QUICK, checkpoint=path, progress=False)
    assert not path.exists()


def test_a_damaged_checkpoint_costs_no_more_than_its_time(truth, tmp_path, caplog):
    path = tmp_path / "state.safetensors"
    path.write_bytes(b"not tensors")
    quick = dataclasses.replace(QUICK, visits=1)
    assert refine(truth, quick, checkpoint=path, progress=False).states.expression.isfinite().all()
    assert "this is done now" in caplog.text and not path.exists()


def test_frames_that_all_fall_back_leave_the_capture_as_it_was(truth, monkeypatch):
    monkeypatch.setattr(refinement, "_FARTHEST", (0.0, 0.0))
    found = refine(truth, dataclasses.replace(QUICK, visits=2), progress=False)
    assert len(found.report["photometric"]["fallen_back"]) == len(truth.frames)
    assert found.states.T_world_head.equal(truth.states.T_world_head)
    assert found.states.expression.equal(truth.states.expression)


@pytest.fixture(scope="module")
def painted(tmp_path_factory):
    """Pictures of a painted person that speaks and looks about."""
    return synthetic_subject(tmp_path_factory.mktemp("painted"))


def test_expressions_are_found_again(painted):
    """Painted people whose mouths were taken for shut."""
    capture = painted
    jaw = capture.expression_names.index("jawOpen")
    states = capture.states
    shut = capture.with_states(dataclasses.replace(states, expression=0 * states.expression))
    config = dataclasses.replace(QUICK, num_gaussians=1000, visits=30, gap_weight=0.0)
    found = refine(shut, config, progress=False)
    truth = capture.states.expression[:, jaw]
    assert torch.corrcoef(torch.stack([truth, found.states.expression[:, jaw]]))[0, 1] > 0.5


def test_eyes_go_on_looking_where_the_landmarks_say(painted):
    """Small pictures do not show it."""
    refined = refine(painted, QUICK, progress=False)
    change = quats_to_gaze(refined.states.joints) - quats_to_gaze(painted.states.joints)
    assert float(torch.rad2deg(change.std(0)).max()) < 1.0


def test_every_frame_is_visited_once_per_epoch(truth):
    problem = Problem(truth, dataclasses.replace(QUICK, batch=5, num_gaussians=50), "cpu")
    assert problem.num_steps == 52  # 16 visits of 16 frames, 5 at a time
    steps = [problem._rows(number) for number in range(16)]
    assert all(len(rows) == len(set(rows.tolist())) == 5 for rows in steps)
    for epoch in range(4):
        whole = [
            number
            for number in range(16)
            if number * 5 // 16 == epoch and (number + 1) * 5 <= 16 * (epoch + 1)
        ]
        seen = torch.cat([steps[number] for number in whole])
        assert len(seen.unique()) == len(seen)


def test_gradients_of_the_corrections_match_finite_differences(truth):
    """In the cloud: what the renderer does with it is tested with the renderers."""
    problem = Problem(truth, dataclasses.replace(QUICK, num_gaussians=40), "cpu")
    cloud = problem.cloud.double()
    generator = torch.Generator().manual_seed(1)
    weights = torch.randn(2, 40, 3, generator=generator, dtype=torch.float64)
    T_head_body = torch.eye(4, dtype=torch.float64).expand(2, 4, 4)

    def summed(corrections, expression, sway):
        return (cloud(expression, corrections, T_head_body, sway).means * weights).sum()

    corrections = 0.1 * torch.randn(2, 12, generator=generator, dtype=torch.float64)
    expression = torch.rand(2, 52, generator=generator, dtype=torch.float64)
    sway = 0.01 * torch.randn(2, NUM_POINTS, 2, generator=generator, dtype=torch.float64)
    torch.autograd.gradcheck(
        summed, (corrections.requires_grad_(), expression.requires_grad_(), sway.requires_grad_())
    )


def test_steadied_poses_keep_the_motion_and_lose_the_noise():
    times = np.arange(90) / 30
    generator = torch.Generator().manual_seed(0)
    clock = torch.from_numpy(times).float()
    nod = torch.stack([0.2 * torch.sin(4 * clock), 0.3 * torch.cos(3 * clock), 0.1 * clock], -1)
    true = make_transform(rotvecs_to_matrices(nod), 0.1 * nod)
    noise = 0.002 * torch.randn(90, 6, generator=generator)
    seen = true @ make_transform(rotvecs_to_matrices(noise[:, :3]), noise[:, 3:])
    found = steadied(seen, times, 0.2, 0.5)

    def shaking(poses):
        turns = rotation_angles(true[:, :3, :3].mT @ poses[:, :3, :3])
        shifts = (poses - true)[:, :3, 3].norm(dim=-1)
        return float(turns.square().mean().sqrt()), float(shifts.square().mean().sqrt())

    assert all(after < 0.75 * before for before, after in zip(shaking(seen), shaking(found)))
    assert max(shaking(steadied(true, times, 0.2, 0.5))) < 1e-4
    assert steadied(seen, times, 0.0, 0.5) is seen


def test_knots_are_linear_between_and_tell_what_a_frame_depends_on():
    times = [1.0, 1.05, 1.1, 1.2, 2.0]  # knots at 1, 1.1, ... (a cut before the last)
    knots = Knots(times, 0.1)
    values = torch.randn(knots.count, 3, 2, generator=torch.Generator().manual_seed(0))
    found = knots.between(values, range(5))
    at = (torch.tensor(times) - 1) / 0.1
    expected = torch.stack(
        [
            torch.from_numpy(
                np.array(
                    [
                        np.interp(at, np.arange(len(values)), column)
                        for column in values[:, i].T.numpy()
                    ]
                )
            )
            for i in range(3)
        ]
    )  # [3, 2, 5]
    torch.testing.assert_close(found.double(), expected.permute(2, 0, 1), atol=1e-5, rtol=0)
    around = knots.around([1, 4])
    leaf = values[around].requires_grad_()
    torch.testing.assert_close(knots.between(leaf, [1, 4], around), found[[1, 4]])
    knots.between(leaf, [1, 4], around).sum().backward()
    torch.testing.assert_close(leaf.grad[:2], torch.full((2, 3, 2), 0.5), atol=1e-5, rtol=0)
    assert knots.between(values, [0]).equal(values[:1])


def test_coarse_corrections_are_shared_with_neighbours_and_handed_over():
    """Frames every 0.05 s, knots every 0.2 s: frame 5 moves its two knots, and so frames 1 to
    11."""
    times, config = [0.05 * i for i in range(20)], PhotometricConfig(coarse_interval_s=0.2)
    begun, moving = torch.full((20, 3), 0.5), torch.tensor([1.0, 1.0, 0.0])
    begun[:, 1] = 0.001  # leaves its bounds at once
    corrections = Corrections(
        begun, times, config, moving, lambda expression: expression.clamp(0, 1)
    )

    def descend(coarse):
        pose, expression = corrections.of(torch.tensor([5]), coarse)
        (pose.sum() + expression.sum()).backward()
        corrections.step(coarse, 1, 1.0)

    descend(coarse=True)
    poses, expressions = corrections.poses.clone(), corrections.expressions.clone()
    assert (poses[1:12] < 0).all() and not poses[12:].any() and not poses[0].any()
    assert (expressions[1:12, 0] < 0.5).all() and expressions[12:].equal(begun[12:])
    assert (
        (expressions[:, 2] == 0.5).all() and (expressions[5] >= 0).all() and expressions[5, 1] == 0
    )
    corrections.settle()
    torch.testing.assert_close(corrections.poses, poses)
    torch.testing.assert_close(corrections.expressions, expressions)
    descend(coarse=False)
    others = [i for i in range(20) if i != 5]
    assert (corrections.poses[5] < poses[5]).all() and corrections.expressions[5, 0] < expressions[
        5, 0
    ]
    torch.testing.assert_close(corrections.poses[others], poses[others])
    torch.testing.assert_close(corrections.expressions[others], expressions[others])


def test_steps_begin_with_poses_that_shake_less_than_the_landmarks(truth):
    off = put_off(truth)
    begun = Problem(off, dataclasses.replace(QUICK, num_gaussians=50), "cpu").states()

    def shaking(states):
        heads = states.T_world_head[:, :3, :3]
        return float(rotation_angles(heads[:-1].mT @ heads[1:]).square().mean().sqrt())

    assert shaking(begun) < 0.7 * shaking(off.states)
    assert begun.expression.equal(off.states.expression)


def test_a_lost_frame_shakes_no_other_one(truth):
    states, kept = truth.states, torch.ones(len(truth.frames), dtype=torch.bool)
    kept[5] = False
    found = refinement._steadied(states, kept, truth, QUICK)
    states.T_world_head[5, :3, 3] += 0.5
    moved = refinement._steadied(states, kept, truth, QUICK)
    assert moved.T_world_head[kept].equal(found.T_world_head[kept])
    assert moved.T_world_head[5].equal(states.T_world_head[5])


def test_steadied_poses_jump_at_a_cut():
    poses = torch.eye(4).repeat(20, 1, 1)
    poses[10:, 0, 3] = 0.1
    times = np.arange(20) / 30.0
    smeared = steadied(poses, times, 0.2, 0.5)
    assert float((smeared - poses)[9:11].abs().max()) > 1e-3
    times[10:] += 1.0
    torch.testing.assert_close(steadied(poses, times, 0.2, 0.5), poses)


def test_gaze_angles_undo_gaze_expression():
    names = HEAD_MODELS["anny"]().expression_names
    angles = (torch.rand(9, 2, 2, generator=torch.Generator().manual_seed(0)) - 0.5) * 0.9
    torch.testing.assert_close(gaze_angles(gaze_expression(angles, names), names), angles)


def test_eyeballs_of_the_shapes_turn_as_the_joints_do():
    model = HEAD_MODELS["anny"]()
    head = model.shaped(model.neutral_identity())
    shapes = head.expression_shapes()
    angles = torch.tensor([[[0.1, -0.05], [0.1, -0.05]]])
    expression = gaze_expression(angles, model.expression_names)[0]
    state = dataclasses.replace(
        model.neutral_state(), expression=expression, joints=gaze_quats(angles)[0]
    )
    expected = head.posed(state).vertices - head.vertices
    linear = torch.einsum("e,evd->vd", expression, shapes)
    eyes = torch.cat(model.joint_vertices)
    assert float(expected[eyes].norm(dim=-1).max()) > 1e-3
    # along chords of 25 degrees: at most that far within the sphere
    assert float((linear - expected)[eyes].norm(dim=-1).max()) < 5e-4
    others = torch.ones(len(head.vertices), dtype=torch.bool).index_fill(0, eyes, False)
    torch.testing.assert_close(linear[others], expected[others], atol=1e-6, rtol=0)


def test_errors_belong_to_their_own_frames(truth):
    problem = Problem(truth, QUICK, "cpu")
    renderer = create("auto", "cpu")
    states = truth.states
    base = problem.errors(states, renderer)
    states.T_world_head[3, :3, 3] += torch.tensor([0.03, 0.0, 0.0])
    changed = problem.errors(states, renderer)
    assert float(changed[3]) > float(base[3])
    others = [i for i in range(len(base)) if i != 3]
    torch.testing.assert_close(changed[others], base[others])
