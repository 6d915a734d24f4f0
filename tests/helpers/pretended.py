"""CUDA devices that a CPU pretends: what runs on them meets tensors of two devices, waits, and what a kernel refuses.

Tensors say that they lie on `cuda:0` or another one, and are computed on the CPU. As on a GPU an operation refuses
tensors of several devices, and torch's flash kernel what it does not take. Without gradients, and nothing compiled.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map

aten = torch.ops.aten
_MOVES = aten._to_copy.default, aten.copy_.default
_FLASH = aten._scaled_dot_product_flash_attention.default
_NUMBERS = [getattr(Tensor, name) for name in ("item", "tolist", "__float__", "__int__", "__bool__", "__index__")]
_LOOKING = Tensor.__getitem__, Tensor.__setitem__, Tensor.__invert__, Tensor.contiguous
"""Functions for which torch looks for the device itself."""


class Pretended(Tensor):
    """A tensor on a device that is not there."""

    held: Tensor
    waits: list[str]

    @staticmethod
    def __new__(cls, held: Tensor, device: torch.device) -> Pretended:
        """Take a tensor of the CPU."""
        how = {"strides": held.stride(), "storage_offset": held.storage_offset(), "dtype": held.dtype}
        made: Pretended = Tensor._make_wrapper_subclass(cls, held.shape, device=device, **how)
        made.held = held
        return made

    @classmethod
    def __torch_function__(cls, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Ask the tensor that is held, where torch would look for the device."""
        if function in _NUMBERS:
            cls.waits.append(function.__name__)
            return function(*tree_map(_held, args))
        if function in _LOOKING:
            device = _common(function, _tensors(args))
            found = function(*tree_map(_held, args))
            return found if found is None else Pretended(found, device)
        with torch._C.DisableTorchFunctionSubclass():
            return function(*args, **(kwargs or {}))

    @classmethod
    def __torch_dispatch__(cls, operation: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Refuse: `Devices` runs what is run within `pretended()`."""
        raise RuntimeError(f"{operation} outside of pretended()")


class Devices(TorchDispatchMode):
    """Runs operations.

    Attributes:
        waits: the functions and operations in which the host has waited for a device.
        kernels: queries and keys of each call of the flash kernel.
    """

    def __init__(self) -> None:
        super().__init__()
        self.waits: list[str] = []
        Pretended.waits = self.waits
        self.kernels: list[tuple[int, int]] = []

    def __torch_dispatch__(self, operation: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run one."""
        kwargs = kwargs or {}
        tensors = _tensors((args, kwargs))
        asked = kwargs.get("device")
        device = _common(operation, tensors) if asked is None else torch.device(asked)
        if device.type == "cuda" and device.index is None:
            device = torch.device("cuda:0")
        on_host = {x.device.type == "cpu" for x in tensors} | {device.type == "cpu"}
        if operation is aten.nonzero.default or (operation in _MOVES and len(on_host) > 1):
            self.waits.append(str(operation))
        how = {**kwargs, "device": "cpu"} if asked is not None else kwargs
        held_args, how = tree_map(_held, args), tree_map(_held, how)
        if operation is _FLASH:
            self.kernels.append((args[0].shape[2], args[1].shape[2]))
            found = _flash(*held_args, **how)
        else:
            if operation is aten._softmax.default and held_args[2]:  # of 16 bits to 32, which CPUs do in two
                held_args = held_args[0].float(), held_args[1], False
            found = operation(*held_args, **how)
        return found if device.type == "cpu" else tree_map(lambda x: _wrapped(x, device, tensors), found)


def _tensors(values: Any) -> list[Tensor]:
    return [x for x in tree_flatten(values)[0] if isinstance(x, Tensor)]


def _held(x: Any) -> Any:
    return x.held if isinstance(x, Pretended) else x


def _common(operation: Any, tensors: list[Tensor]) -> torch.device:
    """The device of an operation's tensors; a number on the host goes with any."""
    if operation is aten.copy_.default:
        return tensors[0].device
    devices = {x.device for x in tensors if x.dim() or isinstance(x, Pretended)}
    if len(devices) > 1:
        raise RuntimeError(f"Expected all tensors to be on the same device, but {operation} got {devices}")
    return devices.pop() if devices else torch.device("cpu")


def _wrapped(x: Any, device: torch.device, given: list[Tensor]) -> Any:
    """A result; one that was written in place is what was given."""
    if not isinstance(x, Tensor) or isinstance(x, Pretended):
        return x
    return next((each for each in given if _held(each) is x), Pretended(x, device))


def _flash(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    dropout: float = 0.0,
    causal: bool = False,
    debug: bool = False,
    *,
    scale: float,
) -> tuple[Any, ...]:
    """Torch's flash kernel for CUDA by its formula, with what it demands."""
    if query.dtype not in (torch.float16, torch.bfloat16) or not query.dtype == key.dtype == value.dtype:
        raise RuntimeError("FlashAttention only support fp16 and bf16 data type")
    if query.shape[-1] % 8 or query.shape[-1] > 256 or not query.shape[-1] == key.shape[-1] == value.shape[-1]:
        raise RuntimeError(f"FlashAttention takes no heads of {query.shape[-1]} and {value.shape[-1]} dimensions")
    if any(x.stride(-1) != 1 for x in (query, key, value)):
        raise RuntimeError("Input tensor must have contiguous last dimension")
    if torch.cuda.get_device_properties("cuda").major < 8:
        raise RuntimeError("FlashAttention only supports Ampere GPUs or newer.")
    if causal and query.shape[2] != key.shape[2]:
        raise RuntimeError("to which corner such a mask would be aligned is not asked here")
    key, value = (x.repeat_interleave(query.shape[1] // key.shape[1], dim=1) for x in (key, value))
    logits = query.float() @ key.float().mT * scale
    if causal:
        logits = logits.masked_fill(torch.ones_like(logits, dtype=torch.bool).triu(1), -torch.inf)
    out = (logits.softmax(-1) @ value.float()).to(query.dtype)
    none = torch.empty(0)
    rest = none, none, query.shape[2], key.shape[2], none, none, none
    return out.transpose(1, 2).contiguous().transpose(1, 2), logits.logsumexp(-1), *rest


@contextmanager
def pretended(capability: int = 9) -> Iterator[Devices]:
    """Pretend that torch has CUDA devices, of a compute capability."""
    before = torch._C._only_lift_cpu_tensors()
    torch._C._set_only_lift_cpu_tensors(True)
    try:
        with pytest.MonkeyPatch.context() as patch, Devices() as devices:
            patch.setattr(torch.cuda, "_lazy_init", lambda: None)
            patch.setattr(torch.cuda, "get_device_properties", lambda device: SimpleNamespace(major=capability))
            patch.setattr(torch.__future__, "_overwrite_module_params_on_conversion", True)
            yield devices
    finally:
        torch._C._set_only_lift_cpu_tensors(before)
