"""Identity components from many directions of change: similarity removed, principal components,
unit variance."""

from __future__ import annotations

import dataclasses

import numpy as np
from scipy.sparse import csr_matrix

# The spread of a population along one direction, in units of that direction (whose 1 is an extreme
# shape).
SPREAD = 0.13


@dataclasses.dataclass(frozen=True)
class Observed:
    """Points whose motion counts. samples: [S, V] the linear map from vertices to the points;
    weights: [S]."""

    samples: csr_matrix
    weights: np.ndarray

    def fields(self, fields: np.ndarray) -> np.ndarray:
        """[N, S * 3] the fields [N, V, 3] at the points, so weighted that dot products are the
        metric."""
        flat = self.samples @ fields.transpose(1, 0, 2).reshape(fields.shape[1], -1)
        flat = (
            flat.reshape(len(self.weights), len(fields), 3) * np.sqrt(self.weights)[:, None, None]
        )
        return flat.transpose(1, 0, 2).reshape(len(fields), -1)

    def center(self, vertices: np.ndarray) -> np.ndarray:
        return self.weights @ (self.samples @ vertices) / self.weights.sum()


def identity_basis(
    template: np.ndarray,
    directions: np.ndarray,
    mirror: np.ndarray,
    aligned: Observed,
    compared: Observed,
    count: int,
) -> np.ndarray:
    """[count, V, 3] components; a population's coefficients are uncorrelated with unit variance.

    template [V, 3]; directions [N, V, 3]; mirror [V]; heads are aligned by the points ``aligned``
    and compared by the points ``compared``, both mirror-symmetric.

    The population is ``sum_n a_n D_n`` with independent a_n of standard deviation SPREAD, so that
    its covariance is ``SPREAD^2 D^T D`` and the components are ``SPREAD * U^T D`` with U the
    eigenvectors of the Gram matrix of D. The symmetric and the antisymmetric parts of the
    directions are treated apart (their mixed terms vanish once every direction is joined by its
    mirror image), which makes every component exactly symmetric or antisymmetric. Changes
    that a rigid motion or a change of size explains belong to the pose, not to the person: each
    direction loses its least-squares similarity, or a head would shrink instead of moving away.
    """
    flip = np.array([-1.0, 1.0, 1.0])
    mirrored = directions[:, mirror] * flip
    components = []
    for sign in (1, -1):
        half = without_similarity((directions + sign * mirrored) / 2, template, aligned)
        seen = compared.fields(half)
        variances, vectors = np.linalg.eigh(seen @ seen.T)
        for variance, vector in zip(variances[::-1][:count], vectors.T[::-1]):
            component = SPREAD * (vector @ half.reshape(len(half), -1)).reshape(template.shape)
            component = (component + sign * component[mirror] * flip) / 2
            # The sign of an eigenvector means nothing: fix it by the largest displacement.
            largest = component.ravel()[np.argmax(np.abs(component))]
            components.append((variance, component * np.sign(largest)))
    components.sort(key=lambda pair: -pair[0])
    return np.stack([component for _, component in components[:count]])


def similarity_generators(points: np.ndarray, center: np.ndarray) -> np.ndarray:
    """[7, P, 3] the displacements of points [P, 3] by unit translations, rotations about a centre,
    and growth."""
    arms = points - center
    axes = np.eye(3)
    moves = (
        [np.broadcast_to(axis, points.shape) for axis in axes]
        + [np.cross(axis, arms) for axis in axes]
        + [arms]
    )
    return np.stack(moves)


def without_similarity(
    directions: np.ndarray, template: np.ndarray, aligned: Observed
) -> np.ndarray:
    """Directions [N, V, 3] less the similarity that explains most of them at the points."""
    generators = similarity_generators(template, aligned.center(template))
    amounts = np.linalg.lstsq(
        aligned.fields(generators).T, aligned.fields(directions).T, rcond=None
    )[0]
    return directions - (amounts.T @ generators.reshape(7, -1)).reshape(directions.shape)
