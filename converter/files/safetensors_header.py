"""The header of a safetensors file: the names and shapes of its tensors, which are not read.

The library checks that the file is as long as its header says, and each tensor as long as its type and shape say.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import NamedTuple

from ropext.converter.errors import RopextError
from ropext.converter.text import printable

from . import json_object

__all__ = ["TensorType", "header_length", "tensor_shapes", "tensor_types"]

MAX_HEADER_BYTES = json_object.MAX_BYTES


class TensorType(NamedTuple):
    """What a header says of a tensor.

    Attributes:
        dtype: the type of its numbers, as the format spells it: `BF16`.
        shape: its dimensions.
    """

    dtype: str
    shape: tuple[int, ...]


def tensor_shapes(file: Path, name: str) -> dict[str, tuple[int, ...]]:
    """Return the shapes of a file's tensors by name, once the file is known to be whole; see `tensor_types`."""
    return {each: found.shape for each, found in tensor_types(file, name).items()}


def tensor_types(file: Path, name: str) -> dict[str, TensorType]:
    """Return the types of a file's tensors by name, once the file is known to be whole.

    Args:
        file: where it is.
        name: what to call it in messages.

    Raises:
        RopextError: it is cut off, longer than it should be, or no safetensors file.
    """
    from safetensors import SafetensorError, safe_open

    header_length(file, name)
    try:
        with safe_open(file, framework="numpy") as tensors:
            slices = {each: tensors.get_slice(each) for each in tensors.keys()}  # noqa: SIM118
            return {name: TensorType(each.get_dtype(), tuple(each.get_shape())) for name, each in slices.items()}
    except SafetensorError as error:
        reason = printable(str(error))[:300].removeprefix("Error while deserializing header: ")
        raise RopextError(f"{name}: not a safetensors file, or cut off ({reason}); download it again.") from None


def header_length(file: Path, name: str) -> int:
    """Return how many bytes of header follow the first eight, which say it.

    Args:
        file: where it is.
        name: what to call it in messages.

    Raises:
        RopextError: it is no safetensors file.
    """
    if not file.is_file():
        raise RopextError(f"{name}: is no regular file.")
    with file.open("rb") as stream:
        prefix = stream.read(8)
    if prefix == b"version ":
        raise RopextError(f"{name}: is a Git LFS pointer, not the weights; run `git lfs pull`.")
    found = file.stat().st_size
    size: int = struct.unpack("<Q", prefix)[0] if len(prefix) == 8 else 0
    if not 2 <= size <= min(MAX_HEADER_BYTES, found - 8):
        raise RopextError(
            f"{name}: not a safetensors file, or cut off: {found} bytes, "
            f"of which its header claims {size}; download it again."
        )
    return size
