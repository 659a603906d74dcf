"""Puts the rules of ``access`` and ``messages`` in front of viser's web server.

viser has no place for them: it makes its server of websockets itself, and hands every message to
its handlers. So the server that websockets gives it is one that asks first.
"""

from __future__ import annotations

import contextlib
import http
import logging
import threading
from collections.abc import Iterator, Mapping
from typing import Any

import websockets.asyncio.server
from websockets import CloseCode
from websockets.asyncio.server import ServerConnection
from websockets.datastructures import Headers
from websockets.http11 import Request, Response
from websockets.typing import Data

from likeness.playback.viewer.access import Access
from likeness.playback.viewer.messages import MAX_BYTES, Malformed, wanted
from likeness.scene.errors import one_line

log = logging.getLogger(__name__)

_MAX_REASON = 200  # characters of a message's fault in the log
_installing = threading.Lock()


class Guard:
    """Checks every request and message of the server that is made while it is ``installed``.

    widgets: those of viser by uuid; until it is set, no message reaches them.
    """

    def __init__(self, access: Access) -> None:
        self._access = access
        self.widgets: Mapping[str, Any] = {}

    @contextlib.contextmanager
    def installed(self) -> Iterator[None]:
        """Servers of websockets that are made inside, in whatever thread, are guarded."""
        serve: Any = websockets.asyncio.server.serve

        def guarded(*args: Any, process_request: Any, **options: Any) -> Any:
            def checked(connection: ServerConnection, request: Request) -> Any:
                return self.answer(connection, request) or self._with_cookie(
                    request, process_request(connection, request)
                )

            options |= {
                "max_size": MAX_BYTES,
                "create_connection": self._connection(),
                "logger": _quiet_logger(),
            }
            return serve(*args, process_request=checked, **options)

        with _installing:
            websockets.asyncio.server.serve = guarded
            try:
                yield
            finally:
                websockets.asyncio.server.serve = serve

    def answer(self, connection: ServerConnection, request: Request) -> Response | None:
        """What a request is refused with, or None where it is let in."""
        headers = request.headers
        local = connection.local_address
        reason = self._access.refusal(
            request.path,
            headers.get_all("Host"),
            headers.get_all("Origin"),
            headers.get_all("Cookie"),
            local[0].partition("%")[0].removeprefix("::ffff:") if local else None,
        )
        if reason is None:
            return None
        body = f"likeness viewer: refused: {reason}\n".encode()
        fields = {"Content-Type": "text/plain; charset=utf-8", "Content-Length": str(len(body))}
        return Response(http.HTTPStatus.FORBIDDEN, "Forbidden", Headers(**fields), body)

    def _with_cookie(self, request: Request, response: Response | None) -> Response | None:
        """The page as viser gives it, with the token as a cookie where the request's query brought
        it."""
        if response is not None:
            if (cookie := self._access.new_cookie(request.path)) is not None:
                response.headers["Set-Cookie"] = cookie
            response.headers["Referrer-Policy"] = "no-referrer"  # the token stays in this browser
            response.headers["Content-Security-Policy"] = "frame-ancestors 'none'"
        return response

    def _connection(self) -> type[ServerConnection]:
        """The class of the server's connections: they hand on only messages that are sound."""

        def is_wanted(raw: Data) -> bool:
            return wanted(raw, self.widgets.get)

        class Checked(ServerConnection):
            async def recv(self, decode: bool | None = None) -> Any:
                while True:
                    raw = await super().recv(decode)
                    try:
                        if is_wanted(raw):
                            return raw
                    except Malformed as error:
                        log.warning(
                            "viewer: a malformed message, the connection is closed: %s",
                            _short(error),
                        )
                        await self.close(CloseCode.INVALID_DATA, "malformed message")

        return Checked


def _quiet_logger() -> logging.Logger:
    """A logger for websockets that says in one line what it would say with a traceback."""
    logger = logging.getLogger(f"{__name__}.websockets")
    logger.setLevel(logging.WARNING)
    logger.filters = [_OneLine()]
    return logger


class _OneLine(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        error = record.exc_info[1] if record.exc_info else None
        if isinstance(error, (EOFError, OSError)) or isinstance(
            getattr(error, "__cause__", None), (EOFError, OSError)
        ):
            # gone before it asked for anything: browsers open connections ahead of need
            return False
        record.msg, record.args = (
            f"viewer: {record.getMessage()}" + (f": {_short(error)}" if error else ""),
            (),
        )
        record.exc_info, record.levelno, record.levelname = None, logging.WARNING, "WARNING"
        return True


def _short(error: BaseException) -> str:
    return one_line(str(error) or type(error).__name__, _MAX_REASON)
