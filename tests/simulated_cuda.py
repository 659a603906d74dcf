"""A simulated CUDA device: tensors that say they are on ``cuda:0``, hold their values on the CPU,
and refuse what CUDA refuses.

Every operation passes through here, those of C++ and of backward passes too. It raises where
PyTorch would on CUDA: tensors of two devices in one operation (but for numbers, and for indices on
the CPU), ``numpy()``, random generators of the other device. It also counts where the host waits
for the device, and where it would in a graph's capture raises; so does a capture on a stream on
which nothing ran before.

What it does not show: speed, memory, the order of streams, differences of rounding, and autocast;
and views in inference mode fail here alone. C++ sees the tensors on PyTorch's device "meta", which
no operation here may otherwise use. Other threads than the one that pretends can work with such
tensors, but not make any from numbers.
"""

from __future__ import annotations

import contextlib
import functools
import warnings
from collections.abc import Iterator
from unittest import mock

import numpy as np
import torch
from torch import Tensor
from torch.utils._mode_utils import no_dispatch
from torch.utils._python_dispatch import TorchDispatchMode

from likeness.fitting import perceptual
from likeness.ops import harmonics, ssim
from tests.simulated_device import Device, DeviceError, Event, Stream

CUDA, CPU = torch.device("cuda", 0), torch.device("cpu")
_COPIES = {"aten::_to_copy", "aten::copy_"}
#: Give the host a number or a size that depends on values.
_WAITING = {
    "aten::_local_scalar_dense",
    "aten::is_nonzero",
    "aten::equal",
    "aten::nonzero",
    "aten::masked_select",
    "aten::_unique2",
    "aten::unique_dim",
    "aten::unique_consecutive",
    "aten::bincount",
    "aten::_linalg_check_errors",
    "aten::_linalg_svd",
    "aten::_linalg_eigh",
    "aten::linalg_cholesky_ex",
    "aten::linalg_lstsq",
}
_TAKES_NUMBERS = {"aten::fill_", "aten::_fused_adam_", "aten::_fused_adamw_"}

_device: Device | None = None


def current() -> Device:
    """The device that is simulated now."""
    assert _device is not None
    return _device


class CudaTensor(torch.Tensor):
    """``values`` on the CPU behind a tensor that says it is on CUDA."""

    values: Tensor
    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, values: Tensor) -> CudaTensor:
        values = values.detach()
        made = torch.Tensor._make_wrapper_subclass(
            cls,
            values.shape,
            strides=values.stride(),
            storage_offset=values.storage_offset(),
            dtype=values.dtype,
            device="meta",
        )
        made.values = values
        return made

    @classmethod
    def __torch_dispatch__(cls, function, types, args=(), kwargs=None):
        return _run(function, args, kwargs or {})

    device = property(lambda self: CUDA)
    is_cuda, is_cpu, is_meta = (
        property(lambda self, value=value: value) for value in (True, False, False)
    )

    @property
    def data(self) -> Tensor:
        return self.detach()

    @data.setter
    def data(self, value: Tensor) -> None:
        torch.Tensor.data.__set__(self, value)
        self.values = value.values

    def numpy(self, *_, **__):
        raise TypeError("can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu() first")

    def __array__(self, *_, **__):
        return self.numpy()

    def tolist(self):
        _device.wait("tolist")
        return self.values.tolist()

    def get_device(self) -> int:
        return 0

    def new_tensor(
        self, data, *, dtype: torch.dtype | None = None, device=CUDA, requires_grad: bool = False
    ) -> Tensor:
        return torch.tensor(
            data, dtype=dtype or self.dtype, device=device, requires_grad=requires_grad
        )

    def __getitem__(self, index) -> Tensor:
        return super().__getitem__(_with_lists_moved(index))

    def __setitem__(self, index, value) -> None:
        super().__setitem__(_with_lists_moved(index), value)

    def __deepcopy__(self, memo: dict) -> Tensor:
        copy = CudaTensor.__new__(type(self), self.values.clone()).requires_grad_(
            self.requires_grad
        )
        if getattr(self, "_is_param", False):
            copy._is_param = True
        memo[id(self)] = copy
        return copy

    def __repr__(self, **_) -> str:
        return f"cuda:0 {self.values!r}"


def _with_lists_moved(index):
    """An index whose lists of numbers are tensors, as C++ makes them for CUDA: by a copy from the
    host."""
    if isinstance(index, tuple):
        return tuple(
            _with_lists_moved(list(part) if isinstance(part, tuple) else part) for part in index
        )
    return _moved(torch.tensor(index), CUDA) if isinstance(index, list | np.ndarray) else index


def _moved(self: Tensor, *args, **kwargs) -> Tensor:
    """``torch.Tensor.to``, which in C++ would ask for the real device."""
    if args and isinstance(args[0], Tensor) or "other" in kwargs:
        other = args[0] if args else kwargs.pop("other")
        args = (other.device, other.dtype, *args[1:])
    copy = kwargs.pop("copy", False) or (len(args) > 3 and args[3])
    device, dtype, non_blocking, memory_format = torch._C._nn._parse_to(*args[:3], **kwargs)
    place = self.device if device is None else CPU if device.type == "cpu" else CUDA
    dtype = dtype or self.dtype
    if memory_format is None and not copy and (place, dtype) == (self.device, self.dtype):
        return self
    return torch.ops.aten._to_copy(
        self, dtype=dtype, device=place, non_blocking=non_blocking, memory_format=memory_format
    )


def _from_numbers(original):
    """``torch.tensor`` or ``torch.as_tensor``, which in C++ would ask for the real device."""

    def make(
        data,
        *,
        dtype: torch.dtype | None = None,
        device=None,
        requires_grad: bool = False,
        **kwargs,
    ) -> Tensor:
        if requires_grad:
            kwargs["requires_grad"] = True
        if device is None or torch.device(device).type == "cpu" or isinstance(data, CudaTensor):
            return original(data, dtype=dtype, **kwargs)
        return _moved(original(data, dtype=dtype), CUDA).requires_grad_(requires_grad)

    return make


class _Mode(TorchDispatchMode):
    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        return _run(function, args, kwargs or {})


@functools.lru_cache(None)
def _facts(function) -> tuple[str, bool, bool]:
    """An operation's name, whether it takes numbers beside tensors, and whether it changes a shape
    in place."""
    name = function._schema.name
    takes_numbers = torch.Tag.pointwise in function.tags or name in _TAKES_NUMBERS
    return name, takes_numbers, torch.Tag.inplace_view in function.tags


def _run(function, args: tuple, kwargs: dict):
    if _device is None:
        raise DeviceError("a tensor of a simulated device has outlived it")
    name, takes_numbers, changes_shape = _facts(function)
    here: list[CudaTensor] = []
    host: list[Tensor] = []
    places: list[torch.device] = []

    def on_cpu(tree):
        if isinstance(tree, CudaTensor):
            here.append(tree)
            return tree.values
        if isinstance(tree, Tensor):
            host.append(tree)
        elif isinstance(tree, torch.device):
            places.append(tree)
            return CPU
        elif isinstance(tree, list | tuple):
            return [on_cpu(leaf) for leaf in tree]
        return tree

    plain = [on_cpu(leaf) for leaf in args]
    plain_kwargs = {key: on_cpu(leaf) for key, leaf in kwargs.items()}
    if name in ("aten::pin_memory", "aten::_pin_memory"):
        if here:
            raise DeviceError(
                "cannot pin 'torch.cuda.FloatTensor' only dense CPU tensors can be pinned"
            )
        return _device.pin(host[0])
    if name == "aten::is_pinned":
        return bool(host) and _device.is_pinned(host[0])
    on_device = any(place.type != "cpu" for place in places) or bool(here and not places)
    if name == "aten::copy_":
        on_device = isinstance(args[0], CudaTensor)
    if on_device or here:
        _device.streams[-1].used = True
        _device.operations += on_device and not function.is_view
        _check(name, takes_numbers, here, host, args, kwargs, on_device)
    pins = plain_kwargs.get("pin_memory")
    if pins is not None:
        plain_kwargs["pin_memory"] = False
    results = function(*plain, **plain_kwargs)
    if changes_shape and here:
        with no_dispatch():  # the shape that C++ sees changes along
            function(*args, **kwargs)
    if _device.tape is not None and on_device:
        _device.tape.append((function, plain, plain_kwargs, results))
    if pins and not on_device:
        results = _device.pin(results)

    def wrapped(tree):
        if isinstance(tree, list | tuple):
            return type(tree)([wrapped(leaf) for leaf in tree])
        if not isinstance(tree, Tensor):
            return tree
        for tensor in here:
            if tree is tensor.values:
                return tensor
        return CudaTensor(tree) if on_device else tree

    return wrapped(results)


def _check(
    name: str,
    takes_numbers: bool,
    here: list,
    host: list,
    args: tuple,
    kwargs: dict,
    on_device: bool,
) -> None:
    """Raises what CUDA would, and notes waits."""
    generator = kwargs.get("generator")
    if on_device and generator is not None and generator.device.type == "cpu":
        raise DeviceError(f"{name}: Expected a 'cuda' device type for generator but found 'cpu'")
    if name in _COPIES:
        source = args[1] if name == "aten::copy_" else args[0]
        asynchronous = kwargs.get("non_blocking") or (
            name == "aten::copy_" and len(args) > 2 and args[2]
        )
        if isinstance(source, CudaTensor) and not on_device and not asynchronous:
            _device.wait("copy to the host")
        if (
            not isinstance(source, CudaTensor)
            and on_device
            and not (asynchronous and _device.is_pinned(source))
        ):
            _device.wait("copy from the host")
        return
    if here and (
        name in _WAITING or name == "aten::repeat_interleave" and kwargs.get("output_size") is None
    ):
        _device.wait(name)
    indices = ()
    if (
        name.startswith(("aten::index.", "aten::index_put", "aten::_index_put"))
        or name == "aten::index"
    ):
        indices = [index for index in args[1] if index is not None]
        _check_indices(name, args, indices)
    if not (here and host):
        return
    takes_numbers = takes_numbers or bool(indices)
    for tensor in host:
        if any(tensor is index for index in indices) or tensor.ndim == 0 and takes_numbers:
            continue
        raise DeviceError(
            f"{name}: Expected all tensors to be on the same device, but found at least two "
            "devices, cuda:0 and cpu"
        )


def _check_indices(name: str, args: tuple, indices: list[Tensor]) -> None:
    on_device = isinstance(args[0], CudaTensor)
    if not on_device and any(isinstance(index, CudaTensor) for index in indices):
        raise DeviceError(
            f"{name}: indices should be either on cpu or on the same device as the indexed "
            "tensor (cpu)"
        )
    if not on_device:
        return
    if any(not isinstance(index, CudaTensor) for index in indices):
        _device.wait("indices from the host")
    masks = [index for index in indices if index.dtype in (torch.bool, torch.uint8)]
    # One mask and one number are filled in without being counted.
    filled = "index_put" in name and len(indices) == 1 and args[2].ndim == 0
    if masks and not filled:
        _device.wait("a mask as an index")


class Graph:
    """``torch.cuda.CUDAGraph``: replays operations into the tensors that they first made."""

    def __init__(self) -> None:
        self.tape: list = []

    def replay(self) -> None:
        for function, args, kwargs, made in self.tape:
            again = function(*args, **kwargs)
            several = isinstance(made, list | tuple)
            for new, old in zip(again, made) if several else [(again, made)]:
                if isinstance(old, Tensor) and new.data_ptr() != old.data_ptr():
                    old.copy_(new)


@contextlib.contextmanager
def _on_stream(stream: Stream) -> Iterator[None]:
    """``torch.cuda.stream``."""
    _device.streams.append(stream)
    try:
        yield
    finally:
        _device.streams.pop()


@contextlib.contextmanager
def _capture(graph: Graph, stream: Stream | None = None, **_) -> Iterator[None]:
    """``torch.cuda.graph``. What keeps memory by stream, as tiny-cuda-nn does, would synchronise
    for a fresh one."""
    if stream is None or not stream.used:
        raise DeviceError(
            "a stream that is first seen in a capture: warm up on it, and pass it on as stream=..."
        )
    _device.wait("the start of a capture")
    _device.tape = graph.tape
    try:
        with _on_stream(stream):
            yield
    finally:
        _device.tape = None


def _subclass(original):
    """``torch.Tensor._make_subclass``, which geoopt calls: of a simulated tensor, a class of both
    kinds."""

    def make(cls, data: Tensor, requires_grad: bool = False):
        if not isinstance(data, CudaTensor):
            return original(cls, data, requires_grad)
        if not issubclass(cls, CudaTensor):
            own = {"__new__": functools.partial(_made_by, cls)}
            cls = type(cls.__name__, (CudaTensor, cls), own)
        return CudaTensor.__new__(cls, data.values).requires_grad_(requires_grad)

    return make


def _made_by(first: type, cls: type, *args, **kwargs):
    return first.__new__(cls, *args, **kwargs)


@contextlib.contextmanager
def simulated_cuda() -> Iterator[Device]:
    """Inside, there is one CUDA device. Tensors that were made on it are of no use outside."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        import geoopt.optim  # noqa: F401  (as it is imported it compiles functions, which the pretence would disturb)

    global _device
    functions = {
        "is_available": lambda: True,
        "is_initialized": lambda: True,
        "device_count": lambda: 1,
        "current_device": lambda: 0,
        "is_bf16_supported": lambda *_: True,
        "_lazy_init": lambda: None,
        "get_device_name": lambda *_: "simulated",
        "synchronize": lambda *_: _device.wait("synchronize"),
        "current_stream": lambda *_: _device.streams[-1],
        "Stream": lambda *_, **__: Stream(_device),
        "stream": _on_stream,
        "Event": Event,
        "reset_peak_memory_stats": lambda *_: None,
        "max_memory_allocated": lambda *_: 1_500_000,
        "device": lambda _: contextlib.nullcontext(),
        "CUDAGraph": Graph,
        "graph": _capture,
    }
    # Not the real one's, which a build with CUDA asks its driver for, whether there is one or not.
    accelerator = {
        "current_accelerator": lambda **_: torch.device("cuda"),
        "current_stream": lambda *_: _device.streams[-1],
    }
    methods = {
        "_make_subclass": staticmethod(_subclass(torch.Tensor._make_subclass)),
        "to": _moved,
        "cuda": lambda self, *_, **__: _moved(self, CUDA),
        "cpu": lambda self, *_, **__: _moved(self, CPU),
    }
    makers = mock.patch.multiple(
        torch, tensor=_from_numbers(torch.tensor), as_tensor=_from_numbers(torch.as_tensor)
    )
    tensors = mock.patch.multiple(torch.Tensor, **methods)
    # Constants by device: neither's are the other's.
    forgetting = (
        ssim.window.cache_clear,
        perceptual._constant.cache_clear,
        harmonics.samples_by_place.clear,
    )
    only_lift = torch._C._only_lift_cpu_tensors()
    torch._C._set_only_lift_cpu_tensors(True)  # numbers come to the device by a copy that is seen
    _device = Device()
    for forget in forgetting:
        forget()
    try:
        with (
            mock.patch.multiple(torch.cuda, **functions),
            mock.patch.multiple(torch.accelerator, **accelerator),
            tensors,
            makers,
            _Mode(),
        ):
            yield _device
    finally:
        _device = None
        for forget in forgetting:
            forget()
        torch._C._set_only_lift_cpu_tensors(only_lift)
