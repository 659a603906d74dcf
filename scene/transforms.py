"""Rotations and rigid transforms on tensors with leading batch dimensions. Quaternions are wxyz."""

# torch.linalg is untyped:
# pyright: reportUnknownMemberType=false
# pyright: reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false
from __future__ import annotations

import torch
from torch import Tensor


def normalize_quats(quats: Tensor) -> Tensor:
    """Unit quaternions [*b, 4] from any non-zero ones."""
    return torch.nn.functional.normalize(quats, dim=-1)


def multiply_quats(a: Tensor, b: Tensor) -> Tensor:
    """Hamilton product a∘b [*b, 4]: the rotation b followed by a."""
    aw, ax, ay, az = a.unbind(-1)
    bw, bx, by, bz = b.unbind(-1)
    return torch.stack(
        [
            aw * bw - ax * bx - ay * by - az * bz,
            aw * bx + ax * bw + ay * bz - az * by,
            aw * by - ax * bz + ay * bw + az * bx,
            aw * bz + ax * by - ay * bx + az * bw,
        ],
        dim=-1,
    )


def conjugate_quats(quats: Tensor) -> Tensor:
    """The inverse rotations of unit quaternions [*b, 4]."""
    return torch.cat([quats[..., :1], -quats[..., 1:]], -1)


def quats_to_matrices(quats: Tensor) -> Tensor:
    """Rotation matrices [*b, 3, 3] of unit quaternions [*b, 4]."""
    w, x, y, z = quats.unbind(-1)
    rows = [
        1 - 2 * (y * y + z * z),
        2 * (x * y - w * z),
        2 * (x * z + w * y),
        2 * (x * y + w * z),
        1 - 2 * (x * x + z * z),
        2 * (y * z - w * x),
        2 * (x * z - w * y),
        2 * (y * z + w * x),
        1 - 2 * (x * x + y * y),
    ]
    return torch.stack(rows, dim=-1).reshape(*quats.shape[:-1], 3, 3)


def matrices_to_quats(matrices: Tensor) -> Tensor:
    """Unit quaternions [*b, 4] with w >= 0 of rotation matrices [*b, 3, 3], stable for every
    angle."""
    m = matrices
    t = torch.stack(
        [
            1 + m[..., 0, 0] + m[..., 1, 1] + m[..., 2, 2],
            1 + m[..., 0, 0] - m[..., 1, 1] - m[..., 2, 2],
            1 - m[..., 0, 0] + m[..., 1, 1] - m[..., 2, 2],
            1 - m[..., 0, 0] - m[..., 1, 1] + m[..., 2, 2],
        ],
        dim=-1,
    )
    a = m[..., 2, 1] - m[..., 1, 2]
    b = m[..., 0, 2] - m[..., 2, 0]
    c = m[..., 1, 0] - m[..., 0, 1]
    d = m[..., 1, 0] + m[..., 0, 1]
    e = m[..., 0, 2] + m[..., 2, 0]
    f = m[..., 2, 1] + m[..., 1, 2]
    # Row k is 4 q_k q: four scaled copies of the same quaternion; the largest t gives the best
    # conditioned one.
    candidates = torch.stack(
        [
            torch.stack([t[..., 0], a, b, c], -1),
            torch.stack([a, t[..., 1], d, e], -1),
            torch.stack([b, d, t[..., 2], f], -1),
            torch.stack([c, e, f, t[..., 3]], -1),
        ],
        dim=-2,
    )
    best = t.argmax(-1)[..., None, None].expand(*t.shape[:-1], 1, 4)
    quats = normalize_quats(candidates.gather(-2, best).squeeze(-2))
    return torch.where(quats[..., :1] < 0, -quats, quats)


def skew(v: Tensor) -> Tensor:
    """Cross-product matrices [*b, 3, 3] of vectors [*b, 3]."""
    # rows i: e_i x v
    identity = torch.eye(3, dtype=v.dtype, device=v.device)
    return torch.linalg.cross(identity.expand(*v.shape, 3), v[..., None, :], dim=-1)


def rotvecs_to_quats(rotvecs: Tensor) -> Tensor:
    """Unit quaternions [*b, 4] of rotation vectors [*b, 3] (radians); differentiable at zero."""
    half_sq = (rotvecs * rotvecs).sum(-1, keepdim=True) / 4
    half = half_sq.clamp_min(1e-12).sqrt()
    sinc = torch.where(half_sq < 1e-6, 1 - half_sq / 6, half.sin() / half)
    cos = torch.where(half_sq < 1e-6, 1 - half_sq / 2, half.cos())
    return normalize_quats(torch.cat([cos, rotvecs / 2 * sinc], -1))


def rotvecs_to_matrices(rotvecs: Tensor) -> Tensor:
    """Rotation matrices [*b, 3, 3] of rotation vectors [*b, 3] (radians), by Rodrigues' formula;
    differentiable at zero."""
    half = torch.linalg.vector_norm(rotvecs, dim=-1)[..., None, None].clamp_min(1e-6) / 2
    cross = skew(rotvecs) * (half.sin() / half)
    identity = torch.eye(3, dtype=rotvecs.dtype, device=rotvecs.device)
    return identity + half.cos() * cross + cross @ cross / 2


def quats_to_rotvecs(quats: Tensor) -> Tensor:
    """Rotation vectors [*b, 3] (radians, length at most pi) of unit quaternions [*b, 4];
    differentiable at identity."""
    quats = torch.where(quats[..., :1] < 0, -quats, quats)
    sin_sq = (quats[..., 1:] ** 2).sum(-1, keepdim=True)
    sin = sin_sq.clamp_min(1e-14).sqrt()
    angle = 2 * torch.atan2(sin, quats[..., :1])
    factor = torch.where(sin_sq < 1e-8, torch.full_like(sin, 2.0), angle / sin)
    return quats[..., 1:] * factor


def matrices_to_rotvecs(matrices: Tensor) -> Tensor:
    """Rotation vectors [*b, 3] (radians) of rotation matrices [*b, 3, 3]."""
    return quats_to_rotvecs(matrices_to_quats(matrices))


def rotation_angles(matrices: Tensor) -> Tensor:
    """Angles [*b] in radians of rotation matrices [*b, 3, 3]."""
    return torch.linalg.vector_norm(matrices_to_rotvecs(matrices), dim=-1)


def make_transform(rotation: Tensor, translation: Tensor) -> Tensor:
    """Rigid transforms [*b, 4, 4] from rotation matrices [*b, 3, 3] and translations [*b, 3]."""
    top = torch.cat([rotation, translation[..., None]], -1)
    # Filled on the device: numbers copied to a GPU would make it wait.
    bottom = torch.cat([rotation.new_zeros(3), rotation.new_ones(1)]).expand(
        *rotation.shape[:-2], 1, 4
    )
    return torch.cat([top, bottom], -2)


def invert_transform(transform: Tensor) -> Tensor:
    """Inverses of rigid transforms [*b, 4, 4]: ``T_b_a`` from ``T_a_b``."""
    rotation = transform[..., :3, :3].transpose(-1, -2)
    return make_transform(rotation, -(rotation @ transform[..., :3, 3:])[..., 0])


def transform_points(transform: Tensor, points: Tensor) -> Tensor:
    """Points [*b, N, 3] moved by rigid transforms [*b, 4, 4]."""
    return points @ transform[..., :3, :3].transpose(-1, -2) + transform[..., None, :3, 3]


def mean_transform(transforms: Tensor) -> Tensor:
    """The mean rigid transform [4, 4] of [T, 4, 4]: the chordal mean of rotations, the mean of
    translations."""
    svd: tuple[Tensor, ...] = torch.linalg.svd(transforms[:, :3, :3].double().mean(0))
    u, _, vt = svd
    sign = torch.ones_like(u[0])
    sign[2] = (u @ vt).det()
    rotation = (u * sign) @ vt
    return make_transform(rotation, transforms[:, :3, 3].double().mean(0)).to(transforms.dtype)


def mean_quats(quats: Tensor) -> Tensor:
    """Mean rotations [J, 4] of [T, J, 4]: the principal directions, so that signs do not matter."""
    outer = torch.einsum("tja,tjb->jab", quats.double(), quats.double())
    eigen: tuple[Tensor, ...] = torch.linalg.eigh(outer)
    mean = eigen[1][..., -1]
    return torch.where(mean[:, :1] < 0, -mean, mean).to(quats.dtype)
