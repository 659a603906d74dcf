"""Who may talk to the viewer: rules, requests and websockets of strangers, malformed messages,
names full of markup."""

from __future__ import annotations

import html
import http.client
import logging
import math
import re
import socket
from types import SimpleNamespace

import msgspec
import numpy as np
import pytest

from likeness.playback.viewer import access
from likeness.playback.viewer.access import Access
from likeness.playback.viewer.messages import MAX_TEXT, Malformed, suits, wanted
from likeness.playback.viewer.panel import as_markdown
from tests import toys
from tests.contract.test_avatars import make
from tests.playback.viewer.test_server import Client, camera_message, until

viser = pytest.importorskip("viser", reason="viser is not installed (the live viewer's package)")

HOSTILE = "<img src=x onerror=document.title='taken'>"


@pytest.fixture
def rules():
    found = Access("127.0.0.1")
    found.port = 8080
    return found


def refusal(rules, path="/", host="localhost:8080", origins=(), cookies=(), **options):
    return rules.refusal(
        path, [host] if isinstance(host, str) else host, list(origins), list(cookies), **options
    )


def test_the_address_or_the_cookie_lets_in(rules):
    (url,) = rules.urls
    assert (
        re.fullmatch(r"http://localhost:8080/\?token=[\w-]{32}", url)
        and Access("127.0.0.1").token != rules.token
    )
    path = url.removeprefix("http://localhost:8080")
    cookie = rules.new_cookie(path)
    assert cookie == f"likeness-viewer-8080={rules.token}; Path=/; HttpOnly; SameSite=Strict"
    assert refusal(rules, path) is None
    for host in ("localhost:8080", "127.0.0.1:8080", "[::1]:8080", "LOCALHOST:9000", "localhost"):
        to_device = [f"a=b; {cookie.partition(';')[0]}"]
        assert refusal(rules, "/hdri.jpg", host, cookies=to_device) is None
        assert refusal(rules, "/", host, origins=[f"http://{host}"], cookies=to_device) is None


@pytest.mark.parametrize(
    "path", ["/", "/?token=", "/?token=wrong", "/?token=é", "/?" + "token=x&" * 99, "/?tok\x00en"]
)
def test_other_tokens_do_not(rules, path):
    assert "token is missing or wrong; open the address" in refusal(rules, path)
    assert rules.new_cookie(path) is None
    assert refusal(
        rules, path, cookies=[f"likeness-viewer-8081={rules.token}; likeness-viewer-8080=x; =; ;"]
    )


@pytest.mark.parametrize(
    "host",
    [
        "evil.example:8080",
        "evil.example",
        "127.0.0.1.evil.example",
        "",
        ":8080",
        "localhost:",
        "[::2]:8080",
        "192.0.2.7:8080",
        [],
        ["localhost:8080", "localhost:8080"],
    ],
)
def test_other_names_of_this_machine_are_refused(rules, host):
    assert "(Host)" in refusal(rules, f"/?token={rules.token}", host, local_address="192.0.2.7")


@pytest.mark.parametrize(
    "origin",
    [
        "http://evil.example",
        "null",
        "",
        "http://localhost:3000",
        "https://localhost:8080",
        "http://localhost:8080.evil.example",
    ],
)
def test_pages_of_other_servers_are_refused(rules, origin):
    assert "(Origin)" in refusal(rules, f"/?token={rules.token}", origins=[origin])
    assert "(Origin)" in refusal(
        rules, f"/?token={rules.token}", origins=["http://localhost:8080", origin]
    )


def test_a_server_for_the_network_names_its_real_addresses(monkeypatch):
    monkeypatch.setattr(
        access, "machine_addresses", lambda ipv6: ["fd00::5"] if ipv6 else ["192.0.2.5"]
    )
    rules = Access("0.0.0.0")
    rules.port = 80
    token = f"/?token={rules.token}"
    assert (
        rules.urls == [f"http://192.0.2.5:80{token}", f"http://localhost:80{token}"]
        and not rules.local
    )
    assert (
        refusal(rules, token, "192.0.2.5:80") is None
        and refusal(rules, token, socket.gethostname()) is None
    )
    assert refusal(rules, token, "192.0.2.6:80") is not None
    # of another network card
    assert refusal(rules, token, "192.0.2.6:80", local_address="192.0.2.6") is None
    assert "(Host)" in refusal(rules, token, "evil.example:80", local_address="192.0.2.6")
    six = Access("::")
    assert (
        six.urls[0].startswith("http://[fd00::5]:0/?")
        and refusal(six, f"/?token={six.token}", "[fd00::5]") is None
    )
    assert Access("127.0.0.1").local and Access("::1").local and not Access("192.0.2.5").local


def test_the_machines_addresses_are_no_loopback():
    for ipv6 in (False, True):
        for address in access.machine_addresses(ipv6):
            assert (
                (":" in address) == ipv6
                and not address.startswith("127.")
                and address not in ("::1", "0.0.0.0")
            )


# What a browser says


CAMERA = {
    "type": "ViewerCameraMessage",
    "wxyz": (1.0, 0.0, 0.0, 0.0),
    "position": (0, 0, 1),
    "fov": 0.8,
    "near": 0.01,
    "far": 100.0,
    "image_height": 48,
    "image_width": 48,
    "look_at": (0, 0, 0),
    "up_direction": (0, 1, 0),
}
SLIDER = SimpleNamespace(value=0.0, min=0.0, max=1.0)


def update(value, **changes):
    return {"type": "GuiUpdateMessage", "uuid": "u", "updates": {"value": value}} | changes


@pytest.mark.parametrize(
    "message",
    [
        "text",
        b"",
        b"\xc1",
        b"\x81",
        [1],
        7,
        {"kind": "x"},
        {"type": 3},
        {"type": "x" * 99},
        {"type": "GuiUpdateMessage"},
        update([1] * 9),
        update("x" * (MAX_TEXT + 1)),
        update({"a": 1}),
        update(0, uuid=3),
        update(0, updates=[1]),
        CAMERA | {"wxyz": (0, 0, 0, 0)},
        CAMERA | {"wxyz": (1, 0, 0)},
        CAMERA | {"fov": 0.0},
        CAMERA | {"fov": math.nan},
        CAMERA | {"position": (math.nan, 0, 0)},
        CAMERA | {"position": (math.inf, 0, 0)},
        CAMERA | {"image_height": -1},
        CAMERA | {"image_width": 10**9},
        {k: v for k, v in CAMERA.items() if k != "fov"},
        b"\x91" * 5000,
    ],
)
def test_malformed_messages(message):
    raw = message if isinstance(message, (bytes, str)) else msgspec.msgpack.encode(message)
    with pytest.raises(Malformed):
        wanted(raw, lambda uuid: SLIDER)


def test_sound_messages_and_those_for_nobody():
    def is_wanted(message, widget=SLIDER):
        return wanted(msgspec.msgpack.encode(message), lambda uuid: widget)

    assert is_wanted(CAMERA) and is_wanted(update(0.5)) and is_wanted(update(1))
    assert not is_wanted(update(0.5), widget=None)
    assert not is_wanted(update(0.5, updates={"removed": True})) and not is_wanted(
        {"type": "ShareUrlRequest"}
    )
    assert not is_wanted(update(0.5, updates={"value": 0.5, "visible": False}))


def test_widgets_take_only_values_that_they_can_have():
    dropdown = SimpleNamespace(value="a", options=("a", "b"))
    box, text, colour = (SimpleNamespace(value=value) for value in (False, "x", (1, 2, 3)))
    for widget, good, bad in (
        (SLIDER, (0, 0.5, 1 + 1e-7), (-0.1, 1.1, math.nan, "1", True, None)),
        (dropdown, ("b",), ("c", 0, None)),
        (box, (True, False), (1, "x", None)),
        (text, ("name",), (3, None, True)),
        (colour, ([0, 255, 7],), ([0, 0], [0, 0, 256], [0, 0, math.nan], ["a", 0, 0], "abc")),
        (SimpleNamespace(value=None), (), (0, "x", None)),
    ):
        assert all(suits(widget, value) for value in good) and not any(
            suits(widget, value) for value in bad
        )


# The running server


@pytest.fixture(scope="module")
def viewer(tmp_path_factory):
    """The viewer of an avatar whose folder and expressions are called like an attack."""
    import dataclasses

    from likeness.playback.viewer.viewer import Viewer

    folder = tmp_path_factory.mktemp("runs") / HOSTILE
    bundle = toys.bundle(make("headgas"), 32)
    names = (HOSTILE, *bundle.expression_names[1:])
    dataclasses.replace(bundle, expression_names=names).save(folder / "bundle")
    viewer = Viewer.open([folder], "cpu", "127.0.0.1", 0, size=48, fps=100)
    yield viewer
    viewer.stop()


def parts(viewer) -> tuple[int, str]:
    found = re.fullmatch(r"http://localhost:(\d+)(/\?token=.*)", viewer.url)
    return int(found[1]), found[2]


def ask(viewer, path="/", **headers) -> http.client.HTTPResponse:
    """The answer to a GET with these headers, and no others that a browser would send."""
    port, _ = parts(viewer)
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    connection.putrequest("GET", path, skip_host=True, skip_accept_encoding=True)
    for name, value in ({"Host": f"localhost:{port}"} | headers).items():
        connection.putheader(name, value)
    connection.endheaders()
    return connection.getresponse()


def test_pages_are_for_those_with_the_address(viewer):
    _, path = parts(viewer)
    for headers in ({}, {"Cookie": "likeness-viewer=x"}):
        answer = ask(viewer, "/", **headers)
        assert (
            answer.status == 403
            and b"token" in answer.read()
            and answer.getheader("Set-Cookie") is None
        )
    assert ask(viewer, "/?token=wrong").status == 403
    assert b"Host" in ask(viewer, path, Host="evil.example").read()
    assert b"Origin" in ask(viewer, path, Origin="http://evil.example").read()
    answer = ask(viewer, path)
    cookie = answer.getheader("Set-Cookie")
    assert answer.status == 200 and "HttpOnly" in cookie and "SameSite=Strict" in cookie
    assert answer.getheader("Referrer-Policy") == "no-referrer" and "frame-ancestors" in str(
        answer.headers
    )
    again = ask(viewer, "/", Cookie=cookie.partition(";")[0])
    assert again.status == 200 and again.getheader("Set-Cookie") is None


def connect(viewer, path, **options):
    from websockets.sync.client import connect

    port, _ = parts(viewer)
    address = f"ws://localhost:{port}{path}"
    return connect(
        address,
        subprotocols=[f"viser-v{viser.__version__}"],
        compression=None,
        max_size=None,
        **options,
    )


def test_websockets_are_for_those_with_the_address(viewer):
    from websockets.exceptions import InvalidStatus

    port, path = parts(viewer)
    cookie = {"Cookie": ask(viewer, path).getheader("Set-Cookie").partition(";")[0]}
    here = f"http://localhost:{port}"
    for address, options in (
        ("/", {}),
        ("/?token=wrong", {}),
        ("/", {"origin": here}),
        ("/", {"additional_headers": {"Cookie": "x=y"}}),
        (path, {"origin": "http://evil.example"}),
        ("/", {"origin": "null", "additional_headers": cookie}),
        ("/", {"origin": "http://evil.example", "additional_headers": cookie}),
        ("/", {"origin": "http://localhost:1", "additional_headers": cookie}),
    ):
        with pytest.raises(InvalidStatus) as error:
            connect(viewer, address, **options)
        assert error.value.response.status_code == 403
    key = (
        "Host: evil.example\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Version: 13\r\n"
    )
    with socket.create_connection(("127.0.0.1", port), timeout=20) as rebound:
        rebound.sendall(
            f"GET {path} HTTP/1.1\r\n{key}Sec-WebSocket-Key: {'A' * 22}==\r\n\r\n".encode()
        )
        assert rebound.recv(100).startswith(b"HTTP/1.1 403")
    with_cookie = {"origin": here, "additional_headers": cookie}
    for address, options in ((path, {}), (path, {"origin": here}), ("/", with_cookie)):
        with connect(viewer, address, **options) as socket_:
            assert socket_.recv(timeout=20)


@pytest.mark.parametrize(
    "raw",
    [
        "text",
        b"\xc1junk",
        b"\x91" * 5000,
        b"\x00" * 10**6,
        msgspec.msgpack.encode({"type": "GuiUpdateMessage", "uuid": 3}),
    ],
)
def test_a_malformed_message_ends_its_connection_alone(viewer, raw, caplog, capsys):
    from websockets.exceptions import ConnectionClosed

    _, path = parts(viewer)
    bystander = Client(viewer.url, camera_message(viewer.display, 48))
    with (
        caplog.at_level(logging.WARNING),
        connect(viewer, path) as socket_,
        pytest.raises(ConnectionClosed) as closed,
    ):
        socket_.send(raw)
        while True:
            socket_.recv(timeout=20)
    assert closed.value.rcvd.code == (1009 if len(raw) > 10**5 else 1007)
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == (0 if len(raw) > 10**5 else 1) and not any(
        record.exc_info for record in caplog.records
    )
    assert all("malformed message" in line and "\n" not in line for line in lines)
    assert "Traceback" not in "".join(capsys.readouterr())
    until(lambda: bystander.pictures)
    bystander.close()


def test_values_that_no_widget_can_have_change_nothing(viewer, caplog, capsys):
    client = Client(viewer.url, camera_message(viewer.display, 48))
    until(lambda: client.pictures and len(client.widgets) > 60)
    before = viewer.display.settings
    for label, value in [
        ("Image height", "999999"),
        ("Image height", -5),
        ("e5", math.nan),
        ("e5", 1e9),
        ("Background", [0, 0, -1]),
        ("Frame", "x"),
        ("Speed", "0x"),
        ("Show the recording", 3),
    ]:
        client.set(label, value)
    client.set("e6", 0.5)
    until(lambda: float(viewer.display.settings.sliders[6]) == 0.5)
    assert (
        viewer.display.settings.size == before.size
        and viewer.display.settings.background == before.background
    )
    assert (
        float(viewer.display.settings.sliders[5]) == 0
        and viewer.display.settings.recording == before.recording
    )
    assert not caplog.records and "Traceback" not in "".join(capsys.readouterr())
    client.set("e6", 0.0)
    client.close()


def test_garbage_instead_of_http_is_one_line(viewer, caplog, capsys):
    port, _ = parts(viewer)
    for to_device in (b"\x16\x03\x01junk\r\n\r\n", b""):
        with socket.create_connection(("127.0.0.1", port), timeout=20) as stranger:
            stranger.sendall(to_device)
            stranger.shutdown(socket.SHUT_WR)
            while stranger.recv(1000):
                pass
    until(lambda: len(caplog.records) == 1)
    assert caplog.records[0].exc_info is None and "\n" not in caplog.records[0].getMessage()
    assert "Traceback" not in "".join(capsys.readouterr())


def test_a_server_for_the_network_warns(tmp_path, caplog):
    from likeness.playback.viewer.viewer import Viewer

    toys.bundle(make("headgas"), 32).save(tmp_path / "bundle")
    viewer = Viewer.open([tmp_path / "bundle"], "cpu", "0.0.0.0", 0, size=48, fps=100)
    try:
        assert ["whoever has its address" in record.getMessage() for record in caplog.records] == [
            True
        ]
        assert viewer.urls[-1].startswith("http://localhost:")
        assert len(viewer.urls) == 1 + len(access.machine_addresses())
    finally:
        viewer.stop()


@pytest.mark.parametrize(
    "text",
    [
        HOSTILE,
        "import x from 'y'",
        "export default 1",
        "# a_b*c*",
        "![a](/etc/passwd)",
        "    code",
        "1. é 你好",
        "`x` [a](javascript:b) https://evil.example &lt; {alert(1)}",
    ],
)
def test_texts_are_markdown_without_any_markup(text):
    found = as_markdown(text)
    assert html.unescape(found) == text.strip()
    assert re.fullmatch(r"&#\d+;(&#\d+;|[^\W_]| )*", found)


def test_texts_are_one_short_line():
    assert html.unescape(as_markdown("a\n\x1b[31m\tb" + "c" * 999)) == "a [31m b" + "c" * 291
    assert as_markdown("") == ""


def test_a_real_browser_shows_the_avatar_and_runs_no_name(viewer, tmp_path):
    from tests.playback.chromium import Chromium

    chromium = Chromium()
    try:
        chromium.ask("open", url=viewer.url, width=1000, height=700)
        until(lambda: viewer.watched, 60)
        until(lambda: chromium.evaluate("document.body.innerText.includes('All to rest')"), 60)
        text = chromium.evaluate("document.body.innerText")
        assert HOSTILE in text and "Recording" in text
        assert chromium.evaluate("document.title") != "taken"
        assert chromium.evaluate("document.querySelectorAll('img[src=x]').length") == 0
        assert chromium.evaluate("document.cookie") == ""  # out of reach of scripts
        chromium.ask("screenshot", path=str(tmp_path / "page.png"))
        import cv2

        page = cv2.imread(str(tmp_path / "page.png"))
        # the avatar is drawn
        assert np.ptp(page[100:600, 100:600].reshape(-1, 3), axis=0).max() > 50
        # The page comes back with the cookie alone.
        port, _ = parts(viewer)
        chromium.ask("visit", url=f"http://localhost:{port}/")
        until(lambda: chromium.evaluate("document.body.innerText.includes('All to rest')"), 60)
    finally:
        chromium.close()
