"""Which lip or lid a place on a head model belongs to, by the mesh's topology.

The skin of a head model ends in a loop of edges around the mouth and around each eye: the rims. The
corners cut a rim into an upper and a lower arc, and what is nearer to one of them along the surface
than to the other lies on its side, however close the two are in space.
"""

from __future__ import annotations

import dataclasses
import functools

import numpy as np
import torch
from torch import Tensor

from likeness.head_models import HEAD_MODELS
from likeness.head_models.base import HeadModel
from likeness.head_models.landmarks import EYE_WIDTHS, LIP_PAIRS
from likeness.head_models.regions import REGIONS, regions_of

SIDES = (
    "lip_upper",
    "lip_lower",
    "lid_left_upper",
    "lid_left_lower",
    "lid_right_upper",
    "lid_right_lower",
)
"""Left and right are the subject's own."""
NO_SIDE = -1
# Along the surface from the rim: beyond, nothing is near enough to be torn by the gap.
_REACH_M = {"lip": 0.025, "lid": 0.012}
_CORNERS = {"lip": LIP_PAIRS[-1], "lid_left": EYE_WIDTHS["left"], "lid_right": EYE_WIDTHS["right"]}
_INSIDES = {"lip": "mouth_cavity", "lid_left": "eye_cavity", "lid_right": "eye_cavity"}
# Within so much of the corner's continuation both arcs are as near: neither lip.
_AMBIGUOUS_M = 1e-3


@dataclasses.dataclass(frozen=True)
class Sides:
    """Sides of the V vertices of a head model.

    side: [V] long, positions in SIDES, NO_SIDE for what is far from lips and lids, beside a corner,
    or part of neither skin nor what lines mouth and eye sockets. No triangle has corners of two
    sides. distance: [V] metres along the template's surface to the arc of the vertex's side;
        infinite for NO_SIDE. arcs: the vertices of the rim by side, from corner to corner without
        the corners. edges: where what is seen of a side ends: the arc of a lip, and of a lid the
        edge over whose thickness the skin goes on to the rim. lining: [V] bool, the skin from
        there to the rim, which nobody sees.
    """

    side: Tensor
    distance: Tensor
    arcs: dict[str, Tensor]
    edges: dict[str, Tensor]
    lining: Tensor


@functools.lru_cache(maxsize=4)
def sides_of(name: str) -> Sides:
    """The sides of a head model, by its name in ``HEAD_MODELS``. Raises ValueError for a model
    whose skin has no loop around mouth or eyes."""
    return find_sides(HEAD_MODELS[name]())


def find_sides(model: HeadModel) -> Sides:
    """See ``sides_of``."""
    side = torch.full((len(model.template),), NO_SIDE)
    distance = torch.full((len(model.template),), torch.inf)
    loops, arcs = _boundary_loops(model.skin_faces.numpy()), {}
    for opening, corners in _CORNERS.items():
        upper, lower = _arcs(model, loops, corners)
        parts = [name for name in ("skin", _INSIDES[opening]) if name in model.part_names]
        graph = _edge_lengths(model, model.part_faces(*parts).numpy())
        distances = _geodesic(graph, upper), _geodesic(graph, lower)
        reach = _REACH_M[opening.split("_")[0]]
        for index, name in enumerate(("upper", "lower")):
            own, other = distances[index], distances[1 - index]
            chosen = (own < reach) & (own < other - _AMBIGUOUS_M)
            side[chosen] = SIDES.index(f"{opening}_{name}")
            distance[chosen] = own[chosen]
            arcs[f"{opening}_{name}"] = torch.from_numpy(np.array((upper, lower)[index]))
    # what has corners of two sides is the continuation of a mouth's or an eye's corner
    of_faces = side[model.faces]
    known = torch.where(of_faces == NO_SIDE, of_faces.amax(-1, keepdim=True), of_faces)
    mixed = model.faces[(known != known[:, :1]).any(-1)].flatten()
    side[mixed], distance[mixed] = NO_SIDE, torch.inf
    edges, lining = dict(arcs), torch.zeros_like(side, dtype=torch.bool)
    if model.name in REGIONS:
        lining[lid_rings(model)[1]] = True
        for eye, sign in (("left", 1), ("right", -1)):
            for which, edge in zip(("upper", "lower"), lid_margins(model, sign), strict=True):
                edges[f"lid_{eye}_{which}"] = torch.from_numpy(edge)
    return Sides(side, distance, arcs, edges, lining)


def lid_margins(model: HeadModel, sign: int) -> tuple[np.ndarray, np.ndarray]:
    """Vertices along the upper and the lower lid's edge from the nose outwards, of the left (1) or
    right (-1) eye."""
    template, (ring, _) = model.template.numpy(), lid_rings(model)
    edge = ring[np.sign(template[ring, 0]) == sign]
    edge = edge[np.argsort(np.abs(template[edge, 0]))]
    rim = template[edge]
    share = (rim[:, 0] - rim[0, 0]) / (rim[-1, 0] - rim[0, 0])
    upper = rim[:, 1] > rim[0, 1] + share * (rim[-1, 1] - rim[0, 1])
    return edge[upper], edge[~upper]


def edge_distances(model: HeadModel, edge: np.ndarray) -> Tensor:
    """[V] metres along the skin of the template from the nearest of some vertices; infinite where
    none leads."""
    return _geodesic(_edge_lengths(model, model.skin_faces.numpy()), edge.tolist())


def lid_rings(model: HeadModel) -> tuple[np.ndarray, np.ndarray]:
    """Skin vertices on the edges of the lids, and those within, to the eye sockets' border."""
    parts, faces = model.face_part.numpy(), model.faces.numpy()
    skin = faces[parts == model.part_names.index("skin")]
    ring = np.intersect1d(skin, faces[parts == model.part_names.index("eye_cavity")])
    known = ring
    # from the socket's border outwards over the thickness of the lid
    for _ in range(regions_of(model).lid_rings):
        around = np.unique(skin[np.isin(skin, ring).any(1)])
        ring, known = np.setdiff1d(around, known), np.union1d(around, known)
    return ring, np.setdiff1d(known, ring)


def _boundary_loops(faces: np.ndarray) -> list[list[int]]:
    """The closed chains of vertices where triangles [F, 3] have no neighbour."""
    edges = {tuple(edge) for k in range(3) for edge in faces[:, [k, (k + 1) % 3]].tolist()}
    following = {a: b for a, b in edges if (b, a) not in edges}
    loops = []
    while following:
        first, loop = next(iter(following)), []
        vertex = first
        while vertex in following:
            loop.append(vertex)
            vertex = following.pop(vertex)
        loops.append(loop)
    return loops


def _arcs(
    model: HeadModel, loops: list[list[int]], corners: tuple[int, int]
) -> tuple[list[int], list[int]]:
    """The upper and the lower arc of the loop that passes nearest to two landmarks, between its
    ends along the line through these."""
    points = model.landmark_vertices(model.template)[list(corners)]
    if not loops:
        raise ValueError(f"head model {model.name}: its skin has no border around mouth and eyes")
    loop = min(
        loops, key=lambda loop: float(torch.cdist(points, model.template[loop]).amin(-1).sum())
    )
    along = model.template[loop] @ (points[1] - points[0])
    first, second = int(along.argmin()), int(along.argmax())
    loop = [*loop[first:], *loop[:first]]
    split = (second - first) % len(loop)
    arcs = loop[1:split], loop[split + 1 :]
    lower, upper = sorted(arcs, key=lambda arc: float(model.template[arc, 1].mean()))
    return upper, lower


def _edge_lengths(model: HeadModel, faces: np.ndarray):
    """The sparse matrix [V, V] of the lengths in metres of the edges of triangles [F, 3]."""
    from scipy.sparse import coo_matrix

    a, b = faces.flatten(), faces[:, [1, 2, 0]].flatten()
    vertices = model.template.numpy()
    lengths = np.linalg.norm(vertices[a] - vertices[b], axis=-1)
    pairs, index = np.unique(np.sort(np.stack([a, b], -1), -1), axis=0, return_index=True)
    shape = len(vertices), len(vertices)
    return coo_matrix((lengths[index], pairs.T), shape).tocsr()


def _geodesic(graph, sources: list[int]) -> Tensor:
    """[V] metres along edges from the nearest of the sources; infinite where none leads."""
    from scipy.sparse.csgraph import dijkstra

    distances = dijkstra(graph, directed=False, indices=sources, min_only=True)
    return torch.from_numpy(np.asarray(distances)).float()
