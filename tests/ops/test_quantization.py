"""Tensors in fewer bits: the bounds that the module promises, exact integers, and what is
refused."""

from __future__ import annotations

import pytest
import torch

from likeness.ops.quantization import Storage, decode, encode, pack, stored_as, unpack
from likeness.scene.tensor_files import Array


def _values(seed: int = 0) -> torch.Tensor:
    """[500, 4, 3] with channels of very different sizes, offsets, and one that is constant."""
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn(500, 4, 3, generator=generator) * 10 ** torch.linspace(-5, 2, 12).reshape(
        4, 3
    )
    values[:, 1, 1] = -0.3
    return values + torch.linspace(-5, 5, 12).reshape(4, 3)


@pytest.mark.parametrize("encoding, largest", [("int8", 127), ("int16", 32767)])
def test_whole_numbers_err_by_half_a_step_of_their_channel(encoding, largest):
    values = _values()
    parts = encode(values, encoding)
    error = (decode(parts, encoding) - values).abs().double()
    step = (values.amax(0) - values.amin(0)).double() / (2 * largest)
    rounding = 2.0**-22 * values.abs().amax(0)  # of float32
    assert parts[""].dtype == getattr(torch, encoding)
    assert (error <= 0.5001 * step + rounding).all()
    # the bound is not a loose one
    assert (error.amax(0)[step > 1e-4] > 0.3 * step[step > 1e-4]).all()
    assert torch.equal(decode(parts, encoding)[:, 1, 1], values[:, 1, 1])


def test_halves_err_by_their_last_bit():
    values = _values()
    error = (decode(encode(values, "float16"), "float16") - values).abs()
    assert (error <= 2.0**-11 * values.abs() + 2.0**-25).all()


@pytest.mark.parametrize(
    "low, high, dtype",
    [(-128, 127, "int8"), (0, 200, "int16"), (0, 70000, "int32"), (0, 2**40, "int64")],
)
def test_integers_stay_exact_in_the_smallest_type(low, high, dtype):
    numbers = torch.tensor([[low, high, 3], [0, low, high]])
    stored, storage = pack({"a": numbers}, {"a": "narrowed"})
    assert stored["a"].dtype == getattr(torch, dtype)
    assert torch.equal(unpack(stored, storage)["a"], numbers)


def test_packing_touches_only_what_is_named():
    tensors = {
        "a": _values(1),
        "b": _values(2),
        "n": torch.arange(9),
        "t": torch.tensor([0.1], dtype=torch.float64),
    }
    stored, storage = pack(tensors, {"a": "int8", "n": "narrowed"})
    back = unpack(stored, storage)
    assert set(back) == set(tensors)
    assert all(back[name].dtype == tensors[name].dtype for name in tensors)
    assert all(torch.equal(back[name], tensors[name]) for name in ("b", "n", "t"))
    size = {name: tensor.numel() * tensor.element_size() for name, tensor in stored.items()}
    assert size["a"] == tensors["a"].numel() and size["n"] == 9


@pytest.mark.parametrize(
    "tensor, encoding, message",
    [
        (torch.tensor([1.0, float("nan")]), "int8", "not finite"),
        (torch.tensor([1e6]), "float16", "half precision"),
        (torch.tensor([1.0]), "narrowed", "cannot be stored"),
        (torch.tensor([1]), "int8", "cannot be stored"),
        (torch.tensor([1.0]), "int4", "unknown encoding"),
    ],
)
def test_what_cannot_be_stored_is_refused_by_name(tensor, encoding, message):
    with pytest.raises(ValueError, match=f"width.*{message}"):
        pack({"width": tensor}, {"width": encoding})


def test_unknown_names_and_encodings_are_refused():
    with pytest.raises(ValueError, match="no tensors named x"):
        pack({}, {"x": "int8"})


@pytest.mark.parametrize(
    "name, encoding, dtype, message",
    [
        ("b", "int8", "float32", "b is no tensor"),
        ("a", "narrowed", "float32", "a: float32 cannot be stored as narrowed"),
        ("a", "int8", "float64", "a: float32 cannot be stored as int8 of float64"),
    ],
)
def test_what_was_not_packed_is_not_unpacked(name, encoding, dtype, message):
    with pytest.raises(ValueError, match=message):
        stored_as({"a": Array((3,))}, {name: Storage(encoding, dtype)})


def test_what_a_file_must_hold_is_known_before_it_is_read():
    tensors = {"a": _values(), "b": _values().double(), "n": torch.arange(9)}
    stored, storage = pack(tensors, {"a": "int8", "b": "float16", "n": "narrowed"})
    declared = {name: Array(("N", *t.shape[1:]), str(t.dtype)[6:]) for name, t in tensors.items()}
    arrays = stored_as(declared, storage)
    assert set(arrays) == set(stored)
    for name, tensor in stored.items():
        assert arrays[name].problem(str(tensor.dtype)[6:], tuple(tensor.shape), {}) is None


def test_scales_that_lead_beyond_all_numbers_are_refused():
    stored, storage = pack({"a": _values()}, {"a": "int8"})
    stored["a#scale"][:] = 1e38
    with pytest.raises(ValueError, match="a: holds values that are not finite"):
        unpack(stored, storage)
