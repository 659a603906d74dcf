"""The store of weights: found by hash, downloaded once, absent without harm. No network but the
loopback."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import http.server
import logging
import os
import threading

import pytest
import torch

from likeness.preprocess import weights as store
from likeness.scene.errors import UserError

CONTENT = b"some weights" * 1000


@pytest.fixture
def server(tmp_path):
    """A web server on the loopback, its folder, and the list of paths asked for."""
    folder = tmp_path / "served"
    folder.mkdir()
    asked = []

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args):
            asked.append(self.path)

    httpd = http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(Handler, directory=folder)
    )
    threading.Thread(target=httpd.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{httpd.server_port}", folder, asked
    httpd.shutdown()
    httpd.server_close()


@pytest.fixture
def toy(tmp_path, monkeypatch, server):
    """WEIGHTS with one entry served on the loopback, and an empty cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("LIKENESS_WEIGHTS", raising=False)
    monkeypatch.delenv("LIKENESS_OFFLINE", raising=False)
    monkeypatch.setattr(store, "_given_up", set())
    for proxy in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(proxy, raising=False)
    entry = store.Weights(
        name="toy",
        urls=(f"{server[0]}/absent/toy.pth", f"{server[0]}/toy.pth"),
        filename="toy.pth",
        algorithm="blake2b",
        digest=hashlib.blake2b(CONTENT).hexdigest(),
        num_bytes=len(CONTENT),
        licence="CC0",
        what_for="tests",
    )
    monkeypatch.setitem(store.WEIGHTS, "toy", entry)
    return entry


def test_the_table_is_complete():
    assert {"modnet", "vgg16", "alexnet"} <= set(store.WEIGHTS)
    lengths = {"sha256": 64, "blake2b": 128}
    for name, entry in store.WEIGHTS.items():
        assert (
            entry.name == name
            and entry.urls
            and all(url.startswith("https://") for url in entry.urls)
        )
        assert all(url.rsplit("/", 1)[1] == entry.filename for url in entry.urls)
        assert set(entry.digest) <= set("0123456789abcdef")
        assert len(entry.digest) == lengths[entry.algorithm], "a whole hash, not its beginning"


def test_downloads_once_from_the_address_that_has_it(toy, server):
    (server[1] / "toy.pth").write_bytes(CONTENT)
    path = store.find("toy")
    assert path == store.cache_folder() / "toy.pth" and path.read_bytes() == CONTENT
    asked = len(server[2])
    assert store.find("toy") == path
    assert len(server[2]) == asked
    assert sorted(p.name for p in path.parent.iterdir()) == ["toy.pth", "verified.json"]


def test_a_wrong_download_is_not_kept_and_said_in_one_line(toy, server, caplog):
    (server[1] / "toy.pth").write_bytes(CONTENT + b"!")
    with caplog.at_level(logging.WARNING):
        assert store.find("toy") is None
        asked = len(server[2])
        assert store.find("toy") is None
    assert len(server[2]) == asked, "tried again"
    assert list(store.cache_folder().iterdir()) == []
    (record,) = caplog.records
    message = record.getMessage()
    for part in ("toy.pth", toy.urls[0], "--weights", "tests", "blake2b"):
        assert part in message
    assert "\n" not in message


def test_no_network(toy, monkeypatch, caplog):
    nowhere = dataclasses.replace(toy, urls=("http://127.0.0.1:9/toy.pth",))
    monkeypatch.setitem(store.WEIGHTS, "toy", nowhere)
    with caplog.at_level(logging.WARNING):
        assert store.find("toy") is None
    assert len(caplog.records) == 1 and "refused" in caplog.text


def test_offline_and_download_false_never_ask_the_server(toy, server, monkeypatch, caplog):
    (server[1] / "toy.pth").write_bytes(CONTENT)
    assert store.find("toy", download=False) is None
    assert "switched off" in caplog.text
    store._given_up.clear()
    monkeypatch.setenv("LIKENESS_OFFLINE", "1")
    assert store.find("toy") is None
    assert not server[2]


def test_the_users_folder_comes_first(toy, server, tmp_path, monkeypatch):
    (tmp_path / "toy.pth").write_bytes(CONTENT)
    assert store.find("toy", tmp_path) == tmp_path / "toy.pth"
    monkeypatch.setenv("LIKENESS_WEIGHTS", str(tmp_path))
    assert store.find("toy") == tmp_path / "toy.pth"
    assert not server[2]


def test_a_wrong_file_in_the_users_folder_is_an_error(toy, tmp_path):
    (tmp_path / "toy.pth").write_bytes(b"other")
    with pytest.raises(UserError, match="toy.pth.*blake2b.*download it again"):
        store.find("toy", tmp_path)
    with pytest.raises(UserError, match="no such folder"):
        store.find("toy", tmp_path / "nowhere")
    with pytest.raises(ValueError, match="alexnet"):
        store.find("no such weights")


def test_hashing_is_remembered_until_the_file_changes(toy, tmp_path, monkeypatch):
    path = tmp_path / "toy.pth"
    path.write_bytes(CONTENT)
    hashed = []
    digest = store._digest
    monkeypatch.setattr(store, "_digest", lambda *args: hashed.append(args) or digest(*args))
    assert store.find("toy", tmp_path) and store.find("toy", tmp_path)
    assert len(hashed) == 1
    # of what is remembered: it costs the hashing, no more
    for damage in (b"[" * 100_000, b"[]", b"\xff", b""):
        (store.cache_folder() / "verified.json").write_bytes(damage)
        hashed.clear()
        assert store.find("toy", tmp_path) and store.find("toy", tmp_path)
        assert len(hashed) == 1
    time_ns = path.stat().st_mtime_ns
    # another time, another size
    for content, changed_ns in ((b"x" * len(CONTENT), 1), (CONTENT + b"x", time_ns)):
        path.write_bytes(content)
        os.utime(path, ns=(changed_ns, changed_ns))
        with pytest.raises(UserError):
            store.find("toy", tmp_path)


def test_a_damaged_cache_is_downloaded_again(toy, server):
    (server[1] / "toy.pth").write_bytes(CONTENT)
    store.cache_folder().mkdir(parents=True)
    (store.cache_folder() / "toy.pth").write_bytes(CONTENT[:100])
    assert store.find("toy").read_bytes() == CONTENT


def test_state_dicts_load_without_running_code(tmp_path):
    good = tmp_path / "good.pth"
    torch.save({"a": torch.arange(3)}, good)
    assert store.load_state_dict(good)["a"].tolist() == [0, 1, 2]

    class Evil:
        def __reduce__(self):
            return (os.mkdir, (str(tmp_path / "made"),))

    torch.save({"a": Evil()}, tmp_path / "evil.pth")
    (tmp_path / "cut.pth").write_bytes(good.read_bytes()[:200])
    (tmp_path / "empty.pth").write_bytes(b"")
    (tmp_path / "text.pth").write_text("hello")
    torch.save([1, 2], tmp_path / "list.pth")
    for name in ("evil", "cut", "empty", "text", "list"):
        with pytest.raises(UserError, match=f"{name}.pth.*download it again") as caught:
            store.load_state_dict(tmp_path / f"{name}.pth")
        assert "\n" not in str(caught.value)
    assert not (tmp_path / "made").exists()
