"""The placing of landmarks: recovers known places from projections, and runs whole on a few
pictures."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from likeness.head_models import HEAD_MODELS
from likeness.renderers.mesh import vertex_normals
from likeness.scene.transforms import make_transform, rotvecs_to_matrices, transform_points
from tools.head_model.embedding import (
    EmbeddingConfig,
    Observations,
    _twins,
    observe,
    place,
    residuals,
)

# Nose tip, chin, inner lips; outer eye corners, mouth corners, brows, cheeks, irises.
SOME = [1, 152, 13, 14, 33, 263, 61, 291, 105, 334, 50, 280, 468, 473]
K = np.array([[1200.0, 0, 200.0], [0, 1200.0, 200.0], [0, 0, 1]])


@pytest.fixture(scope="module")
def model():
    return HEAD_MODELS["anny"]()


def synthetic(model, noise_px: float) -> Observations:
    """Projections of the model's own landmarks SOME, for several shapes, jaws and views."""
    rng = np.random.default_rng(0)
    meshes = []
    for _ in range(14):
        identity = model.neutral_identity()
        identity.coefficients[:] = torch.from_numpy(rng.normal(0, 0.7, model.num_identity))
        state = model.neutral_state()
        state.expression[model.expression_names.index("jawOpen")] = float(rng.uniform(0, 0.7))
        turn = rotvecs_to_matrices(torch.from_numpy(rng.uniform(-0.5, 0.5, 3)).float())
        flip = torch.diag(torch.tensor([1.0, -1.0, -1.0]))
        pose = make_transform(flip @ turn, torch.tensor([0.0, 0.0, 1.0]))
        meshes.append(transform_points(pose, model.shaped(identity).posed(state).vertices))
    vertices = torch.stack(meshes)
    points = model.landmark_vertices(vertices)[:, SOME].numpy()
    pixels = points[..., :2] / points[..., 2:] * K[0, 0] + K[:2, 2]
    pixels += rng.normal(0, noise_px, pixels.shape)
    pixels[3, ::3] += 60  # a picture that the detector got partly wrong
    mirror = np.array([SOME.index(int(model.landmark_mirror[landmark])) for landmark in SOME])
    normals = np.stack([vertex_normals(mesh, model.faces) for mesh in vertices])
    return Observations(pixels.astype(np.float32), vertices.numpy(), normals, K, mirror)


def test_known_places_are_found_again(model):
    seen = synthetic(model, noise_px=0.5)
    embedding = place(model, seen, EmbeddingConfig())
    corners = model.template[model.faces[embedding.faces]]
    found = (corners * torch.from_numpy(embedding.barycentrics).float()[..., None]).sum(1)
    true = model.landmark_vertices(model.template)[SOME]
    # The lips' inner sides hardly face the camera: 3 mm there, 1.5 mm elsewhere (half a pixel is
    # 0.4 mm).
    distance = (found - true).norm(dim=1).numpy() * 1000
    assert np.median(distance) < 0.8 and distance.max() < 3.0, dict(
        zip(SOME, distance.round(1), strict=True)
    )
    assert np.median(embedding.residual_mm) < 0.9
    np.testing.assert_allclose(embedding.barycentrics.sum(1), 1, atol=1e-9)
    # Twins lie at mirrored places, landmarks of the middle in the middle.
    mirrored = found[torch.from_numpy(seen.mirror)] * torch.tensor([-1.0, 1.0, 1.0])
    assert (mirrored - found).norm(dim=1).max() < 0.0025
    off = residuals(
        model, seen, model.landmark_faces[SOME].roll(1).numpy(), np.full((len(SOME), 3), 1 / 3)
    )
    assert np.median(off) > 20


def test_twins_are_told_from_mirror_images():
    rng = np.random.default_rng(1)
    shape = rng.uniform(0, 100, (20, 2))
    shape[10:] = shape[:10] * [-1, 1]
    twins = np.r_[10:20, 0:10]
    points = shape + rng.normal(0, 0.3, (6, 20, 2))
    flipped = shape[twins] + rng.normal(0, 0.3, (6, 20, 2))
    np.testing.assert_array_equal(_twins(points, flipped), twins)


def test_whole_run_on_a_few_pictures(model, tmp_path):
    config = EmbeddingConfig(people=1, size=320, texture_size=512, yaws=(-14.0, 14.0), pitches=())
    drawn = []
    seen = observe(model, config, lambda: drawn.append(1))
    assert len(drawn) == config.num_images == 10 and len(seen.points) >= 9
    assert (seen.mirror == model.landmark_mirror.numpy()).mean() > 0.95
    embedding = place(model, seen, config)
    assert np.median(embedding.residual_mm) < 2.5
    own = residuals(model, seen, model.landmark_faces.numpy(), model.landmark_barycentrics.numpy())
    assert np.median(embedding.residual_mm) < np.median(own) + 0.1
    corners = model.template[model.faces[embedding.faces]]
    places = (corners * torch.from_numpy(embedding.barycentrics).float()[..., None]).sum(1)
    moved = (places - model.landmark_vertices(model.template)).norm(dim=1)
    assert moved.median() < 0.003 and moved.max() < 0.02  # 80 mm is what a z-buffer gave
    embedding.save(tmp_path / "landmarks.npz")
    with np.load(tmp_path / "landmarks.npz") as saved:
        np.testing.assert_array_equal(saved["faces"], embedding.faces)
        assert saved["barycentrics"].shape == (478, 3) and saved["mirror"].shape == (478,)
