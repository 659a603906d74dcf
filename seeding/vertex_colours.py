"""Colours of all vertices of the head model: seen ones from the images, the others guessed."""

from __future__ import annotations

import dataclasses

import numpy as np

from likeness.head_models.base import ShapedHead
from likeness.head_models.regions import lid_vertices, regions_of, scalp_score
from likeness.renderers.mesh import vertex_normals
from likeness.seeding.source_view import SourceView

_MOUTH = {
    "teeth_upper": (0.80, 0.76, 0.70),
    "teeth_lower": (0.76, 0.72, 0.66),
    "tongue": (0.62, 0.34, 0.33),
}
_CAVITIES = {"mouth_cavity": ((0.22, 0.09, 0.08), 0.009), "eye_cavity": ((0.40, 0.22, 0.19), 0.005)}
"""Colour deep inside, and metres from the skin at which it begins."""
_SCLERA = (0.80, 0.77, 0.75)
_USUAL_SKIN = (0.72, 0.54, 0.46)  # in the light that the colours above are of
_LIGHT = (0.35, 1.15)  # times it: the least and the most that is believed
_MIN_WEIGHT = 0.02
_PREFERRED = 3.0
_HAIR_MM = 12.0  # above the hairline, where no skin shines through
_FAR_M = 0.045  # from what is seen: there the scalp has its median colour
_MIRRORED = 0.5  # of a mirrored vertex' weight
_RIM_DEGREES = np.arange(0, 91, 6)


@dataclasses.dataclass(frozen=True)
class VertexColours:
    """rgb: [V, 3]. weight: [V] how surely it was seen, 0 where guessed. best: [V] the image that
    sees it best, or -1.
    gains: [K, 3] what the images' colours are multiplied by, so that they agree. light: [3] the
    light's colour over the usual one."""

    rgb: np.ndarray
    weight: np.ndarray
    best: np.ndarray
    gains: np.ndarray
    light: np.ndarray


def vertex_colours(head: ShapedHead, views: list[SourceView], front: int = 0) -> VertexColours:
    """Colours of the vertices of a subject from images. front: the one that others must see much
    better than."""
    sums, weights = zip(*(_seen(view) for view in views))
    single = np.stack(
        [total / np.maximum(weight, 1e-9)[:, None] for total, weight in zip(sums, weights)]
    )
    weight = np.stack(weights)
    gains = _gains(single, weight)
    weight[front] *= _PREFERRED  # a face of one moment, not of several
    best = np.where(weight.max(0) > 0, weight.argmax(0), _nearest_view(head, views))
    seen = weight.max(0) > _MIN_WEIGHT
    rgb = np.take_along_axis(single * gains[:, None], weight.argmax(0)[None, :, None], 0)[0]
    light = _light(head, rgb, seen)
    rgb = _guess(head, rgb, seen, light)
    return VertexColours(
        rgb.clip(0, 1).astype(np.float32), np.where(seen, weight.max(0), 0), best, gains, light
    )


def _seen(view: SourceView) -> tuple[np.ndarray, np.ndarray]:
    """Weighted sums of colours [V, 3] and of weights [V] over the pixels that show each vertex."""
    good, count = view.usable, len(view.posed)
    triangle = view.raster.face_index[good]
    weight = view.raster.barycentrics[good] * (view.cosines[good] ** 2)[:, None]
    total, weights = np.zeros((count, 3)), np.zeros(count)
    for corner in range(3):
        vertex = view.faces[triangle, corner]
        weights += np.bincount(vertex, weight[:, corner], count)
        for channel in range(3):
            total[:, channel] += np.bincount(
                vertex, weight[:, corner] * view.rgb[good][:, channel], count
            )
    return total, weights


def _gains(colours: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """[K, 3] factors that bring images [K, V, 3] to the colours of the one that shows most."""
    gains = np.ones((len(colours), 3))
    first = int((weights > _MIN_WEIGHT).sum(1).argmax())
    for index in range(len(colours)):
        both = (weights[index] > _MIN_WEIGHT) & (weights[first] > _MIN_WEIGHT)
        if index != first and both.sum() >= 50:
            ratio = (colours[first][both] + 0.02) / (colours[index][both] + 0.02)
            gains[index] = np.median(ratio, 0).clip(0.5, 2.0)
    return gains


def _nearest_view(head: ShapedHead, views: list[SourceView]) -> np.ndarray:
    """[V] the image whose camera each vertex faces most."""
    normals = vertex_normals(head.vertices, head.model.faces)
    toward = [view.camera.center.numpy() - head.vertices.numpy() for view in views]
    return np.stack([(normals * t).sum(-1) / np.linalg.norm(t, axis=-1) for t in toward]).argmax(0)


def _guess(head: ShapedHead, rgb: np.ndarray, seen: np.ndarray, light: np.ndarray) -> np.ndarray:
    """Colours [V, 3] of all vertices: by mirror image and diffusion on skin, by what is known of
    other parts."""
    from scipy.spatial import KDTree

    model = head.model
    parts = np.array(model.part_names)[model.vertex_part.numpy()]
    skin, out = parts == "skin", rgb.copy()
    if not (seen & skin).any():
        return np.full_like(rgb, 0.5)
    for part in sorted(set(parts) - {"skin"}):
        here = parts == part
        if part in model.joint_names:
            out[here] = _eye(head, model.joint_names.index(part), here, rgb, seen, light)
        elif part in _MOUTH:
            out[here & ~seen] = np.array(_MOUTH[part]) * light
    out[skin] = _skin(head, rgb, seen & skin)[skin]
    for part, (colour, depth) in _CAVITIES.items():
        # The lips and lids go on inside; further in it is as dark as such places are.
        here = parts == part
        far, _ = KDTree(head.vertices.numpy()[skin]).query(head.vertices.numpy())
        deep = here & (far > depth)
        out[deep] = np.array(colour) * light
        rows = (here | skin)[model.faces.numpy()].all(1)
        laplacian = _graph(model.faces.numpy()[rows], len(rgb))
        out[here] = _diffused(laplacian, out, skin | deep | (seen & here))[here]
    return out


def _light(head: ShapedHead, rgb: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """[3] the light's colour over the usual one: by the whites of the eyes where they are seen,
    else by the skin."""
    parts = np.array(head.model.part_names)[head.model.vertex_part.numpy()]
    skin, eyes = seen & (parts == "skin"), seen & np.isin(parts, head.model.joint_names)
    if not skin.any():
        return np.ones(3)
    by_skin = np.median(rgb[skin], 0) / _USUAL_SKIN
    if eyes.sum() < 8:
        return by_skin.clip(*_LIGHT)
    by_eyes = np.percentile(rgb[eyes], 85, axis=0) / _SCLERA
    return np.sqrt(by_skin * by_eyes).clip(*_LIGHT)


def _skin(head: ShapedHead, rgb: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """Colours [V, 3] of which those of the skin count. seen: [V], skin alone."""
    from scipy.spatial import KDTree

    model = head.model
    laplacian = _graph(model.skin_faces.numpy(), len(rgb))
    seen = seen & ~lid_vertices(model).numpy()  # what an open eye shows of them is lashes and folds
    mirror = model.mirror.numpy()
    out, known = rgb.copy(), seen.copy()
    both, mirrored = seen & seen[mirror], ~seen & seen[mirror]
    if mirrored.any() and both.any():
        # The other half's colours, and what the two halves differ by where both are seen (the
        # light), carried on.
        difference = _diffused(laplacian, rgb - rgb[mirror], both)
        out[mirrored] = rgb[mirror][mirrored] + _MIRRORED * difference[mirrored]
        known |= mirrored
    score = scalp_score(regions_of(model), model.template.numpy() * 1000)
    scalp, hair = score > 0, seen & (score > _HAIR_MM)
    if (scalp & known).any():
        vertices = head.vertices.numpy()
        far, _ = KDTree(vertices[known]).query(vertices)
        back = scalp & ~known & (far > _FAR_M)
        hair = hair if hair.any() else scalp & known
        out[back] = np.median(out[hair], 0)
        known |= back
    return np.where(known[:, None], out, _diffused(laplacian, out, known))


def _graph(faces: np.ndarray, count: int):
    """Sparse graph Laplacian [V, V] of the edges of triangles."""
    from scipy import sparse

    pairs = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    ones = np.ones(len(pairs))
    edges = sparse.coo_matrix((ones, pairs.T), shape=(count, count)).tocsr()
    edges = ((edges + edges.T) > 0).astype(float)
    return sparse.diags(np.asarray(edges.sum(1)).ravel()) - edges


def _diffused(laplacian, values: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Values [V, 3] that are harmonic where they are not known; the known mean where nothing known
    is connected."""
    from scipy import sparse
    from scipy.sparse.linalg import splu

    out = np.where(known[:, None], values, values[known].mean(0))
    free = ~known & (laplacian.diagonal() > 0)
    if free.any():
        inner = laplacian[free][:, free] + 1e-6 * sparse.identity(int(free.sum()))
        right = -laplacian[free][:, known] @ values[known] + 1e-6 * out[free]
        out[free] = splu(inner.tocsc()).solve(right)
    return out


def _eye(
    head: ShapedHead,
    joint: int,
    here: np.ndarray,
    rgb: np.ndarray,
    seen: np.ndarray,
    light: np.ndarray,
) -> np.ndarray:
    """Colours [n, 3] of an eyeball's vertices: by the angle from its axis, as far as that was
    seen."""
    arms = head.vertices.numpy()[here] - head.joint_centers[joint].numpy()
    angle = np.degrees(np.arccos((arms[:, 2] / np.linalg.norm(arms, axis=-1)).clip(-1, 1)))
    shown, colours = seen[here], rgb[here]
    white = np.array(_SCLERA) * light
    rings = []
    for low in _RIM_DEGREES:
        ring = shown & (angle >= low - 3) & (angle < low + 9)
        rings.append(
            np.median(colours[ring], 0)
            if ring.sum() >= 2
            else white
            if low > 36
            else np.full(3, np.nan)
        )
    rings = np.array(rings)
    for channel in range(3):
        good = np.isfinite(rings[:, channel])
        rings[:, channel] = np.interp(_RIM_DEGREES, _RIM_DEGREES[good], rings[good, channel])
    guess = np.stack(
        [np.interp(angle, _RIM_DEGREES + 3, rings[:, channel]) for channel in range(3)], -1
    )
    return np.where(shown[:, None], colours, guess)
