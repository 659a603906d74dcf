"""The obvious renderer: per pixel, in float64, straight from the formulas. For tests and small
images only.

Every Gaussian is evaluated at every pixel (memory N x H x W), and PyTorch differentiates. The
semantics are those of gsplat 1.5.3's classic mode; the others are held to this one.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor

from likeness.ops import harmonics
from likeness.renderers import constants
from likeness.renderers.batches import check_batches, splat_as_colours
from likeness.renderers.output import RenderOutput, ScreenRequest, ScreenStats
from likeness.scene.camera import Camera
from likeness.scene.cloud import GaussianCloud
from likeness.scene.transforms import normalize_quats, quats_to_matrices, transform_points


class ReferenceRenderer:
    """Renders in float64 on the device of the inputs; outputs have the cloud's dtype."""

    name = "reference"

    def render(
        self,
        cloud: GaussianCloud,
        camera: Camera,
        *,
        depth: bool = False,
        screen: ScreenRequest = False,
    ) -> RenderOutput:
        """See ``renderers``."""
        batch = check_batches(cloud, camera)
        if not batch:
            return _render_one(cloud, camera, depth, screen)
        outputs = []
        for index in (
            torch.cartesian_prod(*[torch.arange(size) for size in batch])
            .reshape(-1, len(batch))
            .tolist()
        ):
            one_cloud = cloud[tuple(index)] if cloud.batch_shape else cloud
            one_camera = camera[tuple(index)] if camera.batch_shape else camera
            outputs.append(_render_one(one_cloud, one_camera, depth, screen))
        return _stacked(outputs, batch)

    def splat(self, cloud: GaussianCloud, camera: Camera, features: Tensor) -> Tensor:
        """See ``renderers``."""
        return splat_as_colours(self.render, cloud, camera, features)

    def warm_up(self, gradients: bool = True) -> None:
        """Nothing to prepare."""


def _stacked(outputs: list[RenderOutput], batch: tuple[int, ...]) -> RenderOutput:
    """The images of a batch as one; the parts' screen gradients are views of the whole's."""

    def stack(parts: list[Tensor]) -> Tensor:
        return torch.stack(parts).reshape(*batch, *parts[0].shape)

    screen, stats = None, [output.screen for output in outputs if output.screen is not None]
    depths = [output.depth for output in outputs if output.depth is not None]
    if stats:
        means2d = stack([part.means2d.detach() for part in stats]).requires_grad_()
        means2d.grad, absgrad = torch.zeros_like(means2d), None
        for part, own in zip(stats, means2d.grad.view(len(stats), -1, 2)):
            part.means2d.grad = own
        if stats[0].absgrad is not None:
            absgrad = torch.zeros_like(means2d)
            for part, own in zip(stats, absgrad.view(len(stats), -1, 2)):
                cast(Tensor, part.absgrad).data = own
        radii, visible = (
            stack([getattr(part, name) for part in stats]) for name in ("radii", "visible")
        )
        screen = ScreenStats(means2d, radii, visible, absgrad)
    return RenderOutput(
        stack([output.rgb for output in outputs]),
        stack([output.alpha for output in outputs]),
        stack(depths) if depths else None,
        screen,
    )


def _render_one(
    cloud: GaussianCloud, camera: Camera, depth: bool, screen: ScreenRequest
) -> RenderOutput:
    dtype = cloud.means.dtype
    cloud, camera = cloud.to(torch.float64), camera.to(torch.float64)
    means2d, covariances, z = project(cloud, camera)
    directions = torch.nn.functional.normalize(cloud.means - camera.center, dim=-1)
    colors = harmonics.evaluate(cloud.sh, directions)
    radii = _radii(means2d, covariances, cloud.opacities)
    drawn = (radii > 0).all(-1) & (z >= constants.NEAR) & (z <= constants.FAR)
    drawn &= (
        (means2d + radii > 0)
        & (means2d - radii < means2d.new_tensor([camera.width, camera.height]))
    ).all(-1)

    order = torch.argsort(z[drawn], stable=True)
    pick = drawn.nonzero()[:, 0][order]
    offsets = _pixels(camera).to(means2d) - means2d[pick][:, None, None, :]
    weights = _weights(offsets, covariances[pick], cloud.opacities[pick])
    rgb = torch.einsum("nhw,nc->hwc", weights, colors[pick])
    alpha = weights.sum(0)[..., None]
    expected = torch.einsum("nhw,n->hw", weights, z[pick])[..., None] / alpha.clamp_min(
        constants.EXPECTED_DEPTH_EPS
    )
    stats = None
    if screen:
        radii = torch.where(drawn, radii.amax(-1), 0)
        means2d = means2d.detach().to(dtype)
        absgrad = torch.zeros_like(means2d) if screen == "absolute" else None
        stats = ScreenStats(means2d.requires_grad_(), radii.to(dtype), drawn, absgrad)
        if offsets.requires_grad:
            offsets.register_hook(lambda gradient: _take_gradients(stats, pick, -gradient))
    return RenderOutput(
        rgb.to(dtype), alpha.to(dtype), expected.to(dtype) if depth else None, stats
    )


def project(cloud: GaussianCloud, camera: Camera) -> tuple[Tensor, Tensor, Tensor]:
    """Screen means [N, 2], covariances [N, 2, 2] (blurred by EPS2D) and depths [N] of an unbatched
    cloud."""
    fx, fy, cx, cy = camera.K[0, 0], camera.K[1, 1], camera.K[0, 2], camera.K[1, 2]
    size = camera.K.new_tensor([camera.width, camera.height])
    focal, center = torch.stack([fx, fy]), torch.stack([cx, cy])
    x, y, z = transform_points(camera.T_cam_world, cloud.means).unbind(-1)
    # behind the near plane nothing is drawn anyway
    safe_z = torch.where(z.abs() < constants.NEAR, constants.NEAR, z)
    slopes = torch.stack([x, y], -1) / safe_z[:, None]

    # EWA splatting: the projection is linearised at the mean, which is first brought near the
    # frustum.
    margin = constants.FRUSTUM_MARGIN * size / 2 / focal
    tx, ty = torch.clamp(slopes, -center / focal - margin, (size - center) / focal + margin).unbind(
        -1
    )
    zero = torch.zeros_like(z)
    row_x = torch.stack([fx / safe_z, zero, -fx * tx / safe_z], -1)
    row_y = torch.stack([zero, fy / safe_z, -fy * ty / safe_z], -1)
    jacobian = torch.stack([row_x, row_y], -2) @ camera.T_cam_world[:3, :3]
    axes = quats_to_matrices(normalize_quats(cloud.quats)) * cloud.scales[:, None, :]
    factor = jacobian @ axes
    blur = constants.EPS2D * torch.eye(2).to(factor)
    return slopes * focal + center, factor @ factor.transpose(-1, -2) + blur, z


def _radii(means2d: Tensor, covariances: Tensor, opacities: Tensor) -> Tensor:
    """[N, 2] whole pixels, half sizes of the box that holds all that reaches ALPHA_MIN; 0 where
    nothing does."""
    reach = (
        (2 * torch.log(opacities / constants.ALPHA_MIN))
        .clamp_min(0)
        .sqrt()
        .clamp_max(constants.MAX_EXTENT)
    )
    radii = torch.ceil(reach[:, None] * covariances.diagonal(dim1=-2, dim2=-1).sqrt()).detach()
    return torch.where(opacities[:, None] >= constants.ALPHA_MIN, radii, 0)


def _pixels(camera: Camera) -> Tensor:
    """[H, W, 2] pixel centres."""
    y, x = torch.meshgrid(
        torch.arange(camera.height) + 0.5, torch.arange(camera.width) + 0.5, indexing="ij"
    )
    return torch.stack([x, y], -1)


def _weights(offsets: Tensor, covariances: Tensor, opacities: Tensor) -> Tensor:
    """[N, H, W] share of each Gaussian (sorted from near to far) in each pixel, [N, H, W, 2] from
    its mean."""
    conics = torch.linalg.inv(covariances)
    exponents = -0.5 * torch.einsum("nhwi,nij,nhwj->nhw", offsets, conics, offsets)
    alphas = (opacities[:, None, None] * exponents.exp()).clamp_max(constants.ALPHA_MAX)
    alphas = torch.where(alphas >= constants.ALPHA_MIN, alphas, 0)
    after = torch.cumprod(1 - alphas, 0)
    before = torch.cat([torch.ones_like(after[:1]), after[:-1]])
    # The Gaussian that would leave no more than TRANSMITTANCE_MIN, and all behind it, are not
    # drawn.
    return torch.where(after > constants.TRANSMITTANCE_MIN, alphas * before, 0)


def _take_gradients(stats: ScreenStats, pick: Tensor, per_pixel: Tensor) -> None:
    """From the gradients [n, H, W, 2] of the drawn Gaussians at each pixel."""

    def total(values: Tensor) -> Tensor:
        own = values.sum((1, 2)).to(stats.means2d.dtype)
        return torch.zeros_like(stats.means2d).index_add(0, pick, own)

    stats.add_gradients(total(per_pixel), total(per_pixel.abs()))
