"""The person's shape, shared by all frames: identity components, and a smooth field of offsets over
the surface."""

from __future__ import annotations

import dataclasses

import numpy as np
import torch
from torch import Tensor

from likeness.head_models.base import HeadModel
from likeness.head_models.landmarks import IRISES, LIP_HEIGHTS
from likeness.preprocess.tracking.config import TrackerConfig
from likeness.preprocess.tracking.motion import Motion, Observations, robust_weights
from likeness.preprocess.tracking.projection import project
from likeness.preprocess.tracking.rig import LandmarkRig, at_landmarks

# Distance over which offsets fade from where landmarks are seen (metres).
_FADE = 0.02


@dataclasses.dataclass(frozen=True)
class ShapeBasis:
    """Identity components, then offset modes: on the vertices [S, V, 3] and at the landmarks [S, L,
    3], metres.

    prior: [S] cost of each squared coefficient. num_identity: how many of the S are identity
        components.
    """

    vertices: Tensor
    landmarks: Tensor
    prior: Tensor
    num_identity: int


def build_shape_basis(model: HeadModel, config: TrackerConfig) -> ShapeBasis:
    """Identity basis of the model, and offset modes from a thin-plate prior over its surface.

    The prior of a scalar field u is exp(-u'(L M^-1 L + M / fade^4) u / 2), with the cotangent
    Laplacian L and mass M: a bi-Laplacian energy that fades away from data. Its covariance between
    landmarks is decomposed, and the leading modes serve for each axis, extended to all vertices by
    the same prior (kriging). What a similarity transform can do
    is taken out of each mode: it belongs to the head's pose.
    """
    identity = model.identity_basis.double()
    scalar = _smooth_modes(model, config.offset_modes) * 1e-3
    modes = torch.einsum("kv,ij->kivj", scalar, torch.eye(3, dtype=torch.float64)).reshape(
        -1, scalar.shape[1], 3
    )
    modes = _without_similarity(modes, model)
    vertices = torch.cat([identity, modes])
    axis_prior = torch.tensor([config.offset_prior, config.offset_prior, config.offset_depth_prior])
    identity_prior = torch.full((len(identity),), config.identity_prior)
    prior = torch.cat([identity_prior, axis_prior.repeat(len(scalar))]).double()
    return ShapeBasis(vertices, at_landmarks(model, vertices), prior, len(identity))


def shape_step(
    coefficients: Tensor,
    basis: ShapeBasis,
    motion: Motion,
    rig: LandmarkRig,
    observed: Observations,
    trust: Tensor,
    config: TrackerConfig,
) -> Tensor:
    """One Gauss-Newton step on the shape coefficients [S] at fixed motion, over all frames with
    their weights [T]."""
    num_landmarks = rig.rest.shape[0]
    normal = torch.zeros(num_landmarks, 3, 3, dtype=torch.float64)
    gradient = torch.zeros(num_landmarks, 3, dtype=torch.float64)
    neutral = rig.neutral(coefficients)
    expression = motion.expression(rig)
    for start in range(0, len(observed), config.chunk_frames):
        part = slice(start, start + config.chunk_frames)
        shape = neutral + torch.einsum("te,eld->tld", expression[part], rig.expression)
        pixels, by_camera, _ = project(
            observed.K, motion.rotation[part], motion.translation[part], shape
        )
        residuals = (observed.metric[part] @ (pixels - observed.points[part])[..., None])[..., 0]
        weights, _ = robust_weights(residuals, observed.weights[part] * trust[part, None], config)
        by_head = observed.metric[part] @ by_camera @ motion.rotation[part, None]
        weighted = (by_head * weights[..., None, None]).transpose(-1, -2)
        normal += (weighted @ by_head).sum(0)
        gradient += (weighted @ residuals[..., None])[..., 0].sum(0)
    normal, gradient = normal / len(observed), gradient / len(observed)
    rows = rig.shape.permute(1, 2, 0)  # [L, 3, S]
    flat = rows.reshape(-1, rows.shape[-1])
    matrix = flat.T @ (normal @ rows).reshape(flat.shape) + torch.diag(basis.prior)
    right = -(flat.T @ gradient.reshape(-1) + basis.prior * coefficients)
    # At rest lips are closed; what opens them in most frames is an expression.
    upper, lower = torch.tensor(LIP_HEIGHTS).T
    heights = 1000 * (rows[upper, 1] - rows[lower, 1])  # [P, S] per unit
    gaps = 1000 * (neutral[upper, 1] - neutral[lower, 1])
    matrix += config.closed_lips_weight * heights.T @ heights
    right -= config.closed_lips_weight * heights.T @ gaps
    return coefficients + torch.linalg.solve(matrix, right)


def _smooth_modes(model: HeadModel, count: int) -> Tensor:
    """Scalar modes [count, V] with unit mean variance over the landmarks when their coefficients
    have unit variance."""
    from scipy import sparse
    from scipy.sparse.csgraph import connected_components
    from scipy.sparse.linalg import splu

    vertices, faces = model.template.double().numpy(), model.faces.numpy()
    num_vertices = len(vertices)
    laplacian, mass = _cotangent_laplacian(vertices, faces)
    _, labels = connected_components(laplacian, directed=False)
    body = labels == np.bincount(labels).argmax()
    corners = model.landmark_faces.numpy()
    visible = [
        index
        for index in range(len(corners))
        if index not in IRISES and body[faces[corners[index]]].all()
    ]
    reader = sparse.csr_matrix(
        (
            model.landmark_barycentrics.double().numpy()[visible].ravel(),
            (np.repeat(np.arange(len(visible)), 3), faces[corners[visible]].ravel()),
        ),
        shape=(len(visible), num_vertices),
    )
    body_vertices = np.flatnonzero(body)
    laplacian, mass, reader = (
        laplacian[body_vertices][:, body_vertices],
        mass[body_vertices],
        reader[:, body_vertices],
    )
    precision = laplacian @ sparse.diags(1 / mass) @ laplacian + sparse.diags(mass / _FADE**4)
    spread = splu(precision.tocsc()).solve(reader.T.toarray())  # [body, visible]
    covariance = reader @ spread
    variances, directions = np.linalg.eigh(covariance / np.trace(covariance) * len(visible))
    order = np.argsort(-variances)[:count]
    scale = np.sqrt(len(visible) / np.trace(covariance))
    modes = np.zeros((len(order), num_vertices))
    modes[:, body_vertices] = (
        spread @ directions[:, order] * (scale**2 / np.sqrt(variances[order]))
    ).T
    _carry_along(modes, vertices, labels, body)
    return torch.from_numpy(modes)


def _carry_along(
    modes: np.ndarray, vertices: np.ndarray, labels: np.ndarray, body: np.ndarray
) -> None:
    """Moves eyeballs, teeth and tongue with the body's surface near them, each as a whole (in
    place)."""
    from scipy.spatial import KDTree

    surface = np.flatnonzero(body)
    tree = KDTree(vertices[surface])
    for label in np.unique(labels[~body]):
        part = labels == label
        _, near = tree.query(vertices[part], k=4)
        modes[:, part] = modes[:, surface[np.unique(near)]].mean(1, keepdims=True)


def _cotangent_laplacian(vertices: np.ndarray, faces: np.ndarray):
    """Sparse cotangent Laplacian [V, V] (positive semi-definite) and lumped masses [V] of a
    triangle mesh."""
    from scipy import sparse

    num_vertices = len(vertices)
    rows, columns, values = [], [], []
    mass = np.full(num_vertices, 1e-9)
    for corner in range(3):
        a, b, c = (faces[:, (corner + shift) % 3] for shift in range(3))
        u, v = vertices[b] - vertices[a], vertices[c] - vertices[a]
        area2 = np.linalg.norm(np.cross(u, v), axis=1).clip(1e-12)
        # slivers would give weights of either sign and any size
        cotangent = ((u * v).sum(1) / area2).clip(0.02, 20.0)
        rows += [b, c]
        columns += [c, b]
        values += [0.5 * cotangent] * 2
        np.add.at(mass, a, area2 / 6)
    weights = sparse.coo_matrix(
        (np.concatenate(values), (np.concatenate(rows), np.concatenate(columns))),
        shape=(num_vertices, num_vertices),
    ).tocsr()
    return sparse.diags(np.asarray(weights.sum(1)).ravel()).tocsr() - weights, mass


def _without_similarity(fields: Tensor, model: HeadModel) -> Tensor:
    """Vertex fields [N, V, 3] less the similarity transform that fits each best at the
    landmarks."""
    points = model.template.double()
    centre = at_landmarks(model, points).mean(0)
    axes = torch.eye(3, dtype=torch.float64)
    generators = [axis.expand_as(points) for axis in axes]
    generators += [torch.linalg.cross(axis.expand_as(points), points - centre) for axis in axes]
    generators.append(points - centre)
    generators = torch.stack(generators)  # [7, V, 3]
    visible = at_landmarks(model, generators)[:, : IRISES[0]].reshape(7, -1)
    values = at_landmarks(model, fields)[:, : IRISES[0]].reshape(len(fields), -1)
    amounts = torch.linalg.lstsq(visible.T, values.T).solution  # [7, N]
    return fields - torch.einsum("gn,gvd->nvd", amounts, generators)
