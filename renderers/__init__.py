"""Renderers: ``GaussianCloud`` and ``Camera`` to ``RenderOutput``, differentiable; they change
nothing they are given. ``RENDERERS`` lists them; ``mesh`` draws meshes for reports.

The contract of ``Renderer.render(cloud, camera, *, depth=False, screen=False)``, that of gsplat's
classic mode:

* The cloud lives in the camera's world. Gaussians are blended front to back by depth; see
  ``likeness.renderers.constants``.
* Colours are ``max(harmonics + 0.5, 0)`` along the direction from the camera's centre to the
  Gaussian. There is no background: colour is premultiplied, ``output.over(background)`` composites
  it.
* ``depth``: also the expected depth ``sum(w z) / alpha``, 0 where alpha is 0. ``screen``: also
  ``ScreenStats``, and with "absolute" these have ``absgrad``.
* Batches: camera and cloud each have the same batch dimensions or none.
* Gradients flow from colour, alpha and depth to all fields of the cloud and to
  ``camera.T_cam_world``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from torch import Tensor

from likeness.renderers.output import RenderOutput, ScreenRequest, ScreenStats
from likeness.scene.camera import Camera
from likeness.scene.cloud import GaussianCloud
from likeness.scene.errors import UserError

__all__ = ["RENDERERS", "RenderOutput", "Renderer", "ScreenRequest", "ScreenStats", "create"]


class Renderer(Protocol):
    """What every variant offers."""

    name: str

    def render(
        self,
        cloud: GaussianCloud,
        camera: Camera,
        *,
        depth: bool = False,
        screen: ScreenRequest = False,
    ) -> RenderOutput:
        """Renders a cloud; see the module's docstring."""
        ...

    def splat(self, cloud: GaussianCloud, camera: Camera, features: Tensor) -> Tensor:
        """Features [N, F], none negative, of a cloud [N] blended as its colours are by a camera []:
        [H, W, F]."""
        ...

    def warm_up(self, gradients: bool = True) -> None:
        """Does all that is slow only once (compiling), so that it does not hold up anything later.
        Without ``gradients`` only what playback needs. Raises UserError where it cannot render
        here."""
        ...


def _reference() -> Renderer:
    from likeness.renderers.reference import ReferenceRenderer

    return ReferenceRenderer()


def _cpu() -> Renderer:
    from likeness.renderers.cpu import CpuRenderer

    return CpuRenderer()


def _gsplat() -> Renderer:
    from likeness.renderers.gsplat import GsplatRenderer

    return GsplatRenderer()


RENDERERS: dict[str, Callable[[], Renderer]] = {
    "reference": _reference,
    "cpu": _cpu,
    "gsplat": _gsplat,
}
"""Factories by name; each imports what it needs when called."""


def create(name: str, device: str = "cpu") -> Renderer:
    """The renderer of a name in ``RENDERERS``, or with "auto" the fast one of a torch device
    ("cpu", "cuda", ...).

    Raises UserError for an unknown name and where the renderer cannot run.
    """
    if name == "auto":
        name = "gsplat" if str(device).startswith("cuda") else "cpu"
    if name not in RENDERERS:
        raise UserError(
            f"renderer '{name}': unknown; expected auto or one of {', '.join(RENDERERS)}"
        )
    if name == "gsplat" and not str(device).startswith("cuda"):
        raise UserError(
            f"renderer 'gsplat': runs on CUDA only, not on the device '{device}'; choose cpu"
        )
    if name == "cpu" and not str(device).startswith("cpu"):
        raise UserError(
            f"renderer 'cpu': runs on the CPU only, not on the device '{device}'; choose gsplat"
        )
    return RENDERERS[name]()
