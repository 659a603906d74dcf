"""Triangles to pixels: a z-buffer rasteriser, and the shaded and wireframe images of meshes that
reports show.

Everything is NumPy in, NumPy out. The loops are compiled on first use (a few seconds, kept on disk
after that).
"""

from __future__ import annotations

import dataclasses

import numpy as np

from likeness.scene.camera import Camera

NEAR = 0.01
_SKIN_GREY = (0.78, 0.76, 0.74)


@dataclasses.dataclass(frozen=True)
class Raster:
    """What is seen at each pixel's centre.

    face_index: [H, W] int32, -1 where nothing is.
    barycentrics: [H, W, 3] float32 perspective-correct, of the face's corners; 0 where nothing is.
    depth: [H, W] float32 metres along the camera's axis; infinite where nothing is.
    """

    face_index: np.ndarray
    barycentrics: np.ndarray
    depth: np.ndarray

    @property
    def mask(self) -> np.ndarray:
        """[H, W] bool: drawn at all."""
        return self.face_index >= 0

    @classmethod
    def empty(cls, width: int, height: int) -> Raster:
        """Buffers with nothing drawn."""
        return cls(
            face_index=np.full((height, width), -1, np.int32),
            barycentrics=np.zeros((height, width, 3), np.float32),
            depth=np.full((height, width), np.inf, np.float32),
        )

    def interpolate(self, values: np.ndarray, faces: np.ndarray) -> np.ndarray:
        """Per-vertex values [V, C] at the pixels: [H, W, C] float32, 0 where nothing is drawn."""
        from likeness.renderers.mesh_kernels import interpolate_kernel

        out = np.zeros((*self.face_index.shape, values.shape[1]), np.float32)
        interpolate_kernel(
            _floats(values, None), _faces(faces), self.face_index, self.barycentrics, out
        )
        return out


def rasterize(
    vertices_cam: np.ndarray,
    faces: np.ndarray,
    K: np.ndarray,
    width: int,
    height: int,
    *,
    near: float = NEAR,
    into: Raster | None = None,
    first_id: int = 0,
) -> Raster:
    """Draws triangles seen from both sides; the nearest wins, the first among equals.

    vertices_cam: [V, 3] metres in the camera frame (+z forward). faces: [F, 3] integers. K: [3, 3]
    pixels, its last row (0, 0, 1); skew and off-centre principal points are honoured. Parts nearer
    than ``near`` metres are cut away.
    into: buffers to draw over (they are changed), as made by ``Raster.empty``; faces are numbered
        from ``first_id``.

    Raises ValueError for wrong shapes.
    """
    from likeness.renderers.mesh_kernels import rasterize_kernel

    vertices_cam, faces = _floats(vertices_cam, 3), _faces(faces)
    if faces.size and (faces.min() < 0 or faces.max() >= len(vertices_cam)):
        raise ValueError(f"rasterize: faces name vertices outside the {len(vertices_cam)} given")
    raster = Raster.empty(width, height) if into is None else into
    K = np.ascontiguousarray(K, np.float64)
    if K.shape != (3, 3):
        raise ValueError(f"rasterize: K: expected [3, 3], got {list(K.shape)}")
    buffers = raster.face_index, raster.barycentrics, raster.depth
    rasterize_kernel(vertices_cam, faces, K, float(near), int(first_id), *buffers)
    return raster


def rasterize_camera(vertices, faces, camera: Camera, *, near: float = NEAR) -> Raster:
    """The same for world vertices [V, 3] and one camera (no batch); tensors or arrays."""
    K, vertices_cam = in_camera(vertices, camera)
    return rasterize(vertices_cam, faces, K, camera.width, camera.height, near=near)


def in_camera(vertices, camera: Camera) -> tuple[np.ndarray, np.ndarray]:
    """K [3, 3] float64, and world vertices [V, 3] moved into the frame of one camera, float32."""
    if camera.batch_shape:
        raise ValueError(
            f"mesh renderer: expected one camera, got a batch {list(camera.batch_shape)}"
        )
    T = camera.T_cam_world.detach().cpu().double().numpy()
    return camera.K.detach().cpu().double().numpy(), (
        _floats(vertices, 3) @ T[:3, :3].T + T[:3, 3]
    ).astype(np.float32)


def vertex_normals(vertices, faces) -> np.ndarray:
    """Area-weighted unit normals [V, 3] float32; zero at vertices without a face."""
    from likeness.renderers.mesh_kernels import vertex_normals_kernel

    vertices = _floats(vertices, 3)
    normals = np.empty_like(vertices)
    vertex_normals_kernel(vertices, _faces(faces), normals)
    return normals


def render_mesh(
    vertices,
    faces,
    camera: Camera,
    *,
    colors: np.ndarray | None = None,
    light: tuple[float, float, float] = (-0.3, -0.6, -0.9),
    wireframe: bool = False,
    supersample: int = 2,
) -> tuple[np.ndarray, np.ndarray]:
    """A clay image of a mesh: Lambert's law with one light and a soft ambient term.

    vertices: [V, 3] metres in the world. colors: [V, 3] in [0, 1] (grey if none). light: direction
    towards the light in camera axes. wireframe: edges drawn dark. supersample: samples per pixel
    and axis.

    Returns rgb [H, W, 3] premultiplied and alpha [H, W, 1], float32 in [0, 1].
    """
    faces = _faces(faces)
    fine = camera.resized(camera.width * supersample, camera.height * supersample)
    K, vertices_cam = in_camera(vertices, fine)
    raster = rasterize(vertices_cam, faces, K, fine.width, fine.height)
    attributes = [vertex_normals(vertices_cam, faces)]
    if colors is not None:
        attributes.append(_floats(colors, 3))
    values = raster.interpolate(np.concatenate(attributes, 1), faces)
    normals = values[..., :3] / np.maximum(
        np.linalg.norm(values[..., :3], axis=-1, keepdims=True), 1e-9
    )
    # both sides are lit as if they faced the camera
    normals *= np.where(normals[..., 2:] > 0, -1.0, 1.0)
    direction = np.asarray(light, np.float32) / np.linalg.norm(light)
    lambert = np.clip(normals @ direction, 0, None)[..., None]
    ambient = 0.32 + 0.10 * -normals[..., 1:2]  # the sky is a little brighter than the floor
    base = values[..., 3:] if colors is not None else np.asarray(_SKIN_GREY, np.float32)
    rgb = np.clip(base * (ambient + 0.7 * lambert), 0, 1)
    if wireframe:
        rgb *= (1 - 0.6 * _edge_coverage(vertices_cam, faces, raster, K, 0.6 * supersample))[
            ..., None
        ]
    alpha = raster.mask[..., None].astype(np.float32)
    return _downsample(rgb.astype(np.float32) * alpha, supersample), _downsample(alpha, supersample)


def overlay(
    image: np.ndarray, vertices, faces, camera: Camera, *, alpha: float = 0.6, **kwargs
) -> np.ndarray:
    """The mesh laid over a photo: image uint8 [H, W, 3] in, the same out. ``kwargs`` as for
    ``render_mesh``."""
    if image.dtype != np.uint8 or image.shape != (camera.height, camera.width, 3):
        raise ValueError(
            f"overlay: expected uint8 {[camera.height, camera.width, 3]}, got {list(image.shape)}"
        )
    rgb, coverage = render_mesh(vertices, faces, camera, **kwargs)
    mixed = image / 255.0 * (1 - alpha * coverage) + alpha * rgb
    return np.round(np.clip(mixed, 0, 1) * 255).astype(np.uint8)


def _edge_coverage(
    vertices_cam, faces, raster: Raster, K: np.ndarray, width_px: float
) -> np.ndarray:
    """[H, W] in [0, 1]: how much an edge of the seen triangle covers the pixel."""
    image = vertices_cam @ K.T.astype(np.float32)
    corners = (image[:, :2] / np.maximum(image[:, 2:], NEAR))[faces]  # [F, 3, 2]
    opposite = np.roll(corners, -1, 1) - np.roll(corners, -2, 1)
    u, v = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    area = np.abs(u[:, 0] * v[:, 1] - u[:, 1] * v[:, 0])  # twice the triangle's
    heights = area[:, None] / np.maximum(np.linalg.norm(opposite, axis=-1), 1e-6)
    distance = (raster.barycentrics * heights[raster.face_index]).min(-1)
    return np.where(raster.mask, np.clip(width_px + 0.5 - distance, 0, 1), 0).astype(np.float32)


def _downsample(image: np.ndarray, factor: int) -> np.ndarray:
    """The mean over blocks of factor × factor pixels."""
    height, width, channels = image.shape
    return image.reshape(height // factor, factor, width // factor, factor, channels).mean((1, 3))


def _floats(values, columns: int | None) -> np.ndarray:
    """Contiguous float32 [N, columns] of an array or tensor."""
    if hasattr(values, "detach"):
        values = values.detach().cpu().numpy()
    values = np.ascontiguousarray(values, np.float32)
    if values.ndim != 2 or (columns is not None and values.shape[1] != columns):
        raise ValueError(
            f"mesh renderer: expected [N, {columns or 'C'}] numbers, got {list(values.shape)}"
        )
    return values


def _faces(faces) -> np.ndarray:
    """Contiguous int64 [F, 3] of an array or tensor."""
    if hasattr(faces, "detach"):
        faces = faces.detach().cpu().numpy()
    faces = np.ascontiguousarray(faces, np.int64)
    if faces.ndim != 2 or faces.shape[1] != 3:
        raise ValueError(f"mesh renderer: faces: expected [F, 3], got {list(faces.shape)}")
    return faces
