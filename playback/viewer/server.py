"""The thin layer over viser: the web server, its browsers as screens."""

from __future__ import annotations

import contextlib
import errno
import importlib.util
import io
import logging
import socket
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from likeness.playback.viewer.access import Access
from likeness.playback.viewer.orbit import UP, InitialView, Viewpoint
from likeness.scene.errors import UserError

log = logging.getLogger(__name__)

VISER = "viser==1.1.1"
_JPEG_QUALITY = 90
_FAR = (0.05, 20.0)  # metres that an orbit keeps from the head


def require_viser() -> None:
    """Raises UserError, with the remedy, where the package viser is not installed."""
    if importlib.util.find_spec("viser") is None:
        raise UserError(
            "the live viewer needs the package viser, which is missing; install it: python -m pip "
            f"install '{VISER}'"
        )


def check_address(host: str, port: int) -> None:
    """Raises UserError when no server can listen there. (viser by itself would take the next free
    port.)"""
    try:
        addresses = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError):
        raise UserError(
            f"--host {host}: not an address of this machine; leave it out for localhost"
        ) from None
    for family, kind, protocol, _, address in addresses:
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(address)
            except OSError as error:
                raise UserError(_reason(error, host, port)) from None


def _reason(error: OSError, host: str, port: int) -> str:
    if error.errno == errno.EADDRINUSE:
        other = min(port + 1, 65535)
        return f"--port {port}: in use by another program; choose another, such as --port {other}"
    if error.errno in (errno.EACCES, errno.EPERM):
        return f"--port {port}: not allowed for this user; choose one above 1023"
    return f"--host {host}: cannot be listened on ({error.strerror}); leave it out for localhost"


class Browser:
    """One connected browser as a screen of ``rendering``."""

    def __init__(self, client: Any) -> None:
        self._client, self.key = client, client.client_id

    def view(self) -> Viewpoint:
        camera = self._client.camera
        w, x, y, z = map(float, camera.wxyz)
        right, up, forward = map(float, camera.position)
        return Viewpoint(
            (w, x, y, z), (right, up, forward), float(camera.fov), float(camera.aspect)
        )

    def put(self, image: np.ndarray) -> None:
        self._client.scene.set_background_image(image, format="jpeg", jpeg_quality=_JPEG_QUALITY)


class Server:
    """A web server whose pages show what is put on their screens, to browsers that were given its
    address.

    urls: the addresses to open, with their token; url: the first of them.
    """

    def __init__(
        self, host: str, port: int, title: str, start: InitialView, on_view: Callable[[], None]
    ) -> None:
        """on_view: is called when a browser connects or moves its viewpoint. Raises UserError when
        the port is taken."""
        require_viser()
        if port:
            check_address(host, port)
        import viser

        from likeness.playback.viewer.guarding import Guard

        # A browser may leave while its image is made.
        warnings.filterwarnings("ignore", message="Queued a .* on a closed connection")

        class Quiet(viser.ViserServer):
            def request_share_url(self, verbose: bool = True) -> None:
                """Never: it would show the avatar to the world through somebody's server."""

        access = Access(host)
        guard = Guard(access)
        # without its banner: the program prints the address itself
        with contextlib.redirect_stdout(io.StringIO()), guard.installed():
            self.viser = Quiet(host=host, port=port, label=title, verbose=False)
        guard.widgets = self.viser.gui._gui_input_handle_from_uuid
        if port and self.viser.get_port() != port:  # another program was faster
            self.stop()
            raise UserError(_reason(OSError(errno.EADDRINUSE, ""), host, port))
        access.port = self.viser.get_port()
        self.urls = access.urls
        self.url = self.urls[0]
        if not access.local:
            log.warning(
                "the viewer listens to other machines: whoever has its address, token included, "
                "sees the images and uses the panel, which also saves bundles; nothing is "
                "encrypted on the way"
            )
        self.viser.gui.configure_theme(
            show_logo=False, show_share_button=False, control_width="medium"
        )
        self.viser.gui.main_panel.dock_right()  # beside the image, not over it
        self.viser.scene.set_up_direction(UP)
        camera = self.viser.initial_camera
        camera.position, camera.look_at = start.position, start.look_at
        camera.up, camera.fov = start.up, start.fov
        self._on_view = on_view
        self.viser.on_client_connect(self._connected)

    def _connected(self, client: Any) -> None:
        client.camera.min_orbit_distance, client.camera.max_orbit_distance = _FAR
        client.camera.on_update(lambda _: self._on_view())
        self._on_view()

    def browsers(self) -> list[Browser]:
        """Those that are connected now."""
        return [Browser(client) for client in self.viser.get_clients().values()]

    def stop(self) -> None:
        with contextlib.redirect_stdout(io.StringIO()):
            self.viser.stop()
