"""Devices and number types by the names that options take."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from ropext.converter.errors import UsageError

__all__ = ["device_of", "dtype_of"]


def device_of(name: str) -> str:
    """The device that a name stands for: `auto` is all GPUs that there are, else the CPU.

    Raises:
        UsageError: there is no such device.
    """
    if name == "auto":
        return "auto" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError) as error:
        raise UsageError(f"--device {name}: {str(error).splitlines()[0]}") from None
    return name


def dtype_of(name: str, config: Mapping[str, Any], device: str) -> torch.dtype:
    """The type that a name stands for: `auto` is the configuration's, on a CPU float32.

    Raises:
        UsageError: there is no such type.
    """
    if name == "auto":
        name = "float32" if device == "cpu" else config.get("dtype") or config.get("torch_dtype") or "float32"
    dtype = getattr(torch, name, None)
    if not isinstance(dtype, torch.dtype) or not dtype.is_floating_point:
        raise UsageError(f"--dtype {name}: there are float32, bfloat16 and float16")
    return dtype
