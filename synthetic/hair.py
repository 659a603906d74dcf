"""Hair of a synthetic subject: a cap over the scalp, and thousands of strands on and around it,
rigid with the head."""

from __future__ import annotations

import dataclasses

import numpy as np
from scipy.spatial import KDTree

from likeness.head_models.regions import FaceRegions, scalp_score
from likeness.head_models.sides import lid_margins
from likeness.renderers.mesh import vertex_normals
from likeness.synthetic.appearance import Look, to_linear
from likeness.synthetic.noise import lattice_noise, octave_noise, smoothstep


@dataclasses.dataclass(frozen=True)
class HairStyle:
    """Numbers of one style, in millimetres."""

    length: float
    """Mean length of the strands."""
    points: int
    """Points along a strand."""
    volume: float
    """Thickness of the cap at the crown."""
    lift: float
    """How far strands stand up: 0 lie, 1 stand."""
    gravity: float
    """How much they hang."""
    bend: float
    """How much they bend back towards the scalp."""
    curl: float = 0.0
    """Radius of the curls."""
    parted: bool = False
    """Combed away from a parting instead of from the whorl."""
    wildness: float = 0.25
    """Disorder of the directions."""


STYLES = {
    "short": HairStyle(length=22, points=6, volume=6, lift=0.40, gravity=0.0, bend=0.25),
    "tousled": HairStyle(
        length=46, points=8, volume=13, lift=0.45, gravity=0.15, bend=0.35, wildness=0.4
    ),
    "bob": HairStyle(
        length=150,
        points=11,
        volume=10,
        lift=0.10,
        gravity=1.6,
        bend=0.1,
        parted=True,
        wildness=0.12,
    ),
    "curly": HairStyle(
        length=55, points=12, volume=18, lift=0.55, gravity=0.2, bend=0.2, curl=3.5, wildness=0.5
    ),
}


@dataclasses.dataclass(frozen=True)
class Hair:
    """Hair in the head frame, metres.

    cap: [V, 3], cap_faces: [F, 3]. strands: [S, P, 3] from root to tip; widths: [S, P]; occlusion:
    [S, P] open sky, 0 to 1; colors: [S, 3] linear.
    """

    cap: np.ndarray
    cap_faces: np.ndarray
    strands: np.ndarray
    widths: np.ndarray
    occlusion: np.ndarray
    colors: np.ndarray


def build_hair(
    template: np.ndarray,
    vertices: np.ndarray,
    faces: np.ndarray,
    regions: FaceRegions,
    look: Look,
    seed: int,
    num_strands: int = 4500,
) -> Hair:
    """Grows hair on a neutral head: template and vertices [V, 3] metres, faces [F, 3] of the skin
    only."""
    style = STYLES[look.hair_style]
    rng = np.random.default_rng(seed + 201)
    score = scalp_score(regions, template * 1000)
    used, cap_faces = np.unique(faces[(score[faces] > -4).all(1)], return_inverse=True)
    skin, skin_score, cap_faces = vertices[used] * 1000, score[used], cap_faces.reshape(-1, 3)
    for _ in range(2):
        skin, skin_score, cap_faces = _subdivided(skin, skin_score, cap_faces)
    normals = _outward(skin, cap_faces)
    crown = 0.6 + 0.4 * smoothstep(20, 90, skin[:, 1])
    thickness = style.volume * crown * smoothstep(0, 26, skin_score)
    clumps = (0.12 * style.volume + 0.6) * lattice_noise(skin, 22, seed + 202)
    thickness = thickness + clumps * smoothstep(2, 12, skin_score)
    cap = skin + normals * (thickness - 1.2)[:, None]

    corners = skin[cap_faces]
    area = np.linalg.norm(
        np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1
    )
    area = area * (skin_score[cap_faces].min(1) > 1)
    # The hairline is seen from close by: it gets more strands.
    area = area * (1 + 1.2 * smoothstep(22, 6, skin_score[cap_faces].mean(1)))
    chosen = rng.choice(len(cap_faces), num_strands, p=area / area.sum())
    weights = rng.dirichlet(np.ones(3), num_strands)[..., None]
    root, normal = ((field[cap_faces[chosen]] * weights).sum(1) for field in (skin, normals))
    at_line = (skin_score[cap_faces[chosen]] * weights[..., 0]).sum(1)

    outside = _Shell(KDTree(cap), cap, _outward(cap, cap_faces))
    bare = _solid(vertices * 1000, faces, score)
    layer = rng.uniform(-1.0, 3.0, num_strands) + 0.12 * style.volume * rng.normal(size=num_strands)
    strands = _grow(style, regions, root, normal, at_line, layer, outside, bare, rng, seed)

    t = np.linspace(0, 1, style.points)
    widths = rng.uniform(0.75, 1.25, (num_strands, 1)) * (1 - 0.75 * t**2)
    tone = 1 + 0.22 * octave_noise(root, 14, seed + 203, 2) + rng.normal(0, 0.16, num_strands)
    colors = to_linear(look.hair)[None] * np.clip(tone, 0.45, 1.8)[:, None]
    colors *= 1 + 0.03 * rng.normal(size=(num_strands, 3))
    depth = smoothstep(-3.0, 3.5, layer)[:, None]
    occlusion = np.clip((0.35 + 0.65 * depth) * (0.55 + 0.45 * t), 0, 1)
    return Hair(
        cap=cap / 1000,
        cap_faces=cap_faces,
        strands=(strands / 1000).astype(np.float32),
        widths=(widths / 1000).astype(np.float32),
        occlusion=occlusion.astype(np.float32),
        colors=np.clip(colors, 0.002, 1).astype(np.float32),
    )


def _grow(
    style: HairStyle, regions, root, normal, at_line, layer, outside, bare, rng, seed: int
) -> np.ndarray:
    """Marches every strand from its root: combed, pulled down, kept outside of cap and skin. [S, P,
    3] millimetres."""
    count = len(root)
    whorl = np.array(regions.whorl)
    if style.parted:
        side = np.where(root[:, 0] > whorl[0] - 14, 1.0, -1.0)
        comb = np.stack([side, np.full(count, -0.45), np.where(root[:, 2] > -25, -0.7, -0.15)], 1)
        comb += 0.5 * _unit(root - whorl)
    else:
        comb = _unit(root - whorl) + [0.25, 0.0, 0.35]
    clump = np.stack([lattice_noise(root, 18, seed + 210 + k) for k in range(3)], 1)
    comb = comb + style.wildness * (0.6 * clump + 0.5 * rng.normal(size=(count, 3)))
    length = style.length * np.clip(1 + 0.22 * rng.normal(size=count), 0.4, 1.6)
    length *= 0.55 + 0.45 * smoothstep(0, 22, at_line)
    step = (length / (style.points - 1))[:, None]
    tangent = _unit(comb - (comb * normal).sum(1, keepdims=True) * normal)
    lift = style.lift * np.clip(1 + 0.5 * rng.normal(size=(count, 1)), 0.1, 2)
    heading = _unit(tangent + lift * normal)
    phase = rng.uniform(0, 2 * np.pi, (count, 1))
    points = [root - 0.5 * normal]
    for i in range(1, style.points):
        point = points[-1] + step * heading
        point = bare.push_out(point, np.full(count, 0.8))
        if i > 1:
            point = outside.push_out(point, layer)
        if style.parted:  # a curtain beside the face, not before it
            least = 64 * smoothstep(75, 15, point[:, 1]) * smoothstep(-60, -40, point[:, 2])
            point[:, 0] = np.where(point[:, 0] >= 0, 1.0, -1.0) * np.maximum(
                np.abs(point[:, 0]), least
            )
        points.append(point)
        moved = _unit(points[-1] - points[-2])
        moved = moved - style.bend * (moved * normal).sum(1, keepdims=True) * normal
        heading = _unit(
            moved
            + [0, -style.gravity * 0.55, 0]
            + 0.12 * style.wildness * rng.normal(size=(count, 3))
        )
    strands = np.stack(points, 1)
    if style.curl:
        t = np.linspace(0, 1, style.points)[None, :, None]
        along = t * (length / 26)[:, None, None] * 2 * np.pi + phase[..., None]
        across = _unit(np.cross(tangent, normal))[:, None]
        radius = style.curl * t**0.6
        strands = strands + radius * (np.cos(along) * across + np.sin(along) * normal[:, None])
    return strands


@dataclasses.dataclass(frozen=True)
class _Shell:
    """A surface by samples [N, 3] with normals [N, 3], millimetres; tree: of the samples."""

    tree: KDTree
    surface: np.ndarray
    normals: np.ndarray

    def push_out(self, points: np.ndarray, margin: np.ndarray) -> np.ndarray:
        """Points [S, 3] moved to at least ``margin`` [S] outside; far ones stay."""
        distance, nearest = self.tree.query(points, distance_upper_bound=30.0)
        near = np.isfinite(distance)
        nearest = np.where(near, nearest, 0)
        normal = self.normals[nearest]
        height = ((points - self.surface[nearest]) * normal).sum(1)
        return points + (np.clip(margin - height, 0, 25) * near)[:, None] * normal


def _solid(vertices: np.ndarray, faces: np.ndarray, score: np.ndarray) -> _Shell:
    """The skin where no hair grows."""
    used = np.unique(faces)
    used = used[score[used] < 2]
    return _Shell(KDTree(vertices[used]), vertices[used], vertex_normals(vertices, faces)[used])


def _outward(vertices, faces) -> np.ndarray:
    return vertex_normals(vertices, faces).astype(np.float64)


def _unit(v: np.ndarray) -> np.ndarray:
    return v / np.maximum(np.linalg.norm(v, axis=-1, keepdims=True), 1e-9)


def _subdivided(vertices, values, faces):
    """One step of Loop's subdivision ("Smooth subdivision surfaces based on triangles", 1987),
    borders cut straight."""
    edges = np.sort(np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]]), 1)
    unique, inverse, count = np.unique(edges, axis=0, return_inverse=True, return_counts=True)
    inverse = inverse.reshape(3, -1)
    num = len(vertices)
    opposite = np.zeros((len(unique), 3))
    for k, corner in enumerate((2, 0, 1)):
        np.add.at(opposite, inverse[k], vertices[faces[:, corner]])
    ends = vertices[unique[:, 0]] + vertices[unique[:, 1]]
    middle = np.where((count == 2)[:, None], 0.375 * ends + 0.125 * opposite, 0.5 * ends)
    neighbours, degree = np.zeros((num, 3)), np.zeros(num)
    for a, b in ((0, 1), (1, 0)):
        np.add.at(neighbours, unique[:, a], vertices[unique[:, b]])
        np.add.at(degree, unique[:, a], 1)
    on_border = np.zeros(num, bool)
    on_border[unique[count == 1]] = True
    beta = np.where(degree == 3, 3 / 16, 3 / (8 * np.maximum(degree, 1)))
    inner = (1 - degree * beta)[:, None] * vertices + beta[:, None] * neighbours
    smoothed = np.where(on_border[:, None], vertices, inner)
    m01, m12, m20 = inverse + num
    a, b, c = faces.T
    fine = np.concatenate(
        [np.stack(f, 1) for f in ((a, m01, m20), (b, m12, m01), (c, m20, m12), (m01, m12, m20))]
    )
    middle_values = 0.5 * (values[unique[:, 0]] + values[unique[:, 1]])
    return np.concatenate([smoothed, middle]), np.concatenate([values, middle_values]), fine


@dataclasses.dataclass(frozen=True)
class Lashes:
    """Eyelashes, which move with the lids.

    roots: [S, 2] vertices of the lid's margin, shares: [S] of the second one; lengths: [S] metres;
    sideways: [S] direction along x away from the middle of the eye; sides: [S] 1 left, -1 right;
        upper: [S] bool.
    """

    roots: np.ndarray
    shares: np.ndarray
    lengths: np.ndarray
    sideways: np.ndarray
    sides: np.ndarray
    upper: np.ndarray

    def strands(self, vertices: np.ndarray, eye_heights: np.ndarray, num_points: int) -> np.ndarray:
        """[S, P, 3] of a posed head: vertices [V, 3] in the head frame, heights [2] of left and
        right eye's centre."""
        a, b = self.roots.T
        root = vertices[a] * (1 - self.shares[:, None]) + vertices[b] * self.shares[:, None]
        # An open lid holds its lashes up, a closed one forward and down.
        opening = root[:, 1] - eye_heights[np.where(self.sides > 0, 0, 1)]
        rise = np.where(self.upper, np.clip((opening + 0.004) * 90, -0.35, 0.6), -0.4)
        forward = _unit(np.stack([0.4 * self.sideways, rise, np.full(len(rise), 0.75)], 1))
        curl = np.stack([np.zeros_like(rise), np.where(self.upper, 0.5, -0.3), 0 * rise], 1)
        along = np.linspace(0, 1, num_points)[None, :, None]
        return root[:, None] + self.lengths[:, None, None] * (
            along * forward[:, None] + along**2 * curl[:, None]
        )


def build_lashes(model, seed: int, per_eye: tuple[int, int] = (24, 9)) -> Lashes:
    """Lashes along the lids' margins: ``per_eye`` on the upper and the lower lid."""
    rng = np.random.default_rng(seed + 221)
    lashes = []
    for sign in (1, -1):
        for upper, margin in zip((True, False), lid_margins(model, sign), strict=True):
            count, length = (per_eye[0], 0.0058) if upper else (per_eye[1], 0.0035)
            at = rng.uniform(0.08, 0.99, count) * (len(margin) - 1.001)
            low = at.astype(int)
            place = 2 * at / (len(margin) - 1) - 1  # -1 at the nose, 1 at the temple
            lengths = length * (0.75 + 0.25 * place) * rng.uniform(0.8, 1.15, count)
            roots = np.stack([margin[low], margin[low + 1]], 1)
            lashes.append(
                (
                    roots,
                    at - low,
                    lengths,
                    sign * place,
                    np.full(count, sign),
                    np.full(count, upper),
                )
            )
    return Lashes(*(np.concatenate(field) for field in zip(*lashes, strict=True)))
