"""The live viewer: server, panel and rendering around a show."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from likeness.fitting.bundle import AvatarBundle
from likeness.playback.bundles import bundle_folder
from likeness.playback.viewer.orbit import LARGEST, start_of
from likeness.playback.viewer.panel import Panel
from likeness.playback.viewer.rendering import Rendering
from likeness.playback.viewer.server import Server
from likeness.playback.viewer.show import Show
from likeness.scene.errors import UserError


class Viewer:
    """Runs until ``stop``. Browsers come and go. urls: where they find it; url: the first of
    these."""

    def __init__(
        self,
        show: Show,
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
        self.show = show
        self._server = Server(host, port, " | ".join(names), start_of(show.bundles[0]), self._wake)
        self._rendering = Rendering(
            show,
            self._server.browsers,
            share=share,
            fps=fps,
            on_frame=lambda frame: self.panel.show_frame(frame),
        )
        self.panel = Panel(
            self._server.viser, show, names, folders or [], self._rendering.latest.get
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
        """A viewer of runs or bundles; new bundles are saved beside theirs. extrapolate: show the
        avatars as they are beyond the recordings' views, too. refine, compile: see Show."""
        if not 16 <= size <= LARGEST:
            raise UserError(f"--size {size}: expected 16 to {LARGEST} pixels")
        folders = [bundle_folder(path) for path in paths]
        names = [
            (folder.parent if folder.name == "bundle" else folder).resolve().name
            for folder in folders
        ]
        bundles = [AvatarBundle.load(folder) for folder in folders]
        show = Show(
            bundles, device, size=size, clamp_views=not extrapolate, refine=refine, compile=compile
        )
        show.look_through()
        return cls(
            show,
            names,
            host,
            port,
            folders=[folder.resolve().parent for folder in folders],
            fps=fps,
        )

    @property
    def watched(self) -> bool:
        """Whether any browser looks on."""
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

    def _wake(self) -> None:
        with self.show.changed:
            self.show.changed.notify_all()
