"""The renderer for CUDA: gsplat 1.5.3 through its public API, classic mode. The only file that imports gsplat."""

from __future__ import annotations

import logging
import weakref

import torch
from torch import Tensor

from renderers import constants
from renderers.batches import add_screen_gradients, check_batches
from renderers.output import RenderOutput, ScreenStats
from scene.camera import Camera
from scene.cloud import GaussianCloud
from scene.errors import UserError

log = logging.getLogger(__name__)


class GsplatRenderer:
    """Renders float32 clouds on a CUDA device; see ``renderers`` for the contract.

    gsplat compiles its CUDA code when it is first used (about a minute, then kept): ``warm_up()`` does it.
    Raises UserError where CUDA or gsplat is missing.
    """

    name = "gsplat"

    def __init__(self) -> None:
        if not torch.cuda.is_available():
            raise UserError("renderer 'gsplat': no CUDA device was found; choose --device cpu (or auto)")
        try:
            import gsplat
        except ImportError as error:
            raise UserError(
                f"renderer 'gsplat': the package gsplat cannot be imported ({error}); install gsplat==1.5.3"
            ) from None
        self._rasterization = gsplat.rasterization

    def render(
        self, cloud: GaussianCloud, camera: Camera, *, depth: bool = False, screen: bool = False
    ) -> RenderOutput:
        """Renders a cloud; a batch is one call."""
        batch = check_batches(cloud, camera)
        _check_inputs(cloud, camera)
        if cloud.num_gaussians == 0:
            return _empty(cloud, camera, batch, depth, screen)

        # gsplat's shapes: clouds [*g, N, ...] and cameras [*g, C, ...]. A shared cloud takes the cameras as C; a batch
        # of clouds is g, with one camera each.
        if cloud.batch_shape:
            K = camera.K.expand(*batch, 3, 3)[..., None, :, :]
            pose = camera.T_cam_world.expand(*batch, 4, 4)[..., None, :, :]
        else:
            K, pose = camera.K.reshape(-1, 3, 3), camera.T_cam_world.reshape(-1, 4, 4)
        images, alpha, meta = self._rasterization(
            means=cloud.means,
            quats=cloud.quats,
            scales=cloud.scales,
            opacities=cloud.opacities,
            colors=cloud.sh,
            viewmats=pose,
            Ks=K,
            width=camera.width,
            height=camera.height,
            near_plane=constants.NEAR,
            far_plane=constants.FAR,
            eps2d=constants.EPS2D,
            sh_degree=round(cloud.sh.shape[-2] ** 0.5) - 1,
            packed=False,
            render_mode="RGB+ED" if depth else "RGB",
            absgrad=screen,
            rasterize_mode="classic",
        )
        images = images.reshape(*batch, camera.height, camera.width, images.shape[-1])
        return RenderOutput(
            images[..., :3],
            alpha.reshape(*batch, camera.height, camera.width, 1),
            images[..., 3:] if depth else None,
            _screen_stats(meta, batch) if screen else None,
        )

    def warm_up(self) -> None:
        """Has gsplat compile its CUDA code, or load it. Raises UserError where it cannot."""
        log.info("preparing gsplat's CUDA code (compiled once, about a minute)")
        ones = torch.ones(1, 4, device="cuda")
        cloud = GaussianCloud(ones[:, :3], ones, ones[:, :3] * 0.1, ones[:, 0] * 0.5, ones[:, None, :3])
        try:
            self.render(cloud, Camera.from_fov(1.0, 16, 16).to("cuda"))
        except (AttributeError, ImportError, RuntimeError) as error:
            reason = (str(error).strip() or repr(error)).splitlines()[0]
            raise UserError(
                f"renderer 'gsplat': its CUDA code cannot be compiled or run ({reason}); "
                "install a CUDA toolkit with nvcc that fits PyTorch's, or choose --device cpu"
            ) from error


def _check_inputs(cloud: GaussianCloud, camera: Camera) -> None:
    for name, tensor in {**cloud.fields(), "K": camera.K, "T_cam_world": camera.T_cam_world}.items():
        if tensor.dtype != torch.float32 or tensor.device.type != "cuda":
            raise ValueError(
                f"GsplatRenderer: expected float32 on CUDA, got {name} as {tensor.dtype} on {tensor.device}"
            )


def _screen_stats(meta: dict, batch: tuple[int, ...]) -> ScreenStats:
    """gsplat's facts [*g, C, N, ...] in our shapes [*b, N, ...]; gsplat leaves those of the not drawn undefined."""
    source: Tensor = meta["means2d"]
    count = source.shape[-2]
    radii = meta["radii"].reshape(*batch, count, 2)
    visible = (radii > 0).all(-1)
    means2d = torch.where(visible[..., None], source.detach().reshape(*batch, count, 2), 0.0).requires_grad_()
    if source.requires_grad:
        # gsplat puts ``absgrad`` on its own tensor, which nothing else keeps alive; and a hook that held either tensor
        # strongly would keep the graph of every step for ever.
        means2d.source = source
        held = weakref.ref(means2d)

        def copy_gradients(gradient: Tensor) -> None:
            ours = held()
            if ours is None:  # the caller has dropped the statistics
                return
            grad, absgrad = (g.detach().reshape(ours.shape).clone() for g in (gradient, ours.source.absgrad))
            add_screen_gradients(ours, grad=grad, absgrad=absgrad)

        source.register_hook(copy_gradients)
    return ScreenStats(means2d, torch.where(visible, radii.amax(-1), 0).to(means2d.dtype), visible)


def _empty(cloud: GaussianCloud, camera: Camera, batch: tuple[int, ...], depth: bool, screen: bool) -> RenderOutput:
    """The picture of no Gaussians, which gsplat's kernels do not take; zeros that still hang on the cloud's graph."""
    anchor = sum(tensor.sum() for tensor in cloud.fields().values()) + 0 * camera.T_cam_world.sum()
    zeros = anchor + cloud.means.new_zeros(*batch, camera.height, camera.width, 1)
    stats = None
    if screen:
        means2d = cloud.means.new_zeros(*batch, 0, 2).requires_grad_()
        stats = ScreenStats(means2d, means2d.detach()[..., 0], torch.zeros_like(means2d[..., 0], dtype=torch.bool))
    return RenderOutput(zeros.expand(*zeros.shape[:-1], 3), zeros, zeros if depth else None, stats)
