"""The renderer for CUDA: gsplat 1.5.3 through its public API, classic mode. The only file that
imports gsplat.

Colours are evaluated here, from ``Camera.center``: gsplat's ``rasterization`` inverts the pose
instead, whose gradient is another one off the manifold of rigid transforms, and which makes the
host wait. One wait remains in every image, for the number of tiles that Gaussians meet, which
decides how long gsplat's lists are.
"""

from __future__ import annotations

import logging
import weakref

import torch
from torch import Tensor

from likeness.renderers import constants, cuda_toolchain
from likeness.renderers.batches import check_batches
from likeness.renderers.output import RenderOutput, ScreenRequest, ScreenStats
from likeness.scene.camera import Camera
from likeness.scene.cloud import GaussianCloud
from likeness.scene.errors import UserError

log = logging.getLogger(__name__)


class GsplatRenderer:
    """Renders float32 clouds on a CUDA device; see ``renderers`` for the contract.

    gsplat compiles its CUDA code when it is first used (about a minute, then kept): ``warm_up()``
    does it, or the first image; either raises UserError where it cannot. Raises UserError where
    CUDA or gsplat is missing.
    """

    name = "gsplat"
    _compiled = False  # of the process, not of one renderer

    def __init__(self) -> None:
        if not torch.cuda.is_available():
            raise UserError(
                "renderer 'gsplat': no CUDA device was found; choose --device cpu (or auto)"
            )
        try:
            import gsplat
        except ImportError as error:
            raise UserError(
                f"renderer 'gsplat': the package gsplat cannot be imported ({error}); "
                "install gsplat==1.5.3"
            ) from None
        self._gsplat = gsplat

    def render(
        self,
        cloud: GaussianCloud,
        camera: Camera,
        *,
        depth: bool = False,
        screen: ScreenRequest = False,
    ) -> RenderOutput:
        """Renders a cloud; a batch is one call."""
        batch = check_batches(cloud, camera)
        _check_inputs(cloud, camera)
        if cloud.num_gaussians == 0:
            return _empty(cloud, camera, batch, depth, screen)
        self._compile()
        # gsplat's shapes: clouds [*g, N, ...] and cameras [*g, C, ...]. A shared cloud takes the
        # cameras as C; a batch of clouds is g, with one camera each.
        if cloud.batch_shape:
            K = camera.K.expand(*batch, 3, 3)[..., None, :, :]
            pose = camera.T_cam_world.expand(*batch, 4, 4)[..., None, :, :]
        else:
            K, pose = camera.K.reshape(-1, 3, 3), camera.T_cam_world.reshape(-1, 4, 4)
        cameras = Camera(K, pose, camera.width, camera.height)
        images, alpha, meta = self._rasterize(
            cloud, cameras, self._colours(cloud, cameras), depth, absgrad=screen == "absolute"
        )
        images = images.reshape(*batch, camera.height, camera.width, images.shape[-1])
        return RenderOutput(
            images[..., :3],
            alpha.reshape(*batch, camera.height, camera.width, 1),
            images[..., 3:] if depth else None,
            _screen_stats(meta, batch, screen == "absolute") if screen else None,
        )

    def splat(self, cloud: GaussianCloud, camera: Camera, features: Tensor) -> Tensor:
        """See ``renderers``: gsplat blends up to 32 features in one pass."""
        _check_inputs(cloud, camera)
        if cloud.num_gaussians == 0:
            return features.new_zeros(camera.height, camera.width, features.shape[-1])
        self._compile()
        cameras = Camera(camera.K[None], camera.T_cam_world[None], camera.width, camera.height)
        return self._rasterize(cloud, cameras, features, depth=False, absgrad=False)[0][0]

    def _colours(self, cloud: GaussianCloud, cameras: Camera) -> Tensor:
        """[*g, C, N, 3] of clouds [*g] seen by cameras [*g, C]."""
        directions = cloud.means[..., None, :, :] - cameras.center[..., None, :]
        coefficients = cloud.sh[..., None, :, :, :].expand(
            *directions.shape[:-1], *cloud.sh.shape[-2:]
        )
        degree = round(cloud.sh.shape[-2] ** 0.5) - 1
        return (self._gsplat.spherical_harmonics(degree, directions, coefficients) + 0.5).clamp_min(
            0.0
        )

    def _rasterize(
        self, cloud: GaussianCloud, cameras: Camera, colours: Tensor, depth: bool, absgrad: bool
    ) -> tuple[Tensor, Tensor, dict]:
        return self._gsplat.rasterization(
            means=cloud.means,
            quats=cloud.quats,
            scales=cloud.scales,
            opacities=cloud.opacities,
            colors=colours,
            viewmats=cameras.T_cam_world,
            Ks=cameras.K,
            width=cameras.width,
            height=cameras.height,
            near_plane=constants.NEAR,
            far_plane=constants.FAR,
            eps2d=constants.EPS2D,
            sh_degree=None,
            packed=False,
            render_mode="RGB+ED" if depth else "RGB",
            absgrad=absgrad,
            rasterize_mode="classic",
        )

    def warm_up(self, gradients: bool = True) -> None:
        """Has gsplat compile its CUDA code, or load it, with that for gradients in any case."""
        del gradients
        self._compile()

    def _compile(self) -> None:
        if self._compiled:
            return
        one = torch.ones(1, 3, device="cuda")
        with cuda_toolchain.building("gsplat", "renderer 'gsplat'"):
            # whatever of it is called first compiles all
            self._gsplat.spherical_harmonics(0, one, one[:, None])
        GsplatRenderer._compiled = True


def _check_inputs(cloud: GaussianCloud, camera: Camera) -> None:
    for name, tensor in {
        **cloud.fields(),
        "K": camera.K,
        "T_cam_world": camera.T_cam_world,
    }.items():
        if tensor.dtype != torch.float32 or tensor.device.type != "cuda":
            raise ValueError(
                f"GsplatRenderer: expected float32 on CUDA, got {name} as {tensor.dtype} on "
                f"{tensor.device}"
            )


def _screen_stats(meta: dict, batch: tuple[int, ...], absolute: bool) -> ScreenStats:
    """gsplat's facts [*g, C, N, ...] in our shapes [*b, N, ...]; gsplat leaves those of the not
    drawn undefined."""
    source: Tensor = meta["means2d"]
    count = source.shape[-2]
    radii = meta["radii"].reshape(*batch, count, 2)
    visible = (radii > 0).all(-1)
    means2d = torch.where(
        visible[..., None], source.detach().reshape(*batch, count, 2), 0.0
    ).requires_grad_()
    # gsplat puts its ``absgrad``, where it was asked for, on its own tensor, which nothing else
    # keeps alive; and a hook that held either strongly would keep the graph of every step for ever.
    largest = torch.where(visible, radii.amax(-1), 0).to(means2d.dtype)
    zeros = torch.zeros_like(means2d) if absolute else None
    stats = ScreenStats(means2d, largest, visible, zeros, source)
    if source.requires_grad:
        held = weakref.ref(stats)

        def take_gradients(gradient: Tensor) -> None:
            ours = held()
            if ours is None:  # the caller has dropped the statistics
                return
            shape, own = ours.means2d.shape, getattr(ours.source, "absgrad", None)
            own = None if own is None else own.detach().reshape(shape)
            ours.add_gradients(gradient.detach().reshape(shape), own)

        source.register_hook(take_gradients)
    return stats


def _empty(
    cloud: GaussianCloud, camera: Camera, batch: tuple[int, ...], depth: bool, screen: ScreenRequest
) -> RenderOutput:
    """The image of no Gaussians, which gsplat's kernels do not take; zeros that still hang on the
    cloud's graph."""
    anchor = sum(tensor.sum() for tensor in cloud.fields().values()) + 0 * camera.T_cam_world.sum()
    zeros = anchor + cloud.means.new_zeros(*batch, camera.height, camera.width, 1)
    stats = None
    if screen:
        means2d = cloud.means.new_zeros(*batch, 0, 2).requires_grad_()
        radii = means2d.detach()[..., 0]
        absgrad = torch.zeros_like(means2d) if screen == "absolute" else None
        stats = ScreenStats(means2d, radii, radii.bool(), absgrad)
    return RenderOutput(zeros.expand(*zeros.shape[:-1], 3), zeros, zeros if depth else None, stats)
