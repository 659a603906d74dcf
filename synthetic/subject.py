"""A synthetic subject: shape, paint, hair and clothes, and their image from any camera at any head
state."""

from __future__ import annotations

import dataclasses
from functools import cached_property

import numpy as np
import torch

from likeness.head_models.base import HeadModel, ShapedHead
from likeness.head_models.regions import regions_of
from likeness.renderers.mesh import rasterize, vertex_normals
from likeness.scene.camera import Camera
from likeness.scene.capture import Identity
from likeness.scene.head_state import HeadState
from likeness.scene.transforms import invert_transform
from likeness.synthetic.appearance import Look, to_linear
from likeness.synthetic.glasses import Glasses, worn
from likeness.synthetic.hair import Hair, Lashes, build_hair, build_lashes
from likeness.synthetic.noise import lattice_noise, octave_noise
from likeness.synthetic.paint import paint_texture, skin_tile
from likeness.synthetic.torso import Torso, build_torso, cloth_tile

# the neck's direction at the head's border, in the head frame
_DOWN = np.array([0.0, -0.995, -0.1])
# m, pixels, m seen by the shadow map at that distance
_LAMP_DISTANCE, _SHADOW_SIZE, _SHADOW_WIDTH = 3.0, 512, 0.62
_ENCODE_STEPS = 4096


@dataclasses.dataclass(frozen=True)
class Light:
    """Lamps that stand still in the world; directions point towards them, in the camera's axes (y
    down, z forward)."""

    lamp: tuple[float, float, float] = (-0.55, -0.62, -0.72)
    """Direction of the lamp that casts shadows."""
    fill: tuple[float, float, float] = (0.80, -0.15, -0.55)
    """Direction of the fill light."""
    strengths: tuple[float, float, float, float] = (0.62, 0.17, 0.36, 0.17)
    """Linear light on white from lamp, fill light, sky and floor."""


@dataclasses.dataclass(frozen=True)
class SyntheticPerson:
    """Everything that a seed decides: who it is, how they look, how they are lit."""

    identity: Identity
    look: Look
    light: Light
    seed: int
    glasses: Glasses | None = None

    @classmethod
    def random(cls, model: HeadModel, seed: int) -> SyntheticPerson:
        """A person drawn at random; the same seed always gives the same one."""
        rng = np.random.default_rng((seed, 5))
        coefficients = np.clip(rng.normal(0, 0.75, model.num_identity), -1.6, 1.6).astype(
            np.float32
        )
        identity = Identity(torch.from_numpy(coefficients), torch.zeros_like(model.template))
        side = 1 if rng.random() < 0.5 else -1
        lamp = (side * rng.uniform(0.35, 0.75), rng.uniform(-0.75, -0.45), -0.72)
        light = Light(lamp=lamp, fill=(-side * 0.8, -0.15, -0.55))
        return cls(identity, Look.random(rng), light, seed)


class SyntheticSubject:
    """A person ready to be drawn. Building one takes a few seconds (paint, hair, ambient
    occlusion)."""

    def __init__(self, model: HeadModel, person: SyntheticPerson, texture_size: int = 1024) -> None:
        self.model, self.person = model, person
        self.shaped: ShapedHead = model.shaped(person.identity)
        self._texture_size = texture_size
        vertices, faces = self.shaped.vertices.numpy(), model.faces.numpy()
        self.torso: Torso = build_torso(vertices.astype(np.float64), faces, person.seed)
        template, skin = model.template.numpy(), model.skin_faces.numpy()
        self.hair: Hair = build_hair(
            template, vertices, skin, regions_of(model), person.look, person.seed
        )
        if person.glasses is not None:
            self.hair = worn(self.hair, person.glasses, self.shaped.joint_centers.numpy())
        self.lashes: Lashes = build_lashes(model, person.seed)
        self._build_topology()
        self.texture = self._build_texture()
        self._build_occlusion()

    # ---- what does not move

    def _build_topology(self) -> None:
        from likeness.synthetic import shading

        model, torso, hair = self.model, self.torso, self.hair
        num_head, border = len(model.template), len(torso.border)
        neck_start = num_head - border  # the neck's own vertices are numbered from `border`
        joined = torso.border[torso.neck_faces % border]
        neck = np.where(torso.neck_faces < border, joined, torso.neck_faces + neck_start)
        num_neck = int(torso.neck_faces.max()) + 1 - border
        trunk = torso.trunk_faces + num_head + num_neck
        cap = hair.cap_faces + num_head + num_neck + len(torso.trunk)
        self._surface = np.concatenate([model.faces.numpy(), neck, trunk, cap])
        num_lashes, num_points = len(self.lashes.shares), hair.widths.shape[1]
        taper = np.linspace(0.0005, 0.00015, num_points, dtype=np.float32)
        self._widths = np.concatenate([hair.widths, np.tile(taper, (num_lashes, 1))])
        dark = np.minimum(to_linear(self.person.look.hair) * 0.3, 0.01)
        self._strand_colors = np.concatenate([hair.colors, np.tile(dark, (num_lashes, 1))])
        num_strands = len(self._widths)
        pairs = (
            np.arange(num_strands)[:, None] * num_points + np.arange(num_points - 1)
        ).ravel() * 2
        ribbons = np.concatenate([pairs[:, None] + [0, 1, 2], pairs[:, None] + [1, 3, 2]])
        num_surface_vertices = num_head + num_neck + len(torso.trunk) + len(hair.cap)
        self._faces = np.concatenate([self._surface, ribbons + num_surface_vertices])

        kinds = {"eye_left": shading.EYE, "eye_right": shading.EYE, "skin": shading.SKIN}
        of_part = np.array([kinds.get(name, shading.WET) for name in model.part_names])
        counts = (len(neck), shading.SKIN), (len(trunk), shading.CLOTH), (len(cap), shading.HAIR)
        self._material = np.concatenate(
            [of_part[model.face_part.numpy()], *(np.full(n, k) for n, k in counts)]
        )
        # The texture: the head's square on top; below it shirt, plain skin and hair.
        height = 2 / 3
        head_uv = model.uvs.numpy()[model.uv_faces.numpy()] * [1, height] + [0, 1 - height]
        around = np.arctan2(hair.cap[:, 0], hair.cap[:, 2] + 0.065) / (2 * np.pi)
        cap_uv = np.stack([np.abs(around) * 2, np.clip(hair.cap[:, 1] * 4 + 0.5, 0, 1)], -1)[
            hair.cap_faces
        ]
        third = 1 - height
        self._corner_uv = np.concatenate(
            [
                head_uv,
                _into_tile(torso.neck_uv, 0.5, third / 2, 0.5, third / 2),
                _into_tile(torso.trunk_uv, 0.0, 0.0, 0.5, third),
                _into_tile(cap_uv, 0.5, 0.0, 0.5, third / 2),
            ]
        ).astype(np.float32)

    def _build_texture(self) -> np.ndarray:
        size, look, seed = self._texture_size, self.person.look, self.person.seed
        head = paint_texture(self.model, look, seed, size)
        cloth, skin = (
            cloth_tile(look, seed, size // 2, size // 2),
            skin_tile(look, seed, size // 4, size // 2),
        )
        rows, columns = np.mgrid[: size // 4, : size // 2].astype(np.float32)
        points = np.stack([columns.ravel() * 6, rows.ravel() * 0.7, 0 * rows.ravel()], 1)
        streaks = (
            0.6
            + 0.22 * octave_noise(points, 24, seed + 301)
            + 0.08 * lattice_noise(points, 200, seed + 302)
        )
        albedo = np.sqrt(np.clip(to_linear(look.hair) * np.clip(streaks, 0.15, 1.3)[:, None], 0, 1))
        hair = np.concatenate([albedo, np.full((len(albedo), 1), 0.25)], 1).reshape(
            size // 4, size // 2, 4
        )
        tiles = np.concatenate([skin, np.round(255 * hair).astype(np.uint8)])
        return np.concatenate([head, np.concatenate([cloth, tiles], 1)])

    def _build_occlusion(self) -> None:
        """Open sky per vertex, with the mouth shut and with it wide open."""
        state = self.model.neutral_state()
        self._open_shut = _open_sky(self._surface_vertices(state), self._surface)
        wide = state.expression.clone()
        if "jawOpen" in self.model.expression_names:
            wide[self.model.expression_names.index("jawOpen")] = 1.0
        wide_state = dataclasses.replace(state, expression=wide)
        self._open_wide = _open_sky(self._surface_vertices(wide_state), self._surface)
        # Teeth and tongue pass light on to one another.
        inner = {"teeth_upper": 0.38, "teeth_lower": 0.34, "tongue": 0.32, "mouth_cavity": 0.10}
        self._least_open = np.zeros(len(self._open_shut))
        of_part = np.array([inner.get(name, 0.0) for name in self.model.part_names])
        self._least_open[: len(self.model.template)] = of_part[self.model.vertex_part.numpy()]

    # ---- what moves

    def _surface_vertices(self, state: HeadState) -> np.ndarray:
        """Head, neck, trunk and cap of hair in the world, [V, 3]."""
        T_world_head = state.T_world_head.double().numpy()
        T_world_body = state.T_world_body.double().numpy()
        T_body_head = invert_transform(state.T_world_body.double()).numpy() @ T_world_head
        head = self.shaped.posed(state).vertices.numpy().astype(np.float64)
        border = head[self.torso.border] @ T_body_head[:3, :3].T + T_body_head[:3, 3]
        neck = self.torso.neck(border, T_body_head[:3, :3] @ _DOWN)
        of_head, of_body = (head, self.hair.cap), (neck, self.torso.trunk)
        head, cap = (points @ T_world_head[:3, :3].T + T_world_head[:3, 3] for points in of_head)
        neck, trunk = (points @ T_world_body[:3, :3].T + T_world_body[:3, 3] for points in of_body)
        return np.concatenate([head, neck, trunk, cap])

    def _occlusion(self, state: HeadState) -> np.ndarray:
        names = self.model.expression_names
        jaw = float(state.expression[names.index("jawOpen")]) if "jawOpen" in names else 0.0
        surface = self._open_shut + np.clip(jaw, 0, 1) * (self._open_wide - self._open_shut)
        surface = np.maximum(surface, self._least_open)
        head = self.shaped.posed(state).vertices.numpy()
        for joint, index in enumerate(self.model.joint_vertices):
            # The lids' shade on the eyeball stays where the lids are, however the eye turns.
            arms = head[index.numpy()] - self.shaped.joint_centers[joint].numpy()
            above = np.clip((arms[:, 1] + 0.002) / 0.011, 0, 1)
            surface[index.numpy()] = (
                0.92 - 0.62 * above - 0.25 * np.clip((np.abs(arms[:, 0]) - 0.006) / 0.008, 0, 1)
            )
        lashes = np.full(len(self.lashes.shares) * self._widths.shape[1] * 2, 0.5)
        return np.concatenate([surface, np.repeat(self.hair.occlusion.ravel(), 2), lashes]).astype(
            np.float32
        )

    @cached_property
    def _encode(self) -> np.ndarray:
        linear = np.linspace(0, 1, _ENCODE_STEPS) ** 2
        return np.where(
            linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055
        ).astype(np.float32)

    def render(self, state: HeadState, camera: Camera) -> tuple[np.ndarray, np.ndarray]:
        """One state seen by one camera (no batches): rgb [H, W, 3] premultiplied sRGB and alpha [H,
        W], float32.

        2 × 2 samples per pixel. The lamps stand still in the world.
        """
        from likeness.synthetic.shading import Lights, Surfaces, ribbons_kernel, shade_kernel

        T = camera.T_cam_world.double().numpy()
        K = camera.resized(2 * camera.width, 2 * camera.height).K.double().numpy()
        world = self._surface_vertices(state)
        surface = (world @ T[:3, :3].T + T[:3, 3]).astype(np.float32)
        T_cam_head = T @ state.T_world_head.double().numpy()
        head = self.shaped.posed(state).vertices.numpy()
        lashes = self.lashes.strands(
            head, self.shaped.joint_centers[:, 1].numpy(), self._widths.shape[1]
        )
        strands = (
            np.concatenate([self.hair.strands, lashes]) @ T_cam_head[:3, :3].T + T_cam_head[:3, 3]
        )
        ribbons = np.empty((self._widths.size * 2, 3), np.float32)
        tangents = np.empty_like(ribbons)
        ribbons_kernel(
            strands.astype(np.float32), self._widths, np.float32(0.7 / K[0, 0]), ribbons, tangents
        )
        vertices = np.concatenate([surface, ribbons])
        normals = np.concatenate([vertex_normals(surface, self._surface), tangents])
        raster = rasterize(vertices, self._faces, K, 2 * camera.width, 2 * camera.height)

        light = self.person.light
        lamp, fill = (_normalized(np.array(direction)) for direction in (light.lamp, light.fill))
        target = state.T_world_body.double().numpy() @ [0, -0.02, -0.05, 1]
        T_light_world, light_K, shadow = _shadow_map(world, self._surface, lamp, target[:3])
        surfaces = Surfaces(
            faces=self._faces,
            corner_uv=self._corner_uv,
            material=self._material,
            vertices=vertices,
            normals=normals,
            occlusion=self._occlusion(state),
            texture=self.texture,
            strand_colors=self._strand_colors,
            vertices_per_strand=2 * self._widths.shape[1],
        )
        lamp, fill, up = (T[:3, :3] @ v for v in (lamp, fill, np.array([0, -1.0, 0])))
        lights = Lights(
            lamp=lamp.astype(np.float32),
            fill=fill.astype(np.float32),
            up=up.astype(np.float32),
            strengths=np.array(light.strengths, np.float32),
            from_cam=(T_light_world @ np.linalg.inv(T)).astype(np.float32),
            K=light_K,
            shadow=shadow,
        )
        rgb = np.empty((camera.height, camera.width, 3), np.float32)
        alpha = np.empty((camera.height, camera.width), np.float32)
        shade_kernel(
            raster.face_index, raster.barycentrics, surfaces, lights, self._encode, rgb, alpha
        )
        return rgb, alpha

    def wall(self, width: int, height: int) -> np.ndarray:
        """The wall behind the person [height, width, 3] in [0, 1]: plaster with a soft gradient of
        light."""
        rows, columns = np.mgrid[:height, :width].astype(np.float32)
        rows, columns = rows * 512 / height, columns * 512 / width
        points = np.stack([columns.ravel(), rows.ravel(), 0 * rows.ravel()], 1)
        seed = self.person.seed
        plaster = 0.010 * octave_noise(points, 90, seed + 401) + 0.006 * lattice_noise(
            points, 5, seed + 402
        )
        lamp = self.person.light.lamp
        distance = np.hypot(columns - 256 - 300 * lamp[0], rows - 200)
        shade = 1.06 - 0.22 * np.clip(distance / 600, 0, 1) ** 1.5 + plaster.reshape(height, width)
        return np.clip(shade[..., None] * np.array(self.person.look.wall), 0, 1).astype(np.float32)


def _shadow_map(world: np.ndarray, faces: np.ndarray, lamp: np.ndarray, target: np.ndarray):
    """Depths [S, S] seen from the lamp, with its pose T_light_world [3, 4] and (focal length,
    centre) in pixels."""
    T = _look_along(-lamp, target)
    T[:3, 3] += [0, 0, _LAMP_DISTANCE]
    focal = _SHADOW_SIZE * _LAMP_DISTANCE / _SHADOW_WIDTH
    K = np.array([[focal, 0, _SHADOW_SIZE / 2], [0, focal, _SHADOW_SIZE / 2], [0, 0, 1]])
    seen = rasterize(world @ T[:3, :3].T + T[:3, 3], faces, K, _SHADOW_SIZE, _SHADOW_SIZE)
    return T, np.array([focal, _SHADOW_SIZE / 2], np.float32), seen.depth


def _look_along(forward: np.ndarray, target: np.ndarray) -> np.ndarray:
    """[4, 4] from the world to a camera in ``target`` that looks along ``forward``."""
    helper = np.array([0, 1.0, 0]) if abs(forward[1]) < 0.9 else np.array([1.0, 0, 0])
    right = _normalized(np.cross(helper, forward))
    rotation = np.stack([right, np.cross(forward, right), forward])
    T = np.eye(4)
    T[:3, :3], T[:3, 3] = rotation, -rotation @ target
    return T


def _open_sky(
    vertices: np.ndarray, faces: np.ndarray, directions: int = 56, size: int = 320
) -> np.ndarray:
    """Ambient occlusion: the cosine-weighted share [V] of directions in which a vertex sees nothing
    of the mesh."""
    normals = vertex_normals(vertices, faces).astype(np.float64)
    k = np.arange(directions) + 0.5
    height, angle = 1 - 2 * k / directions, k * np.pi * (1 + 5**0.5)
    radius = np.sqrt(1 - height**2)
    total, seen = np.full(len(vertices), 1e-9), np.zeros(len(vertices))
    lifted = vertices + 0.0015 * normals
    distance, width = 6.0, 0.62
    focal = size * distance / width
    K = np.array([[focal, 0, size / 2], [0, focal, size / 2], [0, 0, 1]])
    for direction in np.stack([radius * np.cos(angle), height, radius * np.sin(angle)], 1):
        weight = np.clip(normals @ direction, 0, None)
        T = _look_along(-direction, np.array([0, -0.04, -0.05]))
        T[:3, 3] += [0, 0, distance]
        depth = rasterize(vertices @ T[:3, :3].T + T[:3, 3], faces, K, size, size).depth
        local = lifted @ T[:3, :3].T + T[:3, 3]
        pixel = (local[:, :2] / local[:, 2:] * focal + size / 2).astype(np.int64)
        inside = ((pixel >= 0) & (pixel < size)).all(1)
        column, row = np.where(inside[:, None], pixel, 0).T
        total += weight
        seen += weight * (~inside | (local[:, 2] < depth[row, column] + 0.003))
    return np.clip(seen / total, 0, 1) * 0.97 + 0.03


def _into_tile(uv: np.ndarray, u: float, v: float, width: float, height: float) -> np.ndarray:
    """uv in [0, 1]² to a rectangle of the texture, kept a texel off its border."""
    return np.clip(uv, 0.004, 0.996) * [width, height] + [u, v]


def _normalized(v: np.ndarray) -> np.ndarray:
    return v / np.linalg.norm(v)
