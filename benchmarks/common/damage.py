"""Damages files: bytes of any kind, and the structure of JSON, YAML, text, safetensors and NumPy
archives.

Each function takes a whole file's content and a generator of random numbers, and gives a damaged
one; the same numbers give the same damage. Now and then the result is still a valid file.
"""

from __future__ import annotations

import dataclasses
import io
import json
import random
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

Damage = Callable[[bytes, random.Random], bytes]

DEEP = 5000
_ODD_NUMBERS = (0, -1, 1, 0.5, 2, 3.7, 10**6, 10**9, 30_000, 2**31, 2**63, -(2**63) - 1, 10**30)
_ODD_TEXTS = ("", "x", "1e5", "nan", "true", "a/../../b", "../../../etc/passwd", "x" * 10_000)
_ODD_LISTS = ([], [[]], ["x"], [None] * 50, [0] * 2000, [1, "x", None])
ODD_VALUES: tuple[Any, ...] = (
    *(None, True, False, 1e-320, 1e308, {}, {"a": {"b": {}}}, "\x1b[31mred\x07", "é\u202e\u0000"),
    *(*_ODD_NUMBERS, *_ODD_TEXTS, *_ODD_LISTS),
)
# What no library writes, put into JSON or YAML in place of a marker.
_MARK = "@raw@"
RAW_JSON = (
    *"NaN Infinity -Infinity 1e999 -1e400 'x' 0x10 01 1_000 tru // \"unended \x00 \xff".split(" "),
    *('"\\ud800"', '"\\u0000"', "", "9" * 400, "9" * 5000, "1" + "0" * 20_000),
    *("[" * DEEP, "[" * DEEP + "]" * DEEP, '{"a":' * DEEP + "1" + "}" * DEEP),
)
RAW_YAML = (
    *".nan .inf 1e999 1:2:3:4:5:6:7:8:9:10 *nothing 2001-99-99 2001-01-01".split(),
    *(
        "'unended",
        "%",
        "@",
        "off",
        "~",
        "=",
        "&a [*a]",
        "!!python/object/apply:os.system ['true']",
        "!!binary ab=c",
        "!!int x",
    ),
    *("!!float ''", "!!set {a, b}", "? ? ?", "<<: {a: 1}", "\t", "|\n x", "\x1b[31m"),
    *("9" * 5000, "0x" + "f" * 300, "[" * 300, "[" * 300 + "]" * 300),
    "{a: " * 200 + "1" + "}" * 200,
)


def of_bytes(data: bytes, rng: random.Random) -> bytes:
    """Damage that knows nothing of the format."""
    place = rng.randrange(len(data) + 1)
    size = min(rng.choice((1, 2, 7, 64, 1000)), max(len(data) - place, 0))
    noise = rng.randbytes(max(size, 1))
    ways: list[Callable[[], bytes]] = [
        lambda: data[:place],
        lambda: _flipped(data, rng),
        lambda: data[:place] + bytes(size) + data[place + size :],
        lambda: data[:place] + noise + data[place + size :],
        lambda: data[:place] + noise + data[place:],
        lambda: data[:place] + data[place + size :],
        lambda: data[:place] + data[place : place + size] * 3 + data[place + size :],
        lambda: b"",
        lambda: data + rng.randbytes(100),
        lambda: rng.randbytes(rng.choice((1, 8, 500))),
        lambda: bytes(len(data)),
        lambda: data[::-1],
    ]
    return rng.choices(ways, (4, 6, 2, 4, 2, 2, 2, 0.3, 1, 0.5, 0.3, 0.3))[0]()


def _flipped(data: bytes, rng: random.Random) -> bytes:
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 8, 100))):
        if changed:
            changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def of_json(data: bytes, rng: random.Random) -> bytes:
    """Keys and values of a JSON file changed."""
    value = json.loads(data)
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        value = _changed(value, rng, _MARK)
    text = json.dumps(value)
    raw = rng.choice(RAW_JSON)
    return text.replace(f'"{_MARK}"', raw).encode("utf-8", "surrogatepass")


def of_yaml(data: bytes, rng: random.Random) -> bytes:
    """Keys and values of a YAML file changed, and what only YAML has put into it."""
    import yaml

    value = _changed(yaml.safe_load(data) or {"a": 1}, rng, _MARK)
    text = yaml.safe_dump(value, sort_keys=False).replace(_MARK, rng.choice(RAW_YAML))
    if rng.random() < 0.1:
        nested = (f"b{n}: &b{n} [*{f'b{n - 1}' if n else 'a'}, *a]\n" for n in range(30))
        text = "a: &a [x, x]\n" + "".join(nested) + text
    if rng.random() < 0.1:
        lines = text.splitlines()
        text = "\n".join([*lines, rng.choice(lines)])  # a key given twice
    return text.encode("utf-8", "surrogatepass")


def _changed(value: Any, rng: random.Random, mark: str) -> Any:
    """A copy with one place in it changed: the deeper, the less likely to be missed."""
    if isinstance(value, dict) and value and rng.random() < 0.85:
        key = rng.choice(list(value))
        way = rng.random()
        if way < 0.1:
            return {name: item for name, item in value.items() if name != key}
        if way < 0.17:
            new = rng.choice(("", "x", key.upper(), key + "s", "x" * 300, "\x1b[0m"))
            return {(new if name == key else name): item for name, item in value.items()}
        if way < 0.24:
            return value | {rng.choice(("extra", "__class__", "0")): rng.choice(ODD_VALUES)}
        return value | {key: _changed(value[key], rng, mark)}
    if isinstance(value, list) and value and rng.random() < 0.7:
        place = rng.randrange(len(value))
        return rng.choice(
            (
                value[:place],
                value + value[-1:],
                value * 2,
                value[::-1],
                [*value[:place], *value[place + 1 :]],
                [*value[:place], _changed(value[place], rng, mark), *value[place + 1 :]],
                [*value[:place], _changed(value[place], rng, mark), *value[place + 1 :]],
            )
        )
    if isinstance(value, int | float) and not isinstance(value, bool) and rng.random() < 0.4:
        return rng.choice(
            (-value, value + 1, value * 1000, value * 10**6, float(value), str(value), [value])
        )
    return mark if rng.random() < 0.35 else rng.choice(ODD_VALUES)


_ODD_CELLS = (
    *"x nan inf 1e999 \" ' = == minutes=-1 seed=x name=../x # \\ 1e-320 -1".split(),
    *("25:61:61:99.9", "99:99:99:999999", "", "\0", "\x1b[31m", "a b c", "9" * 5000),
    *("é" * 200, "x" * 200_000),
)


def of_text(data: bytes, rng: random.Random) -> bytes:
    """Lines, words and cells of a text changed."""
    lines = data.decode("utf-8", "replace").splitlines()
    place = rng.randrange(len(lines)) if lines else 0
    cells = lines[place].split(",") if lines else [""]
    cell = rng.randrange(len(cells))
    odd = rng.choice(_ODD_CELLS)

    def with_line(*new: str) -> list[str]:
        return [*lines[:place], *new, *lines[place + 1 :]]

    ways: list[Callable[[], list[str]]] = [
        lambda: with_line(),
        lambda: [*lines, lines[place]],
        lambda: lines[:place] + lines[place:][::-1],
        lambda: with_line(",".join([*cells[:cell], odd, *cells[cell + 1 :]])),
        lambda: with_line(",".join([*cells[:cell], *cells[cell + 1 :]])),
        lambda: with_line(lines[place] + rng.choice((" ", ",")) + odd),
        lambda: with_line(odd, lines[place]),
        lambda: [",".join(line.split(",")[:cell]) for line in lines],
    ]
    changed = rng.choices(ways, (1, 1, 1, 5, 1, 3, 2, 1))[0]() if lines else [odd]
    return "\n".join(changed).encode("utf-8", "surrogatepass")


def of_safetensors(data: bytes, rng: random.Random) -> bytes:
    """Header, tensors or texts of a safetensors file changed."""
    size = struct.unpack("<Q", data[:8])[0]
    header, body = json.loads(data[8 : 8 + size]), data[8 + size :]
    way = rng.random()
    if way < 0.35:
        changed = of_json(json.dumps(header).encode(), rng)
        return struct.pack("<Q", len(changed)) + changed + body
    if way < 0.4:
        sizes = (0, 1, size - 1, size + 1, 10**8, 2**40, 2**63)
        return struct.pack("<Q", rng.choice(sizes)) + data[8:]
    texts = header.get("__metadata__", {})
    if texts and way < 0.55:
        name = rng.choice(list(texts))
        try:
            texts[name] = of_json(texts[name].encode(), rng).decode("utf-8", "replace")
        except ValueError:
            texts[name] = rng.choice(("", "x", "2", "-1", "9" * 5000, "\x1b"))
        return _as_safetensors(_arrays_of(header, body), texts)
    return _as_safetensors(_rearranged(_arrays_of(header, body), rng), texts)


_DTYPES = dict(
    zip(
        "F64 F32 F16 I64 I32 I16 I8 U8 U16 U32 BOOL".split(),
        "f8 f4 f2 i8 i4 i2 i1 u1 u2 u4 ?".split(),
    )
)


def _arrays_of(header: dict[str, Any], body: bytes) -> dict[str, np.ndarray]:
    def array(entry: dict[str, Any]) -> np.ndarray:
        content = body[slice(*entry["data_offsets"])]
        return np.frombuffer(content, _DTYPES[entry["dtype"]]).reshape(entry["shape"])

    return {name: array(entry) for name, entry in header.items() if name != "__metadata__"}


def _as_safetensors(arrays: dict[str, np.ndarray], texts: dict[str, str]) -> bytes:
    from safetensors.numpy import save

    kinds = {np.dtype(kind) for kind in _DTYPES.values()}
    stored = {
        name: np.ascontiguousarray(array) for name, array in arrays.items() if array.dtype in kinds
    }
    return save(stored, texts or None)


def _rearranged(arrays: dict[str, np.ndarray], rng: random.Random) -> dict[str, np.ndarray]:
    """Arrays with one of them missing, renamed, or of other values, type or shape."""
    name = rng.choice(list(arrays))
    array = arrays[name]
    rest = {other: value for other, value in arrays.items() if other != name}
    way = rng.random()
    if way < 0.1:
        return rest
    if way < 0.15:
        return rest | {rng.choice((name + "x", "x", "", "a/../b")): array}
    if way < 0.2:
        shape = rng.choice(((), (3,), (0, 10**6), (1000, 1000)))
        return arrays | {"extra": np.zeros(shape, np.float32)}
    if way < 0.55:
        return arrays | {name: _reshaped(array, rng)}
    if way < 0.7:
        kind = rng.choice("f8 f4 f2 i8 i4 i1 u1 ? >f4 c8 U3 O".split())
        if array.dtype.kind in "USO":
            return arrays | {name: np.zeros(array.shape, kind)}
        with np.errstate(all="ignore"):
            return arrays | {name: array.astype(kind)}
    return arrays | {name: _of_other_values(array, rng)}


def _reshaped(array: np.ndarray, rng: random.Random) -> np.ndarray:
    ways = [
        array[None],
        array.reshape(-1),
        array[..., None],
        np.zeros((0, *array.shape[1:]), array.dtype),
        np.zeros(rng.choice(((), (1,), (0, 10**9), (10**5, 3), (7, 7, 7))), array.dtype),
    ]
    if array.ndim:
        ways += [array[:-1], array[:1], array[..., :-1], array.T]
        ways += [np.concatenate([array, array[:1]])]
    return rng.choice(ways)


def _of_other_values(array: np.ndarray, rng: random.Random) -> np.ndarray:
    if array.dtype.kind in "US":
        changed = array.copy().reshape(-1)
        if changed.size:
            changed[rng.randrange(changed.size)] = rng.choice(("", "x", "\x1b[31m", changed[0]))
        return changed.reshape(array.shape)
    changed = array.copy().reshape(-1)
    if changed.dtype.kind == "f":
        value = rng.choice((np.nan, np.inf, -np.inf, 0, -1, 1, 3e38, -3e38, 1e-44, 1e9))
    else:
        value = rng.choice((0, -1, 1, 127, 2**31 - 1, 2**62))
    with np.errstate(all="ignore"):
        filler = np.array(value).astype(array.dtype)
    if changed.size:
        changed[slice(None) if rng.random() < 0.4 else rng.randrange(changed.size)] = filler
    return changed.reshape(array.shape)


def of_npz(data: bytes, rng: random.Random) -> bytes:
    """Arrays, their headers, or blocks of an ``.npz`` changed; the archive itself stays one."""
    with np.load(io.BytesIO(data)) as file:
        arrays = {name: file[name] for name in file.files}
    way = rng.random()
    if way < 0.5:
        arrays = _rearranged(arrays, rng)
    members = {name: _npy(array) for name, array in arrays.items()}
    victim = rng.choice(list(members))
    if 0.5 <= way < 0.8:
        members[victim] = _damaged_npy(members[victim], rng)
    methods = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)
    method = rng.choice(methods)
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", method) as archive:
        for name, content in members.items():
            archive.writestr(f"{name}.npy", content)
        offset = archive.getinfo(f"{victim}.npy").header_offset
        length = archive.getinfo(f"{victim}.npy").compress_size
    content = bytearray(target.getvalue())
    if way >= 0.8:  # one damaged block of what is packed
        for _ in range(rng.choice((1, 4, 30))):
            at = offset + 30 + rng.randrange(max(length, 1) + 20)
            content[min(at, len(content) - 1)] ^= 1 << rng.randrange(8)
    return bytes(content)


def _npy(array: np.ndarray) -> bytes:
    target = io.BytesIO()
    np.lib.format.write_array(target, array, allow_pickle=True)
    return target.getvalue()


def _damaged_npy(content: bytes, rng: random.Random) -> bytes:
    if rng.random() < 0.3:
        return of_bytes(content, rng)
    size = struct.unpack("<H", content[8:10])[0]
    old = content[10 : 10 + size].decode("latin1")
    plain = "{'descr': '%s', 'fortran_order': False, 'shape': (%s,), }"
    headers = (
        plain % ("<f4", "1000000000, 1000000000"),
        plain % ("<f4", "9" * 5000),
        plain % ("|O", 3),
        plain % ("V0", 5),
        "{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (3,), }",
        *("{'descr': '<f4'}", "{", "'\n", "(" * 4000, "-" * 5000 + "1", "\x00" * 60),
        *(old.replace("(", new) for new in ("(1L, ", "(-", "(0, ")),
        *(old.replace("False", "True"), old.replace("<", ">")),
    )
    new = rng.choice(headers).encode("latin1")
    return content[:8] + struct.pack("<H", len(new)) + new + content[10 + size :]


KINDS: dict[str, Damage] = {
    "bytes": of_bytes,
    "json": of_json,
    "yaml": of_yaml,
    "text": of_text,
    "safetensors": of_safetensors,
    "npz": of_npz,
}


def damaged(data: bytes, kind: str, seed: str) -> bytes:
    """A file of a kind (a name in KINDS), damaged as the seed says."""
    rng = random.Random(seed)
    way = KINDS["bytes" if rng.random() < 0.3 else kind]
    return way(data, rng)


Targets = list[tuple[str, str]]
"""Paths in a folder, and what kind of file (a name in KINDS) each is."""


@dataclasses.dataclass(frozen=True)
class Reader:
    """make(folder) -> [(path in it, kind)]. read(folder): raises UserError for what is damaged."""

    make: Callable[[Path], Targets]
    read: Callable[[Path], object]
