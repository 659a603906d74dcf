"""The live viewer: server, panel and rendering around a display."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from likeness.fitting.bundle import AvatarBundle
from likeness.playback.bundles import bundle_folder
from likeness.playback.viewer.display import Display
from likeness.playback.viewer.orbit import MAX_SIDE, initial_view
from likeness.playback.viewer.panel import Panel
from likeness.playback.viewer.rendering import Rendering
from likeness.playback.viewer.server import Server
from likeness.scene.errors import UserError


class Viewer:
    """Runs until ``stop``. urls: where browsers find it; url: the first of these."""

    def __init__(
        self,
        display: Display,
        names: list[str],
        host: str,
        port: int,
        *,
        folders: list[Path] | None = None,
        share: float = 1.0,
        fps: float = 60.0,
    ) -> None:
        """names: of the avatars, for people. folders: where new bundles of each are saved. share,
        fps: see Rendering.

        port: 0 takes a free one. Raises UserError when viser is missing or the address cannot be
            had.
        """
        self.display = display
        self._server = Server(
            host, port, " | ".join(names), initial_view(display.bundles[0]), self._wake
        )
        self._rendering = Rendering(
            display, self._server.browsers, share=share, fps=fps, on_frame=self._on_frame
        )
        self.panel = Panel(
            self._server.viser, display, names, folders or [], self._rendering.latest.get
        )
        self.urls, self.url = self._server.urls, self._server.url
        self._rendering.start()

    @classmethod
    def open(
        cls,
        paths: Sequence[Path],
        device: str,
        host: str,
        port: int,
        *,
        size: int,
        fps: float,
        extrapolate: bool = False,
        refine: bool = True,
        compile: bool = False,
    ) -> Viewer:
        """A viewer of runs or bundles; new bundles are saved beside theirs. extrapolate: do not
        clamp views beyond the recordings'. refine, compile: see Display."""
        if not 16 <= size <= MAX_SIDE:
            raise UserError(f"--size {size}: expected 16 to {MAX_SIDE} pixels")
        folders = [bundle_folder(path) for path in paths]
        names = [
            (folder.parent if folder.name == "bundle" else folder).resolve().name
            for folder in folders
        ]
        bundles = [AvatarBundle.load(folder) for folder in folders]
        display = Display(
            bundles, device, size=size, clamp_views=not extrapolate, refine=refine, compile=compile
        )
        display.look_through()
        return cls(
            display,
            names,
            host,
            port,
            folders=[folder.resolve().parent for folder in folders],
            fps=fps,
        )

    @property
    def watched(self) -> bool:
        """Whether any browser is connected."""
        return bool(self._server.browsers())

    @property
    def error(self) -> BaseException | None:
        """What went wrong in the rendering, which has ended then."""
        return self._rendering.error

    def wait(self) -> None:
        """Waits for the end; raises what went wrong in the rendering."""
        self._rendering.wait()

    def stop(self) -> None:
        self._rendering.stop()
        self._server.stop()

    def _on_frame(self, frame: int) -> None:
        self.panel.show_frame(frame)

    def _wake(self) -> None:
        with self.display.changed:
            self.display.changed.notify_all()
