"""A safetensors file, checked by its header and its size alone; tensors are not read.

Layout: 8 bytes, little-endian, the length of a JSON object; the object; the tensors, end to end.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ropext.converter.errors import RopextError

from . import json_object

__all__ = ["header_length", "tensor_names"]

MAX_HEADER_BYTES = json_object.MAX_BYTES

_BITS = {
    **dict.fromkeys(("F4", "F6_E2M3", "F6_E3M2"), 0),  # packed in ways of their own
    **dict.fromkeys(("BOOL", "U8", "I8", "F8_E5M2", "F8_E4M3", "F8_E8M0"), 8),
    **dict.fromkeys(("U16", "I16", "F16", "BF16"), 16),
    **dict.fromkeys(("U32", "I32", "F32"), 32),
    **dict.fromkeys(("U64", "I64", "F64", "C64"), 64),
}


def tensor_names(file: Path, name: str) -> set[str]:
    """Return the names of a file's tensors, once its size is known to be what its header says.

    Args:
        file: where it is.
        name: what to call it in messages.

    Raises:
        RopextError: it is cut off, longer than it should be, or no safetensors file.
    """
    start = 8 + header_length(file, name)
    with file.open("rb") as stream:
        header = json_object.parse_object(stream.read(start)[8:], f"{name} (header)")
    header.pop("__metadata__", None)
    expected, found = start + _extent(header, name), file.stat().st_size
    if found != expected:
        fault = "cut off" if found < expected else "longer than its header says"
        raise RopextError(f"{name}: {fault}: expected {expected} bytes, found {found}; download it again.")
    _check_sizes(header, name)
    return set(header)


def header_length(file: Path, name: str) -> int:
    """Return how many bytes of header follow the first eight.

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


def _extent(header: Mapping[str, Any], name: str) -> int:
    """Return how many bytes of tensors follow a header, which has to place them end to end."""
    end = 0
    try:
        for start, stop in sorted(_whole(*entry["data_offsets"]) for entry in header.values()):
            if start != end or stop < start:
                raise RopextError(f"{name}: its header leaves a gap or overlaps at byte {start}; download it again.")
            end = stop
    except (TypeError, KeyError, ValueError):
        raise RopextError(f"{name}: a tensor in its header has no data_offsets; download it again.") from None
    return end


def _whole(start: object, stop: object) -> tuple[int, int]:
    if type(start) is not int or type(stop) is not int:
        raise TypeError
    return start, stop


def _check_sizes(header: Mapping[str, Any], name: str) -> None:
    """Hold each tensor's bytes against its shape and type, where they are known."""
    for tensor, entry in header.items():
        shape, dtype = entry.get("shape"), entry.get("dtype")
        bits = _BITS.get(dtype) if isinstance(dtype, str) else None
        start, stop = entry["data_offsets"]
        if not isinstance(shape, list) or not all(type(size) is int and size >= 0 for size in shape):
            raise RopextError(f"{name}: {tensor!r} in its header has no shape; download it again.")
        if bits and _product(shape, stop - start) * bits != (stop - start) * 8:
            raise RopextError(f"{name}: {tensor!r} has {stop - start} bytes for {dtype} {shape}; download it again.")


def _product(shape: list[int], limit: int) -> int:
    """Multiply, but not beyond what could be true: -1 then."""
    if 0 in shape:
        return 0
    product = 1
    for size in shape:
        product *= size
        if product > limit:
            return -1
    return product
