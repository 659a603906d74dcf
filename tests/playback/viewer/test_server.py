"""The real server: its page, a browser's side of the conversation, its errors. Skipped where viser
is not installed."""

from __future__ import annotations

import io
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path

import numpy as np
import pytest

from likeness.playback.viewer import server
from likeness.playback.viewer.display import Display
from likeness.playback.viewer.orbit import initial_view
from likeness.scene.errors import UserError
from tests import toys
from tests.contract.test_avatars import make
from tests.playback.viewer.test_logic import seen_from

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def taken_port():
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        yield other.getsockname()[1]


def test_a_missing_viser_is_said_with_its_remedy(monkeypatch):
    monkeypatch.setattr(server.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(
        UserError, match=r"needs the package viser.*pip install 'viser==\d+\.\d+\.\d+'"
    ) as error:
        server.require_viser()
    assert "\n" not in str(error.value)


def test_a_port_in_use_is_one_clear_error(taken_port):
    with pytest.raises(
        UserError, match=f"--port {taken_port}: in use by another program; choose another"
    ):
        server.check_address("127.0.0.1", taken_port)


@pytest.mark.parametrize("host", ["no such host", "203.0.113.7"])
def test_a_host_that_is_not_this_machine(host):
    with pytest.raises(UserError, match=f"--host {host}: .*leave it out for localhost"):
        server.check_address(host, 8931)


class Client:
    """What a browser says and hears, by viser's own messages."""

    def __init__(self, url: str, camera: dict) -> None:
        import viser
        from websockets.sync.client import connect

        self._socket = connect(
            url.replace("http", "ws"),
            subprotocols=[f"viser-v{viser.__version__}"],
            max_size=None,
            compression=None,
        )
        self.widgets: dict[str, dict] = {}
        self.pictures: list[np.ndarray] = []
        self.downloads: list[bytes] = []
        self.notes: list[dict] = []
        threading.Thread(target=self._listen, daemon=True).start()
        self.send({"type": "ViewerCameraMessage", **camera})

    def send(self, message: dict) -> None:
        import msgspec

        self._socket.send(msgspec.msgpack.encode(message))

    def set(self, label: str, value) -> None:
        self.send(
            {"type": "GuiUpdateMessage", "uuid": self._uuid(label), "updates": {"value": value}}
        )

    def _uuid(self, label: str) -> str:
        (found,) = [uuid for uuid, widget in self.widgets.items() if widget["label"] == label]
        return found

    def _listen(self) -> None:
        import msgspec
        import websockets.exceptions
        import zstandard

        try:
            for raw in self._socket:
                size = int.from_bytes(raw[8:16], "little")
                whole = msgspec.msgpack.decode(
                    zstandard.ZstdDecompressor().decompress(raw[16 : 16 + size])
                )
                position, buffers = 16 + size, []
                for length in whole["binaryBufferLengths"]:
                    position += -position % 8
                    buffers.append(raw[position : position + length])
                    position += length
                for message in whole["messages"]:
                    self._hear(message, buffers)
        except websockets.exceptions.ConnectionClosed:
            pass

    def _hear(self, message: dict, buffers: list[bytes]) -> None:
        import cv2

        def data(value) -> bytes:
            return buffers[value["__binary_index"]] if isinstance(value, dict) else value

        if message["type"].startswith("Gui") and "label" in message.get("props", {}):
            self.widgets[message["uuid"]] = {**message["props"], "value": message.get("value")}
        elif message["type"] == "BackgroundImageMessage" and message["rgb_data"] is not None:
            self.pictures.append(
                cv2.imdecode(np.frombuffer(data(message["rgb_data"]), np.uint8), 1)[..., ::-1]
            )
        elif message["type"] == "FileTransferPart":
            self.downloads.append(data(message["content"]))
        elif message["type"] == "NotificationShowMessage":
            self.notes.append(message["props"])

    def close(self) -> None:
        self._socket.close()


def until(condition, seconds: float = 30.0):
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, "nothing happened"
        time.sleep(0.01)
    return found


def camera_message(display: Display, size: int) -> dict:
    start = initial_view(display.bundles[0])
    view = seen_from(start)
    return {
        "wxyz": view.wxyz,
        "position": view.position,
        "fov": view.fov,
        "near": 0.01,
        "far": 100.0,
        "image_height": size,
        "image_width": size,
        "look_at": start.look_at,
        "up_direction": start.up,
    }


@pytest.fixture
def viewing(tmp_path):
    """A running viewer of a toy avatar, and a client that looks on."""
    pytest.importorskip("viser", reason="viser is not installed (the live viewer's package)")
    from likeness.playback.viewer.viewer import Viewer

    toys.bundle(make("headgas"), 32).save(tmp_path / "me" / "bundle")
    viewer = Viewer.open([tmp_path / "me"], "cpu", "127.0.0.1", 0, size=48, fps=100)
    client = Client(viewer.url, camera_message(viewer.display, 48))
    until(lambda: client.pictures and len(client.widgets) > 60)
    yield viewer, client
    client.close()
    viewer.stop()


def test_the_page_is_served_and_the_first_picture_is_the_avatar(viewing):
    viewer, client = viewing
    page = urllib.request.urlopen(viewer.url, timeout=20).read()
    assert viewer.urls == [viewer.url]
    assert b"<html" in page[:2000].lower() and len(page) > 100_000
    expected = viewer.display.image(
        seen_from(initial_view(viewer.display.bundles[0])), viewer.display.settings, 0
    )
    assert client.pictures[0].shape == (48, 48, 3)
    assert np.abs(client.pictures[0].astype(int) - expected).mean() < 4  # JPEG


def test_sliders_views_and_the_recording_change_the_picture(viewing):
    viewer, client = viewing
    labels = {widget["label"] for widget in client.widgets.values()}
    assert labels >= {
        "e0",
        "e51",
        "Show the recording",
        "Frame",
        "Background",
        "Neutral",
        "Gain",
        "Save as new bundle",
    }
    for label, value in [
        ("e5", 1.0),
        ("Frame", 7),
        ("Show the recording", False),
        ("Background", (0, 0, 0)),
        ("Gain", 0.2),
        ("Image height", "256"),
    ]:
        before = len(client.pictures)
        client.set(label, value)
        until(lambda count=before: len(client.pictures) > count)
    assert client.pictures[-1].shape == (256, 256, 3) and client.pictures[-1][0, 0].max() < 30
    assert viewer.display.settings.sliders[5] == 1 and viewer.display.settings.tunings[0].gains[
        0
    ] == pytest.approx(0.2)
    assert viewer.display.frame() == 7
    client.set("Play or pause", True)
    until(lambda: viewer.display.transport.playing and viewer.display.settings.recording)


def test_a_screenshot_comes_as_png_and_a_tuned_bundle_is_saved_once(viewing, tmp_path):
    import cv2

    from likeness.fitting.bundle import AvatarBundle

    viewer, client = viewing
    client.set("Screenshot", True)
    (data,) = until(lambda: client.downloads)
    picture = cv2.imdecode(np.frombuffer(data, np.uint8), 1)[..., ::-1]
    assert data[:4] == b"\x89PNG" and np.abs(picture.astype(int) - client.pictures[-1]).mean() < 4
    client.set("Neutral", 0.25)
    client.set("Name", "calm")
    until(lambda: float(viewer.display.settings.tunings[0].neutral[0]) == 0.25)
    client.set("Save as new bundle", True)
    until(lambda: [note["title"] for note in client.notes] == ["Saved"])
    assert AvatarBundle.load(tmp_path / "me" / "calm").tuning.neutral[0] == 0.25
    client.set("Save as new bundle", True)
    until(lambda: [note["title"] for note in client.notes] == ["Saved", "Not saved"])
    assert "not overwritten" in client.notes[1]["body"]


def test_it_listens_on_this_machine_alone_and_shares_nothing(viewing):
    viewer, _ = viewing
    bound = viewer._server.viser
    assert bound.get_host() == "127.0.0.1" and bound.request_share_url() is None


def test_the_program_serves_until_it_is_stopped(tmp_path, taken_port):
    pytest.importorskip("viser", reason="viser is not installed (the live viewer's package)")
    toys.bundle(make("headgas"), 32).save(tmp_path / "a" / "bundle")
    toys.bundle(make("gaussianhead"), 32).save(tmp_path / "b")
    command = [
        sys.executable,
        "-m",
        "likeness",
        "view",
        str(tmp_path / "a"),
        str(tmp_path / "b"),
        "--port",
    ]
    refused = subprocess.run(
        [*command, str(taken_port)], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert (refused.returncode, refused.stdout) == (2, "")
    assert (
        refused.stderr.startswith(f"error: --port {taken_port}: in use")
        and refused.stderr.count("\n") == 1
    )
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    program = subprocess.Popen(
        [*command, str(port)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ,
        preexec_fn=toys.hears_ctrl_c,
    )
    try:
        said = re.fullmatch(
            rf"look at (http://localhost:{port}/\?token=[\w-]{{32}}) \(Ctrl-C ends it\)\n",
            program.stdout.readline(),
        )
        assert urllib.request.urlopen(said[1], timeout=20).status == 200
        program.send_signal(signal.SIGINT)
        out, error = program.communicate(timeout=30)
        assert (program.returncode, out, error) == (0, "", "")
    finally:
        program.kill()


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["nowhere"], "nowhere: no such folder; give a run"),
        (["tests"], "tests: no avatar in it"),
        (["tests", "--port", "0"], "argument --port: expected a whole number from 1 to 65535"),
    ],
)
def test_errors_of_the_program_are_one_line(arguments, message, capsys, monkeypatch):
    from likeness.cli import view as view_avatar

    monkeypatch.setattr(server, "require_viser", lambda: None)
    monkeypatch.setattr(server, "check_address", lambda host, port: None)
    monkeypatch.setattr(sys, "argv", ["view", *arguments])
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    with pytest.raises((UserError, SystemExit)) as stop:
        view_avatar.main()
    assert message in (str(stop.value) if stop.type is UserError else sys.stderr.getvalue())
