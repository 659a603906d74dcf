"""Identity components from many directions of change: similarity removed, principal components, unit variance."""

from __future__ import annotations

import numpy as np
from scipy.sparse import csr_matrix

# The spread of a population along one direction, in units of that direction (whose 1 is an extreme shape).
SPREAD = 0.13


def identity_basis(
    template: np.ndarray, directions: np.ndarray, mirror: np.ndarray, samples: csr_matrix, weights: np.ndarray, count: int
) -> np.ndarray:
    """[count, V, 3] components; a population's coefficients are uncorrelated with unit variance.

    template [V, 3]; directions [N, V, 3]; mirror [V].
    samples: [S, V] a linear map from vertices to the points that count, weights [S]. Both mirror-symmetric.

    The population is ``sum_n a_n D_n`` with independent a_n of standard deviation SPREAD, so that its covariance is
    ``SPREAD^2 D^T D`` and the components are ``SPREAD * U^T D`` with U the eigenvectors of the Gram matrix in the
    metric of the samples. The symmetric and the antisymmetric parts of the directions are treated apart (their
    mixed terms vanish once every direction is joined by its mirror image), which makes every component exactly
    symmetric or antisymmetric. Changes that a rigid motion or a change of size explains belong to the pose, not to
    the person: each direction loses its least-squares similarity at the samples, or a head would shrink instead of
    moving away.
    """
    flip = np.array([-1.0, 1.0, 1.0])
    mirrored = directions[:, mirror] * flip
    found = []
    for sign in (1, -1):
        half = _without_similarity((directions + sign * mirrored) / 2, template, samples, weights)
        seen = _seen(half, samples, weights)
        variances, vectors = np.linalg.eigh(seen @ seen.T)
        for variance, vector in zip(variances[::-1][:count], vectors.T[::-1]):
            component = SPREAD * np.einsum("n,nvd->vd", vector, half)
            component = (component + sign * component[mirror] * flip) / 2
            # The sign of an eigenvector means nothing: fix it by the largest displacement.
            largest = component.ravel()[np.argmax(np.abs(component))]
            found.append((variance, component * np.sign(largest)))
    found.sort(key=lambda pair: -pair[0])
    return np.stack([component for _, component in found[:count]])


def similarity_generators(points: np.ndarray, center: np.ndarray) -> np.ndarray:
    """[7, P, 3] the displacements of points [P, 3] by unit translations, rotations about a centre, and growth."""
    arms = points - center
    axes = np.eye(3)
    moves = [np.broadcast_to(axis, points.shape) for axis in axes] + [np.cross(axis, arms) for axis in axes] + [arms]
    return np.stack(moves)


def _without_similarity(
    directions: np.ndarray, template: np.ndarray, samples: csr_matrix, weights: np.ndarray
) -> np.ndarray:
    center = (samples @ template * weights[:, None]).sum(0) / weights.sum()
    generators = similarity_generators(template, center)
    design, wanted = _seen(generators, samples, weights), _seen(directions, samples, weights)
    amounts = np.linalg.lstsq(design.T, wanted.T, rcond=None)[0]
    return directions - (amounts.T @ generators.reshape(7, -1)).reshape(directions.shape)


def _seen(fields: np.ndarray, samples: csr_matrix, weights: np.ndarray) -> np.ndarray:
    """[N, S * 3] the fields [N, V, 3] at the samples, so weighted that dot products are the metric."""
    flat = samples @ fields.transpose(1, 0, 2).reshape(fields.shape[1], -1)
    flat = flat.reshape(len(weights), len(fields), 3) * np.sqrt(weights)[:, None, None]
    return flat.transpose(1, 0, 2).reshape(len(fields), -1)
