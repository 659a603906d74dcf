"""Places the landmark detector's points on a head model, from images of the painted model.

A z-buffer does not do: the detector's point on an inner lip, carried back along its ray, lands on
teeth or far behind (errors of 80 mm were seen). Instead, synthetic subjects with several
expressions are drawn from several sides, the detector is run on every image, and for each landmark
the point of the surface is taken that explains all images best, together with its mirror twin for
the landmark's twin. Needs nothing of the model's own landmarks, only that the model can be painted
(``likeness.head_models.regions``). Run it by ``python -m tools.head_model.place_landmarks``.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch

from likeness.head_models.base import HeadModel
from likeness.preprocess.landmarks import FaceMeshDetector
from likeness.renderers.mesh import vertex_normals
from likeness.scene.camera import Camera
from likeness.scene.files import atomic_path
from likeness.scene.head_state import HeadState
from likeness.scene.transforms import make_transform, rotvecs_to_matrices
from likeness.synthetic.subject import SyntheticPerson, SyntheticSubject

_FACE_PARTS = ("skin", "eye_left", "eye_right")  # where landmarks can lie
_CHARBONNIER_MM = 1.0  # below it errors count squared, above linearly
_MAX_MM = 20.0  # an error beyond it counts as this: a image that the detector got wrong
_MIDLINE_MM = 1.0  # a landmark that is its own twin lies at most this far from the middle


@dataclasses.dataclass(frozen=True)
class EmbeddingConfig:
    """Which images the landmarks are placed by."""

    people: int = 7
    """Synthetic subjects, the first of them the template itself."""
    first_seed: int = 100
    """Seed of the first; the others follow."""
    size: int = 448
    """Width and height of the images in pixels."""
    texture_size: int = 1024
    """Texels along a side of the painted texture."""
    yaws: tuple[float, ...] = (-32.0, -16.0, 0.0, 16.0, 32.0)
    """Degrees by which the head is turned, at level pitch."""
    pitches: tuple[float, ...] = (-14.0, 14.0)
    """Degrees by which the head is nodded, without yaw."""
    coarse: int = 3
    """Divisions of an edge in the first search among the faces around the best vertices."""
    fine: int = 9
    """Divisions of an edge in the last search, on the best faces."""

    @property
    def num_images(self) -> int:
        return self.people * len(EXPRESSIONS) * (len(self.yaws) + len(self.pitches))


# Expressions that move every landmark some way.
EXPRESSIONS: tuple[dict[str, float], ...] = (
    {},
    {"jawOpen": 0.65},
    {
        "mouthSmileLeft": 0.8,
        "mouthSmileRight": 0.8,
        "cheekSquintLeft": 0.4,
        "cheekSquintRight": 0.4,
        "jawOpen": 0.12,
    },
    {
        "mouthPucker": 0.7,
        "browInnerUp": 0.8,
        "browOuterUpLeft": 0.8,
        "browOuterUpRight": 0.8,
        "eyeWideLeft": 0.5,
        "eyeWideRight": 0.5,
    },
    {
        "eyeBlinkLeft": 1.0,
        "eyeBlinkRight": 1.0,
        "browDownLeft": 0.7,
        "browDownRight": 0.7,
        "mouthFunnel": 0.4,
        "jawOpen": 0.2,
    },
)


@dataclasses.dataclass(frozen=True)
class Observations:
    """What the detector said about N images.

    points: [N, L, 2] pixels, of the images and their mirror images together; vertices: [N, V, 3]
    of the mesh in the camera frame, metres; normals: [N, V, 3]; K: [3, 3]; mirror: [L] the
    landmarks' twins.
    """

    points: np.ndarray
    vertices: np.ndarray
    normals: np.ndarray
    K: np.ndarray
    mirror: np.ndarray


@dataclasses.dataclass(frozen=True)
class Embedding:
    """Landmarks on the mesh.

    faces: [L], barycentrics: [L, 3], mirror: [L] as in HeadModel; residual_mm: [L] median distance
    over the images between the detector's point and the placed one, at the depth of the face.
    """

    faces: np.ndarray
    barycentrics: np.ndarray
    mirror: np.ndarray
    residual_mm: np.ndarray

    def save(self, path: Path) -> None:
        """Writes the .npz that head models are built with."""
        with atomic_path(path) as temporary:
            np.savez_compressed(
                temporary,
                faces=self.faces.astype(np.int32),
                barycentrics=self.barycentrics.astype(np.float32),
                mirror=self.mirror.astype(np.int32),
                residual_mm=self.residual_mm.astype(np.float32),
            )


def observe(
    model: HeadModel, config: EmbeddingConfig, progress: Callable[[], object] = lambda: None
) -> Observations:
    """Draws the images and runs the detector on each and on its mirror image. Calls ``progress``
    after each. Raises UserError when nobody has drawn the model's painted regions, ValueError when
    too few faces are found."""
    plain, flipped, vertices = [], [], []
    with FaceMeshDetector(max_faces=1) as detector:
        for image, mesh in _images(model, config):
            both = [
                _settled(detector, img) for img in (image, np.ascontiguousarray(image[:, ::-1]))
            ]
            progress()
            if both[0] is None or both[1] is None:
                continue
            plain.append(both[0])
            flipped.append(both[1] * [-1, 1] + [config.size, 0])
            vertices.append(mesh)
    if len(plain) < config.num_images // 2:
        raise ValueError(
            f"embedding: faces found in {len(plain)} of {config.num_images} images of {model.name}"
        )
    mirror = _twins(np.stack(plain), np.stack(flipped))
    points = (np.stack(plain) + np.stack(flipped)[:, mirror]) / 2
    normals = np.stack([vertex_normals(mesh, model.faces) for mesh in vertices])
    K = _camera(config).K.double().numpy()
    return Observations(points.astype(np.float32), np.stack(vertices), normals, K, mirror)


def place(model: HeadModel, seen: Observations, config: EmbeddingConfig) -> Embedding:
    """Finds each landmark's place; coarse to fine: vertices, then points on the faces around the
    best of them."""
    faces = model.part_faces(*_FACE_PARTS).numpy()
    front = np.unique(faces)
    front = front[model.template.numpy()[front, 2] > -0.07]
    corners = np.repeat(front[:, None], 3, 1)
    vertex_cost = _costs(
        seen, np.arange(len(seen.mirror)), corners, np.tile([1.0, 0, 0], (len(front), 1))
    )
    number = np.full(len(model.template), -1)
    number[front] = np.arange(len(front))
    face_of = {tuple(sorted(corner)): index for index, corner in enumerate(model.faces.tolist())}

    num_landmarks = len(seen.mirror)
    placed, weights = np.zeros(num_landmarks, np.int64), np.zeros((num_landmarks, 3))
    twins = number[model.mirror.numpy()[front]]
    for landmark in range(num_landmarks):
        twin = int(seen.mirror[landmark])
        if twin < landmark:
            continue
        cost = vertex_cost[landmark] + np.where(twins >= 0, vertex_cost[twin][twins], np.inf)
        near = front[np.argsort(cost)[:3]]
        for _ in range(2):
            near = np.unique(faces[np.isin(faces, near).any(1)])
        around = faces[np.isin(faces, near).all(1)]
        for divisions, keep in ((config.coarse, 4), (config.fine, 1)):
            grid = _grid(divisions)
            triangles = np.repeat(around, len(grid), 0)
            cost = _pair_cost(
                model, seen, landmark, twin, triangles, np.tile(grid, (len(around), 1))
            )
            best = np.argsort(cost.reshape(len(around), -1).min(1))[:keep]
            around, winner = around[best], int(cost.argmin())
        triangle, barycentric = (
            triangles[winner],
            np.tile(grid, (len(cost) // len(grid), 1))[winner],
        )
        placed[landmark], weights[landmark] = _in_order(model, face_of, triangle, barycentric)
        if twin != landmark:
            placed[twin], weights[twin] = _in_order(
                model, face_of, model.mirror.numpy()[triangle], barycentric
            )
    residual = residuals(model, seen, placed, weights)
    return Embedding(placed, weights, seen.mirror, residual)


def residuals(
    model: HeadModel, seen: Observations, faces: np.ndarray, barycentrics: np.ndarray
) -> np.ndarray:
    """[L] median distance in mm over the images between the detector's points and given places on
    the mesh."""
    triangles = model.faces.numpy()[faces]
    points = (seen.vertices[:, triangles] * barycentrics[..., None]).sum(2)
    return np.median(_distances(seen, points, seen.points), 0)


def _pair_cost(
    model: HeadModel, seen: Observations, landmark: int, twin: int, triangles, grid
) -> np.ndarray:
    """What the candidates [C] cost for a landmark, with their mirror images for its twin."""
    mirrored = model.mirror.numpy()[triangles]
    cost = _costs(seen, np.array([landmark]), triangles, grid)[0]
    cost = cost + _costs(seen, np.array([twin]), mirrored, grid)[0]
    if landmark == twin:
        x = (model.template.numpy()[triangles, 0] * grid).sum(1)
        cost = np.where(np.abs(x) * 1000 <= _MIDLINE_MM, cost, cost + _MAX_MM)
    return cost


def _costs(
    seen: Observations, landmarks: np.ndarray, triangles: np.ndarray, grid: np.ndarray
) -> np.ndarray:
    """[len(landmarks), C] mean robust distance in mm of candidates to the detector's points.

    Pictures count by how much the candidate faces the camera there: the detector only guesses what
        it cannot see.
    """
    points, normals = (
        (field[:, triangles] * grid[..., None]).sum(2) for field in (seen.vertices, seen.normals)
    )
    towards = -points / np.linalg.norm(points, axis=-1, keepdims=True)
    facing = np.clip((normals * towards).sum(-1), 0.05, 1)
    share = facing / facing.sum(0)
    result = np.empty((len(landmarks), len(triangles)))
    for row, landmark in enumerate(landmarks):
        distance = _distances(seen, points, seen.points[:, landmark : landmark + 1])
        robust = np.sqrt(np.minimum(distance, _MAX_MM) ** 2 + _CHARBONNIER_MM**2)
        result[row] = (share * robust).sum(0)
    # Places that hardly ever face the camera are no places for a landmark.
    return result + 3.0 * np.clip(0.3 - facing.mean(0), 0, None)


def _distances(seen: Observations, points: np.ndarray, pixels: np.ndarray) -> np.ndarray:
    """Distances [N, C] in mm at the points' depth between projected points [N, C, 3] and pixels [N,
    C or 1, 2]."""
    depth = points[..., 2]
    projected = points[..., :2] / depth[..., None] * seen.K[0, 0] + seen.K[:2, 2]
    return np.linalg.norm(projected - pixels, axis=-1) * depth / seen.K[0, 0] * 1000


def _in_order(model: HeadModel, face_of: dict, triangle: np.ndarray, barycentric: np.ndarray):
    """The model's face with these corners, and the barycentrics in its order."""
    face = face_of[tuple(sorted(triangle.tolist()))]
    order = [triangle.tolist().index(corner) for corner in model.faces[face].tolist()]
    return face, barycentric[order]


def _grid(divisions: int) -> np.ndarray:
    """Barycentrics [P, 3] evenly over a triangle."""
    steps = [
        (i, j, divisions - i - j) for i in range(divisions + 1) for j in range(divisions + 1 - i)
    ]
    return np.array(steps, np.float64) / divisions


def _twins(points: np.ndarray, flipped: np.ndarray) -> np.ndarray:
    """[L] the landmark on the other side, from points [N, L, 2] of images and of their mirror
    images, mirrored back.

    The detector has learned nothing of left and right: what it calls landmark l in one, it calls
        l's twin in the other.
    """
    from scipy.optimize import linear_sum_assignment

    size = np.ptp(points, axis=1).max(-1)[:, None, None]
    cost = np.zeros((points.shape[1],) * 2)
    for a, b in zip(points / size, flipped / size, strict=True):
        cost += ((a[:, None] - b[None]) ** 2).sum(-1)
    twins = linear_sum_assignment(cost + cost.T)[1]
    if (twins[twins] != np.arange(len(twins))).any():
        raise ValueError("embedding: the detector's landmarks do not pair up; use more images")
    return twins


def _settled(detector, image: np.ndarray) -> np.ndarray | None:
    """Landmarks [L, 2] once the detector's crop has settled on this image, or None without a
    face."""
    for _ in range(3):
        faces = detector(image)
    return faces[0] if len(faces) else None


def _camera(config: EmbeddingConfig) -> Camera:
    focal, centre = 3.2 * config.size, config.size / 2
    K = torch.tensor([[focal, 0.0, centre], [0.0, focal, centre], [0.0, 0.0, 1.0]])
    return Camera(K, torch.eye(4), config.size, config.size)


def _images(model: HeadModel, config: EmbeddingConfig) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Images uint8 [S, S, 3] with the head's vertices [V, 3] in the camera frame."""
    camera = _camera(config)
    rest = torch.diag(torch.tensor([1.0, -1.0, -1.0, 1.0]))
    rest[:3, 3] = torch.tensor([0.0, -0.03, 1.1])
    poses = [(yaw, 0.0) for yaw in config.yaws] + [(0.0, pitch) for pitch in config.pitches]
    for number in range(config.people):
        person = SyntheticPerson.random(model, config.first_seed + number)
        # Hair must not cover the brows.
        person = dataclasses.replace(
            person, look=dataclasses.replace(person.look, hair_style="short")
        )
        if number == 0:
            person = dataclasses.replace(person, identity=model.neutral_identity())
        subject = SyntheticSubject(model, person, config.texture_size)
        wall = subject.wall(config.size, config.size)
        for shapes in EXPRESSIONS:
            expression = torch.zeros(len(model.expression_names))
            for name, strength in shapes.items():
                if name in model.expression_names:
                    expression[model.expression_names.index(name)] = strength
            for yaw, pitch in poses:
                angles = torch.deg2rad(torch.tensor([[0.0, yaw, 0.0], [-pitch, 0.0, 0.0]]))
                rotations = rotvecs_to_matrices(angles)
                pose = rest @ make_transform(rotations[0] @ rotations[1], torch.zeros(3))
                state = HeadState(expression, model.neutral_state().joints, pose, rest)
                rgb, alpha = subject.render(state, camera)
                image = np.round(255 * (rgb + (1 - alpha[..., None]) * wall))
                image = image.clip(0, 255).astype(np.uint8)
                head = subject.shaped.posed(state).vertices @ pose[:3, :3].T + pose[:3, 3]
                yield image, head.numpy()
