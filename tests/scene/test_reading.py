"""Files from outside: whatever is wrong with one is a single line, and nothing is built beyond its
bounds."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch

from likeness.scene import reading
from likeness.scene.errors import MAX_MESSAGE, UserError, one_line
from likeness.scene.files import atomic_path, held, new_folder, write_json
from likeness.scene.tensor_files import Array, read_arrays, read_header, read_tensors, save_tensors

ROOT = Path(__file__).resolve().parents[2]


class Point(msgspec.Struct):
    name: str
    place: list[float]
    count: int = 0


@pytest.mark.parametrize(
    "content, message",
    [
        (b"{", "truncated"),
        (b"\xff\xfe", "malformed"),
        (b'{"name": "a"}', "place: missing"),
        (b'{"name": 1, "place": []}', "name: expected text, got a whole number"),
        (b'{"name": "a", "place": [0, "x"]}', r"place\[1\]: expected a number, got text"),
        (b'{"name": "a", "place": [1e999]}', "out of range"),
        (b'{"name": "a", "place": [NaN]}', "malformed"),
        (b'{"name": "a", "place": [], "count": ' + b"9" * 5000 + b"}", "hundreds of digits"),
        (b"[" * 100_000, "nested too deeply|expected an object"),
        (b'{"x": ' + b"[" * 100_000, "nested too deeply"),
        (b'{"name": "\\ud800", "place": []}', "truncated|malformed|surrogate"),
    ],
)
def test_json_is_read_by_its_types(tmp_path, content, message):
    path = tmp_path / "a.json"
    path.write_bytes(content)
    with pytest.raises(UserError, match=f"a.json: .*({message}).*; mend it"):
        reading.read_json(path, Point, "point", remedy="mend it")


def test_what_is_too_large_or_no_file_is_not_opened(tmp_path):
    with (tmp_path / "a.json").open("wb") as file:
        file.truncate(1 << 40)  # a sparse file: it takes no room
    with pytest.raises(UserError, match="a.json: 1099511.6 MB; the point has at most"):
        reading.read_json(tmp_path / "a.json", Point, "point")
    os.mkfifo(tmp_path / "b.json")  # to open it would wait for ever
    for name in ("b.json", "."):
        with pytest.raises(UserError, match="not a file; expected the point"):
            reading.read_json(tmp_path / name, Point, "point")


def test_messages_are_one_short_line_of_what_can_be_printed():
    text = one_line("a\x1b[31mb\nc\tä\udc80" + "x" * 100_000 + "the remedy")
    assert text.startswith(r"a\x1b[31mb c ä\udc80xxx") and text.endswith("the remedy")
    assert len(text) <= MAX_MESSAGE and text.isprintable()
    assert str(UserError("one\ntwo")) == "one two"


TENSORS = {"a": torch.zeros(3, 2), "n": torch.arange(3)}
DECLARED = {
    "a": Array(("T", 2)),
    "n": Array(("T",), "whole", low=0, high=9),
    "b": Array((1,), optional=True),
}


@pytest.mark.parametrize(
    "change, message",
    [
        ({"a": None}, "a missing"),
        ({"a": torch.zeros(3, 2).half()}, "a: expected float32, got float16"),
        ({"a": torch.zeros(3, 3)}, r"a: expected the shape \[T, 2\], got \[3, 3\]"),
        ({"a": torch.full((3, 2), float("inf"))}, "a: holds values that are not finite"),
        ({"n": torch.arange(4)}, r"n: expected the shape \[3\], got \[4\]"),
        ({"n": torch.zeros(3)}, "n: expected whole numbers, got float32"),
        ({"n": torch.tensor([0, 1, 10])}, "n: expected values from 0 to 9, got 0 to 10"),
        ({"b": torch.zeros(2)}, r"b: expected the shape \[1\]"),
    ],
)
def test_tensors_and_arrays_are_what_is_declared(tmp_path, change, message):
    changed = {name: value for name, value in (TENSORS | change).items() if value is not None}
    save_tensors(tmp_path / "x.safetensors", changed)
    np.savez_compressed(
        tmp_path / "x.npz", **{name: value.numpy() for name, value in changed.items()}
    )
    for read, name in ((read_tensors, "x.safetensors"), (read_arrays, "x.npz")):
        with pytest.raises(UserError, match=f"{name}: {message}.*; make it anew"):
            read(tmp_path / name, "file", DECLARED, remedy="make it anew")


def test_what_is_declared_comes_back(tmp_path):
    save_tensors(tmp_path / "x.safetensors", TENSORS | {"more": torch.zeros(5)}, {"text": "y"})
    np.savez_compressed(
        tmp_path / "x.npz", a=TENSORS["a"].numpy().astype(">f4"), n=np.arange(3), more=np.zeros(5)
    )
    assert read_header(tmp_path / "x.safetensors", "file").texts == {"text": "y"}
    tensors = read_tensors(tmp_path / "x.safetensors", "file", DECLARED, {"T": 3})
    arrays = read_arrays(tmp_path / "x.npz", "file", DECLARED, {"T": 3})
    assert set(tensors) == set(arrays) == {"a", "n"} and arrays["a"].dtype == np.float32
    assert all(torch.equal(tensors[name], TENSORS[name]) for name in tensors)


def test_texts_are_texts(tmp_path):
    names = np.array(["jawOpen", "x"])
    np.savez(tmp_path / "x.npz", names=names)
    content = (tmp_path / "x.npz").read_bytes()
    assert content.count("j".encode("utf-32-le")) == 1
    # beyond Unicode: a list of it ends Python's str
    damaged = content.replace("j".encode("utf-32-le"), b"j\0\x11\0")
    found = read_arrays(tmp_path / "x.npz", "file", {"names": Array(("N",), "text")})["names"]
    assert found.tolist() == names.tolist()
    with zipfile.ZipFile(tmp_path / "y.npz", "w") as archive:
        start = damaged.index(b"\x93NUMPY")
        archive.writestr("names.npy", damaged[start : start + 128 + 2 * 7 * 4])
    with pytest.raises(UserError, match="names: holds what is no text"):
        read_arrays(tmp_path / "y.npz", "file", {"names": Array(("N",), "text")})


def test_gaps_are_read_where_they_are_declared(tmp_path):
    values = torch.tensor([0.0, float("nan"), 2.0])
    save_tensors(tmp_path / "x.safetensors", {"a": values})
    found = read_tensors(tmp_path / "x.safetensors", "file", {"a": Array((3,), low=0, gaps=True)})[
        "a"
    ]
    assert torch.equal(found.isnan(), values.isnan())
    with pytest.raises(UserError, match="a: expected values from 1 on, got 0 to 2"):
        read_tensors(tmp_path / "x.safetensors", "file", {"a": Array((3,), low=1, gaps=True)})


def test_an_archive_that_states_more_than_it_may_hold_is_not_unpacked(tmp_path):
    np.savez_compressed(tmp_path / "x.npz", a=np.zeros((1 << 20, 2), np.float32))
    assert (tmp_path / "x.npz").stat().st_size < 100_000
    with pytest.raises(UserError, match="unpacks to 0.0 GB; the file has at most"):
        read_arrays(tmp_path / "x.npz", "file", {"a": Array(("T", 2))}, most=1 << 20)


def test_new_files_have_the_mode_that_any_file_gets(tmp_path):
    (tmp_path / "plain").touch()
    save_tensors(tmp_path / "x.safetensors", TENSORS)
    write_json(tmp_path / "x.json", {})
    modes = {(tmp_path / name).stat().st_mode for name in ("plain", "x.safetensors", "x.json")}
    assert len(modes) == 1


@pytest.mark.skipif(
    not os.path.isdir("/proc/self/fd"), reason="reads the names of open files from /proc"
)
def test_content_is_on_the_disk_before_it_gets_its_name(tmp_path, monkeypatch):
    order = []
    sync, replace = os.fsync, os.replace

    def synced(handle: int) -> None:
        order.append(os.readlink(f"/proc/self/fd/{handle}"))
        sync(handle)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "replace", lambda a, b: (order.append("renamed"), replace(a, b)))
    with atomic_path(tmp_path / "a.txt") as temporary:
        temporary.write_text("x")
    assert order == [str(temporary), "renamed", str(tmp_path)]
    order.clear()
    with new_folder(tmp_path / "folder") as temporary:
        (temporary / "b.txt").write_text("x")
    assert order == [str(temporary / "b.txt"), str(temporary), "renamed", str(tmp_path)]


def test_names_as_long_as_file_systems_allow(tmp_path):
    for name in ("x" * 250 + ".json", "ä" * 125 + ".json"):
        write_json(tmp_path / name, {})
        assert [path.name for path in tmp_path.iterdir()] == [name]
        (tmp_path / name).unlink()
    with pytest.raises(UserError, match="cannot write there .*name too long"):
        write_json(tmp_path / ("x" * 256), {})


@pytest.mark.skipif(os.name == "nt", reason="kills")
def test_what_is_held_is_refused_to_others_and_free_once_its_holder_is_gone(tmp_path):
    script = "import time\nfrom likeness.scene.files import held\n"
    script += f"with held({str(tmp_path / 'lock')!r}, 'busy'):\n"
    script += "    print('holds', flush=True)\n    time.sleep(60)"
    holder = subprocess.Popen(
        [sys.executable, "-c", script], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    try:
        assert holder.stdout is not None and holder.stdout.readline() == "holds\n"
        with pytest.raises(UserError, match="busy"), held(tmp_path / "lock", "busy"):
            pass
    finally:
        holder.kill()
        holder.wait()
    begun = time.monotonic()
    with held(tmp_path / "lock", "busy"):
        assert time.monotonic() - begun < 5
