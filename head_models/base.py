"""The stages of a head model: HeadModel (anybody) -> ShapedHead (one person) -> HeadMesh (one
moment).

All lengths are metres in the head frame: +x to the subject's left, +y up, +z out of the face. The
origin lies midway between the eyeball centres of the template and stays there whoever is shaped and
whatever the face does. That point is a little in front of the axis about which a head nods, well
seen in every frame, and the same for every head model.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from functools import cached_property

import torch
from torch import Tensor

from likeness.head_models.landmarks import CHIN
from likeness.head_models.lids import LidClosure, lid_closure
from likeness.head_models.sampling import face_normals, interpolate
from likeness.scene.capture import Identity
from likeness.scene.checks import check_shape
from likeness.scene.errors import UserError
from likeness.scene.expression_caps import capped
from likeness.scene.gaze import EYES, GAZE_EXACT_RAD, GAZE_FULL_RAD, eye_look_axes
from likeness.scene.head_state import HeadState
from likeness.scene.records import TensorRecord
from likeness.scene.transforms import normalize_quats, quats_to_matrices, rotvecs_to_matrices

_NECK_BLEND_M = 0.012


@dataclasses.dataclass(frozen=True)
class HeadModel(TensorRecord):
    """A linear head model with rigid eyeballs. V vertices, F triangles, E expressions, I identity
    components, J joints.

    template: [V, 3] the mean person's neutral face.
    faces: [F, 3] long, counter-clockwise seen from outside.
    part_names: what the entries of ``vertex_part`` [V] and ``face_part`` [F] mean (long). A vertex
        on the border of two parts belongs to the first of them.
    uvs: [U, 2] texture coordinates in [0, 1], u to the right and v UP (OpenGL; the image row is (1
        - v) * height), the islands disjoint; uv_faces: [F, 3] long, their indices per corner of
        ``faces``.
    mirror: [V] long, the vertex at the mirrored place (x -> -x); an involution.
    expression_basis: [E, V, 3] displacement at coefficient 1. Shapes of gaze move the lids, never
        the eyeballs.
    identity_basis: [I, V, 3] displacement per unit; coefficients of a population have unit
        variance.
    landmark_faces, landmark_barycentrics: [L] long, [L, 3] where the landmark detector's points lie
        on the mesh;
        landmark_mirror: [L] long, the landmark on the other side of the face.
    joint_vertices: per joint the vertices (long) that turn with it; their mean is the joint's
        centre.
    caps: pairs (a, b) of expressions: a acts at most as strongly as b. (A shape that undoes a part
        of another.)
    """

    name: str
    expression_names: tuple[str, ...]
    joint_names: tuple[str, ...]
    part_names: tuple[str, ...]
    template: Tensor
    faces: Tensor
    vertex_part: Tensor
    face_part: Tensor
    uvs: Tensor
    uv_faces: Tensor
    mirror: Tensor
    expression_basis: Tensor
    identity_basis: Tensor
    landmark_faces: Tensor
    landmark_barycentrics: Tensor
    landmark_mirror: Tensor
    joint_vertices: tuple[Tensor, ...]
    caps: tuple[tuple[str, str], ...] = ()

    def __post_init__(self) -> None:
        vertices, faces, landmarks = len(self.template), len(self.faces), len(self.landmark_faces)
        shapes = {
            "template": (vertices, 3),
            "faces": (faces, 3),
            "vertex_part": (vertices,),
            "face_part": (faces,),
            "uvs": ("U", 2),
            "uv_faces": (faces, 3),
            "mirror": (vertices,),
            "expression_basis": (len(self.expression_names), vertices, 3),
            "identity_basis": ("I", vertices, 3),
            "landmark_faces": (landmarks,),
            "landmark_barycentrics": (landmarks, 3),
            "landmark_mirror": (landmarks,),
        }
        for field, shape in shapes.items():
            value = getattr(self, field)
            if check_shape("HeadModel", field, value, shape):
                raise ValueError(
                    f"HeadModel.{field}: expected no batch dimensions, got {list(value.shape)}"
                )
        if len(self.joint_vertices) != len(self.joint_names):
            raise ValueError(f"HeadModel.joint_vertices: expected one per joint {self.joint_names}")
        unknown = {name for cap in self.caps for name in cap} - set(self.expression_names)
        if unknown:
            raise ValueError(
                f"HeadModel.caps: expected names of expressions, got {sorted(unknown)}"
            )

    def to(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> HeadModel:
        """The model on another device; ``dtype`` is for the floating-point tensors only."""

        def moved(value: Tensor) -> Tensor:
            return value.to(device=device, dtype=dtype if value.is_floating_point() else None)

        joints = tuple(moved(vertices) for vertices in self.joint_vertices)
        return dataclasses.replace(self.map(moved), joint_vertices=joints)

    @property
    def num_identity(self) -> int:
        return len(self.identity_basis)

    @cached_property
    def landmark_triangles(self) -> Tensor:
        """[L, 3] long: the vertices around each landmark."""
        return self.faces[self.landmark_faces]

    @cached_property
    def skin_faces(self) -> Tensor:
        """[F', 3] long: the faces of the part "skin"."""
        return self.part_faces("skin")

    def part_faces(self, *parts: str) -> Tensor:
        """[F', 3] long: the faces of the named parts. Raises ValueError for a part that the model
        has not."""
        unknown = set(parts) - set(self.part_names)
        if unknown:
            raise ValueError(
                f"part_faces: head model {self.name} has no {sorted(unknown)}; it has "
                f"{self.part_names}"
            )
        numbers = torch.tensor(
            [self.part_names.index(part) for part in parts], device=self.faces.device
        )
        return self.faces[torch.isin(self.face_part, numbers)]

    def values_by_part(self, values: Mapping[str, float], other: float) -> Tensor:
        """[F] a value for every face by the name of its part; ``other`` for those not named."""
        per_part = torch.tensor([values.get(name, other) for name in self.part_names])
        return per_part[self.face_part]

    @cached_property
    def lid_closure(self) -> LidClosure:
        """How the blinks adapt to a person."""
        return lid_closure(
            self.expression_names, self.expression_basis, self.template, self.landmark_vertices
        )

    def landmark_vertices(self, field: Tensor) -> Tensor:
        """The landmarks' rows [*b, L, C] of a field over the vertices [*b, V, C]: positions, or any
        basis."""
        return interpolate(field, self.landmark_triangles, self.landmark_barycentrics)

    def joint_centers(self, vertices: Tensor) -> Tensor:
        """Centres of the joints [*b, J, 3] of undeformed heads [*b, V, 3]."""
        return torch.stack([vertices[..., index, :].mean(-2) for index in self.joint_vertices], -2)

    def capped(self, expression: Tensor) -> Tensor:
        """Coefficients [*b, E] as they act: with the ``caps`` applied. Differentiable almost
        everywhere."""
        return capped(expression, self.expression_names, self.caps)

    def neutral_identity(self) -> Identity:
        """The person of the template."""
        return Identity(self.template.new_zeros(self.num_identity), torch.zeros_like(self.template))

    def neutral_state(self) -> HeadState:
        """The expressionless state with the head frame in the origin of the world."""
        state = HeadState.neutral(len(self.expression_names), len(self.joint_names))
        return state.to(self.template)

    def shaped(self, identity: Identity) -> ShapedHead:
        """The head of one person (or of several: leading batch dimensions). Differentiable."""
        try:
            check_shape("Identity", "coefficients", identity.coefficients, (self.num_identity,))
            check_shape("Identity", "offsets", identity.offsets, (len(self.template), 3))
        except ValueError as error:  # of a file: programs make identities by the model
            raise UserError(
                f"{error} of the head model {self.name}; preprocess the video again"
            ) from None
        shape = (identity.coefficients @ self.identity_basis.flatten(1)).unflatten(-1, (-1, 3))
        vertices = self.template + shape + identity.offsets
        return ShapedHead(self, vertices, self.joint_centers(vertices))


@dataclasses.dataclass(frozen=True)
class ShapedHead:
    """One person's neutral head.

    vertices: [*b, V, 3]; joint_centers: [*b, J, 3].
    """

    model: HeadModel
    vertices: Tensor
    joint_centers: Tensor

    @cached_property
    def blink_changes(self) -> Tensor:
        """[*b, E', V, 3] metres by which this person's blinks differ from the model's (at
        ``model.lid_closure.rows``), so that they close."""
        model = self.model
        return model.lid_closure.of_person(model.landmark_vertices(self.vertices))

    @property
    def expression_basis(self) -> Tensor:
        """[E, V, 3] the model's with this person's blinks."""
        basis = self.model.expression_basis.clone()
        basis[list(self.model.lid_closure.rows)] += self.blink_changes
        return basis

    @property
    def chin(self) -> Tensor:
        """The tip of the chin [*b, 3]."""
        return HeadMesh(self.model, self.vertices).chin

    def head_weights(self, points: Tensor) -> Tensor:
        """How much points [N, 3] at rest belong to the head rather than to the body: 1 above the
        chin, 0 below the neck, soft between; [N]."""
        # The line from the chin to the nape rises backwards: what is far behind the chin is head a
        # little lower.
        return torch.sigmoid((points[:, 1] - (self.chin[1] - 0.03)) / _NECK_BLEND_M)

    def expression_shapes(self) -> Tensor:
        """[E, V, 3] metres at coefficient 1: ``expression_basis``, and eyeballs that rotate with
        the coefficients of gaze (which in the model itself move the lids alone) along chords: as
        they should at 0 and ``GAZE_EXACT_RAD``, within a millimetre of it up to ``GAZE_FULL_RAD``.
        What Gaussians are bound to."""
        model, shapes = self.model, self.expression_basis
        axes = torch.tensor([[0.0, 1.0, 0.0], [-1.0, 0.0, 0.0]])  # yaw to the left, pitch up
        for eye in EYES:
            if f"eye_{eye}" not in model.joint_names:
                continue
            joint = model.joint_names.index(f"eye_{eye}")
            vertices = model.joint_vertices[joint]
            arms = self.vertices[vertices] - self.joint_centers[joint]
            for name, (axis, sign) in eye_look_axes(eye).items():
                if name in model.expression_names:
                    rotation = rotvecs_to_matrices(sign * GAZE_EXACT_RAD * axes[axis].to(arms))
                    row = model.expression_names.index(name)
                    motion = arms @ rotation.transpose(-1, -2) - arms
                    shapes[row, vertices] += GAZE_FULL_RAD / GAZE_EXACT_RAD * motion
        return shapes

    def posed(self, state: HeadState) -> HeadMesh:
        """The head at the expressions and joint rotations of states [*b], IN THE HEAD FRAME.
        Differentiable.

        A joint turns its vertices about its centre: ``c + R (v - c)``. The caps of the model apply.
        """
        model = self.model
        check_shape("HeadState", "expression", state.expression, (len(model.expression_names),))
        check_shape("HeadState", "joints", state.joints, (len(model.joint_names), 4))
        expression = model.capped(state.expression)
        shape = (expression @ model.expression_basis.flatten(1)).unflatten(-1, (-1, 3))
        blinks = expression[..., list(model.lid_closure.rows)]
        shape = shape + torch.einsum("...e,...evd->...vd", blinks, self.blink_changes)
        vertices = self.vertices + shape
        rotations = quats_to_matrices(normalize_quats(state.joints))
        for joint, index in enumerate(model.joint_vertices):
            arms = vertices[..., index, :] - self.joint_centers[..., joint, None, :]
            turned = arms @ rotations[..., joint, :, :].transpose(-1, -2)
            vertices = vertices.index_add(-2, index, turned - arms)
        return HeadMesh(model, vertices)


@dataclasses.dataclass(frozen=True)
class HeadMesh:
    """Heads at moments, in the head frame. vertices: [*b, V, 3]."""

    model: HeadModel
    vertices: Tensor

    @property
    def faces(self) -> Tensor:
        """[F, 3] long."""
        return self.model.faces

    def landmarks(self) -> Tensor:
        """[*b, L, 3] the detector's points on the surface."""
        return self.model.landmark_vertices(self.vertices)

    @property
    def chin(self) -> Tensor:
        """The tip of the chin [*b, 3]."""
        return self.landmarks()[..., CHIN, :]

    def face_normals(self) -> Tensor:
        """[*b, F, 3], their length twice the area of the face."""
        return face_normals(self.vertices, self.faces)

    def normals(self) -> Tensor:
        """[*b, V, 3] unit normals of the vertices (the faces around them, weighted by area)."""
        per_face = self.face_normals()
        total = torch.zeros_like(self.vertices)
        for corner in range(3):
            total = total.index_add(-2, self.faces[:, corner], per_face)
        return torch.nn.functional.normalize(total, dim=-1)
