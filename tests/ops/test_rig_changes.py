"""Gaussians turned, stretched and lit by the rig: what the formulas promise, and the kernels
against the reference."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from likeness.head_models import HEAD_MODELS
from likeness.head_models.turning import expression_turns
from likeness.ops.rig_changes import changed, changed_reference, compact
from likeness.scene.cloud import GaussianCloud
from likeness.scene.rig_binding import CHANGES, LARGEST_GROWTH, RigBinding
from likeness.scene.transforms import normalize_quats, quats_to_matrices, rotvecs_to_matrices

COUNT, VERTICES, EXPRESSIONS = 61, 17, 4


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def example(size: float = 0.3) -> tuple[GaussianCloud, torch.Tensor, RigBinding]:
    quats = random(COUNT, 4, seed=1)
    cloud = GaussianCloud(
        random(COUNT, 3),
        quats,
        random(COUNT, 3, seed=2).abs(),
        torch.ones(COUNT),
        random(COUNT, 4, 3, seed=3),
    )
    weights = random(COUNT, 3, seed=4).abs()
    changes = size * random(EXPRESSIONS, VERTICES, CHANGES, seed=5)
    changes[:, ::3] = 0
    vertices = torch.arange(3 * COUNT).view(COUNT, 3) % VERTICES
    vertices[::5] = 3  # where nothing changes
    rig = RigBinding(torch.zeros(EXPRESSIONS, VERTICES, 3), vertices, weights / 3, changes)
    return cloud, random(EXPRESSIONS, seed=6), rig


@pytest.mark.parametrize("size", [1e-3, 0.3, 3.0])
def test_kernels_are_the_reference(size):
    cloud, expression, rig = example(size)
    leaves = [t.clone().requires_grad_() for t in (cloud.quats, cloud.scales, cloud.sh)]
    exact = [t.detach().double().requires_grad_() for t in leaves]
    names = ("quats", "scales", "sh")
    found = changed(dataclasses.replace(cloud, **dict(zip(names, leaves))), expression, rig)
    doubles = RigBinding(*(t.double() if t.is_floating_point() else t for t in vars(rig).values()))
    wanted = changed_reference(
        dataclasses.replace(cloud.map(torch.Tensor.double), **dict(zip(names, exact))),
        expression.double(),
        doubles,
    )
    weights = {name: random(*getattr(found, name).shape, seed=9) for name in names}
    for cloud_of in (found, wanted):
        torch.stack([(getattr(cloud_of, n) * weights[n]).sum() for n in names]).sum().backward()
    for name, leaf, other in zip(names, leaves, exact):
        close = {"atol": 3e-6, "rtol": 3e-6}
        torch.testing.assert_close(getattr(found, name).double(), getattr(wanted, name), **close)
        torch.testing.assert_close(leaf.grad.double(), other.grad, **close)
    apart = changed(cloud, expression, compact(rig))
    for name in names:
        torch.testing.assert_close(getattr(apart, name), getattr(found, name).detach())


def test_an_axis_grows_as_the_strain_says_and_turns_after_that():
    cloud, _, rig = example()
    rotation, strain = torch.tensor([0.2, -0.5, 0.4]), torch.diag(torch.tensor([0.5, -0.3, 0.1]))
    changes = torch.cat([rotation, strain.diagonal(), torch.zeros(6)]).expand(1, VERTICES, -1)
    rig = dataclasses.replace(rig, changes=changes, weights=torch.full((COUNT, 3), 1 / 3))
    cloud = dataclasses.replace(cloud, quats=torch.tensor([[1.0, 0, 0, 0]]).expand(COUNT, 4))
    found = changed(cloud, torch.ones(1), rig)
    torch.testing.assert_close(found.scales, cloud.scales * strain.diagonal().exp())
    turned = rotvecs_to_matrices(rotation).expand(COUNT, 3, 3)
    torch.testing.assert_close(quats_to_matrices(normalize_quats(found.quats)), turned)
    most = changed(cloud, torch.full((1,), 100.0), rig).scales / cloud.scales
    torch.testing.assert_close(most.amax(), torch.tensor(LARGEST_GROWTH).exp())


def test_turns_of_a_head_are_those_of_its_surface():
    """Edges of the skin turn and grow as the deformation says, where it is smooth."""
    head = HEAD_MODELS["anny"]().shaped(HEAD_MODELS["anny"]().neutral_identity())
    model, shapes = head.model, head.expression_shapes()
    number = model.expression_names.index("jawOpen")
    turns = expression_turns(head)
    skin = model.vertex_part == model.part_names.index("skin")
    assert not turns[:, ~skin].any()
    rest, chin = head.vertices, head.chin
    lower = (rest[:, 1] < chin[1] + 0.02) & (rest[:, 2] > chin[2] - 0.02)
    edges = model.skin_faces[:, :2]
    edges = edges[lower[edges].all(-1)]
    before, after = (v[edges[:, 1]] - v[edges[:, 0]] for v in (rest, rest + shapes[number]))
    mean = turns[number][edges].mean(1)
    xx, yy, zz, xy, xz, yz = mean[:, 3:].T
    strain = torch.stack([xx, xy, xz, xy, yy, yz, xz, yz, zz], -1).view(-1, 3, 3)
    moved = rotvecs_to_matrices(mean[:, :3]) @ torch.linalg.matrix_exp(strain) @ before[..., None]
    error = (moved[..., 0] - after).norm(dim=-1) / before.norm(dim=-1)
    still = (before - after).norm(dim=-1) / before.norm(dim=-1)
    assert len(edges) > 50 and still.median() > 0.1
    assert error.median() < 0.15 * still.median()
