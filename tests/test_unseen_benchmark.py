"""The benchmark of unseen expressions: what its clips show, how it splits and measures."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
import torch

from benchmarks import unseen
from benchmarks.common import face_measures, unseen_figures, unseen_people
from benchmarks.common.face_measures import Openings
from likeness.fitting import metrics
from likeness.fitting.flip import flip
from likeness.head_models import HEAD_MODELS
from likeness.head_models.landmarks import EYE_CORNERS, EYE_WIDTHS, LID_PAIRS
from likeness.scene.transforms import rotvecs_to_matrices
from tests import toys
from tools import expression_sheet


@pytest.fixture(scope="module")
def model():
    return HEAD_MODELS["anny"]()


@pytest.fixture(scope="module")
def rest():
    pose = torch.diag(torch.tensor([1.0, -1.0, -1.0, 1.0]))
    pose[2, 3] = 1.0
    return pose


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_calm_clip_shows_what_it_says(model, rest, seed):
    states = unseen_people.calm_states(model, rest, 200, seed)
    for name, column in zip(model.expression_names, states.expression.T):
        if name.startswith(("mouth", "jaw", "cheek", "tongue")):
            assert column.max() < 0.1, name
        assert not (name.startswith(("mouthSmile", "eyeBlink")) and column.any()), name
    ahead = (rest[:3, :3].T @ states.T_world_head[:, :3, :3])[:, :, 2]
    yaw = torch.atan2(ahead[:, 0], ahead[:, 2]).rad2deg()
    assert yaw.abs().max() < 10.5 and yaw.max() - yaw.min() > 6
    # it moves smoothly: nothing jumps from frame to frame
    assert states.expression.diff(dim=0).abs().max() < 0.1


def test_the_truth_has_expressions_sounds_and_views(model, rest):
    labels, states, views = unseen_people.truth_states(model, rest)
    groups = [label.group for label in labels]
    assert sum(group in ("mouth", "eyes", "mixtures") for group in groups) == 30
    assert groups.count("speech") == 7 and len({label.name for label in labels}) == len(labels)
    assert sorted(set(views)) == [-45, -30, -20, 0, 20, 30, 45]
    for label, moved in zip(labels, states.expression.amax(1) > 0.1):
        assert moved or label.group.startswith("view")
    # every name of a shape is one of the head model: none is ignored
    shapes = (unseen_people.MOUTH, unseen_people.EYES, unseen_people.MIXTURES)
    for name in {name for group in shapes for shape in group.values() for name in shape}:
        assert unseen_people.coefficients(model.expression_names, {name: 1.0}).any(), name


def test_a_camera_aside_sees_the_same_head(rest):
    camera = toys.camera(64)
    turned = unseen_people.orbited(camera, rest, 30.0)
    centre = (rest @ torch.tensor([0.0, -0.03, -0.06, 1.0]))[None, :3]
    (before, near), (after, aside) = camera.project(centre), turned.project(centre)
    assert torch.allclose(before, after, atol=1e-2) and torch.allclose(near, aside, atol=1e-4)
    assert abs(float(turned.center[0])) > 0.1


def _face(lips: float, width: float, lids: float) -> np.ndarray:
    """Landmarks of a face with eye corners 100 pixels apart."""
    points = np.zeros((478, 2))
    points[list(EYE_CORNERS)] = [[-50, 0], [50, 0]]
    points[list(face_measures.LIPS)] = [[0, 60], [0, 60 + 100 * lips]]
    points[list(face_measures.CORNERS)] = [[-50 * width, 62], [50 * width, 62]]
    for eye, (outer, inner) in EYE_WIDTHS.items():
        points[inner] = points[outer] + [30 if eye == "right" else -30, 0]
        upper, lower = LID_PAIRS[eye][0]
        middle = (points[inner] + points[outer]) / 2
        points[upper], points[lower] = middle, middle + [0, 30 * lids]
    return points


def test_openings_are_in_units_of_the_face():
    for scale in (1.0, 3.0):
        found = face_measures.openings(scale * _face(0.2, 0.5, 0.3))
        assert dataclasses.astuple(found) == pytest.approx((0.2, 0.5, 0.3))


def test_ratios_are_of_what_is_open_and_found():
    truth = [Openings(0.3, 0.5, 0.3), Openings(0.1, 0.5, 0.3), Openings(0.01, 0.6, 0.0), None]
    avatar = [Openings(0.2, 0.4, 0.3), None, Openings(0.04, 0.6, 0.2), Openings(9, 9, 9)]
    found = face_measures.ratios(truth, avatar)
    assert found["lips"] == pytest.approx(2 / 3) and found["gap"] == pytest.approx(0.04)
    assert found["width"] == pytest.approx(1.0 / 1.1) and found["lids"] == pytest.approx(0.1)
    assert found["missed"] == pytest.approx(1 / 3)
    assert set(face_measures.ratios([None], [None]).values()) == {None}


@pytest.mark.parametrize("split", face_measures.SPLITS)
def test_splits_are_of_the_calm_half_against_the_most_extreme_tenth(split):
    rng = np.random.default_rng(0)
    extent = rng.permutation(40) / 40
    still = {"lips": 0.1, "width": 0.5, "lids": 0.3}
    changed = {"mouth": "lips", "smile": "width", "lids": "lids"}.get(split)
    sign = -0.2 if split == "lids" else 0.2
    faces = [
        _face(**(still if changed is None else still | {changed: still[changed] + sign * e}))
        for e in extent
    ]
    # half of the heads look aside by turns, most of them ahead
    yaw = np.where(extent < 0.5, 0, extent * rng.choice([-1, 1], 40)) * (split == "yaw")
    turned = rotvecs_to_matrices(
        torch.from_numpy(np.stack([0 * yaw, 0.5 * yaw, 0 * yaw], 1)).float()
    )
    facing = torch.diag(torch.tensor([1.0, -1.0, -1.0]))
    scores = face_measures.split_scores(split, np.stack(faces), (facing @ turned).numpy())
    frames = [3 * k for k in range(40)]
    train, test = face_measures.split_by(scores, frames)
    assert list(train) == sorted(train) and set(train) | set(test) <= set(frames)
    assert {extent[t // 3] for t in train} == set(np.sort(extent)[:20])
    assert {extent[t // 3] for t in test} == set(np.sort(extent)[-4:])


def test_a_split_by_expression_leaves_held_out_frames_alone(tmp_path):
    capture = toys.make_capture(tmp_path / "clip", frames=24, test=4)
    for split in face_measures.SPLITS:
        train, test = unseen_figures.of_split(capture, split)
        assert not set(train) & set(test) and set(train) | set(test) <= set(capture.train)


# Of flip-evaluator 1.7, by the paper's authors, on the images of ``_flip_pair``.
FLIP_MEANS = (0.55891, 0.5894, 0.03372)


def _flip_pair(kind: int) -> tuple[np.ndarray, np.ndarray]:
    """Smooth colours, and the same turned upside down, darker, or with a line."""
    y, x = np.mgrid[:48, :64] / 48
    image = np.stack([0.5 + 0.4 * np.sin(5 * x), 0.5 + 0.4 * np.cos(7 * y), 0.5 * (x * y)], -1)
    image = image.clip(0, 1).astype(np.float32)
    other = {0: image[::-1].copy(), 1: 0.8 * image, 2: image.copy()}[kind]
    if kind == 2:
        other[20:22, 10:50] = 0.1
    return image, other


@pytest.mark.parametrize("kind", range(3))
def test_flip_is_the_papers(kind):
    image, other = _flip_pair(kind)
    assert flip(other, image).mean() == pytest.approx(FLIP_MEANS[kind], abs=2e-4)
    assert abs(flip(image, image)).max() == 0


def test_similarity_over_scales():
    g = torch.Generator().manual_seed(0)
    coarse = torch.rand(1, 3, 12, 12, generator=g)
    image = torch.nn.functional.interpolate(coarse, (192, 192), mode="bilinear")[0].movedim(0, -1)
    noise = torch.randn(image.shape, generator=g)
    values = [metrics.ms_ssim((image + s * noise).clamp(0, 1), image) for s in (0.0, 0.05, 0.2)]
    assert values[0] == pytest.approx(1) and values[0] > values[1] > values[2] > 0
    # coarse scales are without fine noise, and more lenient than the finest
    assert values[2] > metrics.ssim((image + 0.2 * noise).clamp(0, 1), image)
    assert np.isnan(metrics.ms_ssim(image[:100], image[:100]))


def test_the_map_of_similarity_has_its_mean():
    g = torch.Generator().manual_seed(0)
    x, y = torch.rand(2, 30, 40, 3, generator=g)
    values = metrics.ssim_map(x, y)
    assert values.shape == (30, 40) and int(values.isnan().sum()) == 30 * 40 - 20 * 30
    assert float(values.nanmean()) == pytest.approx(metrics.ssim(x, y), abs=1e-5)


def test_a_person_is_drawn_fitted_and_measured(tmp_path, monkeypatch, capsys):
    """The whole way with few frames and a fit of two steps."""
    for name in ("MOUTH", "EYES", "MIXTURES", "VISEMES"):
        first = next(iter(getattr(unseen_people, name).items()))
        monkeypatch.setattr(unseen_people, name, dict([first]))
    monkeypatch.setattr(unseen_people, "CLIP_S", 1.6)
    monkeypatch.setattr(unseen_people, "VIEWS", (30,))
    monkeypatch.setattr(
        unseen, "run_all", lambda fits, *_: {n: unseen_figures.figures(f) for n, f in fits}
    )
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    settings = ["--set", "initializer=mesh", "--set", "seeds.num_gaussians=200"]
    command = ["--people", "1", "--size", "96", "--iterations", "2", "--parts", *settings]
    unseen.main([*command, "--out", str(tmp_path), "--json", str(tmp_path / "figures.json")])
    (row,) = json.loads((tmp_path / "figures.json").read_text())["rows"]
    groups = [frame["group"] for frame in row["frames"]]
    assert sorted(set(groups)) == ["calm", "eyes", "mixtures", "mouth", "speech", "view30"]
    assert 5 < row["psnr"] < 60 and 0 < row["mouth_flip"] < 1
    assert 0 <= row["mm_from_bound_place"]["skin"]["median"] < 1
    assert row["ms_ssim"] is None  # of images below 176 pixels
    (folder,) = (tmp_path / "pictures").iterdir()
    sheets = {f"{name}.png" for name in ("faces", "mouths", "eyes", "views")}
    assert {path.name for path in folder.iterdir()} == {"bundle", *sheets}
    said = capsys.readouterr().out
    assert "person0-96" in said and "| view30 |" in said

    (drawn,) = (tmp_path / "people").iterdir()
    person = unseen_people.load_person(drawn)
    assert len(person.labels) == len(person.capture.test)
    # carried over to a capture whose head frame and neutral face are other ones
    states, offset = person.capture.states, torch.eye(4)
    offset[:3, :3], offset[:3, 3] = rotvecs_to_matrices(torch.tensor([0.05, 0.1, 0.0])), 0.004
    tracked = person.capture.select(person.capture.train)
    times = torch.arange(len(tracked.frames)) * unseen_people.EVERY / unseen_people.FPS
    tracked = dataclasses.replace(
        tracked, frames=dataclasses.replace(tracked.frames, times_s=times.double())
    )
    moved = dataclasses.replace(
        tracked.states,
        expression=tracked.states.expression + 0.02,
        T_world_head=tracked.states.T_world_head @ offset,
    )
    carried = unseen_people.in_tracked_frames(person, tracked.with_states(moved), 0).states
    assert torch.allclose(carried.T_world_head, states.T_world_head @ offset, atol=1e-4)
    assert torch.allclose(carried.expression, (states.expression + 0.02).clamp(0, 1), atol=1e-4)


def test_a_sheet_shows_every_expression_with_what_it_acts_upon():
    bundle = toys.arkit_bundle()
    names, size = bundle.expression_names, 24
    picture = expression_sheet.sheet(bundle, [0.5, 1.0], size, columns=6)
    rows, width = -(-(len(names) + 1) // 6), 2 * size + expression_sheet.BORDER[1]
    assert picture.shape[0] % rows == 0 and picture.shape[1] == 6 * width
    assert (picture[:size] < 250).any()  # somebody is seen
    close = expression_sheet.posed(bundle, names.index("mouthClose"), 0.5)
    assert close.expression[names.index("jawOpen")] == 0.5
    left, right = expression_sheet.posed(bundle, names.index("eyeLookUpLeft"), 1.0).joints
    assert left[0] < 0.99 and right[0] == 1
