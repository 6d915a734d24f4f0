"""A safetensors file, checked by its header and its size alone; tensors are not read.

Layout: 8 bytes, little-endian, the length of a JSON object; the object; the tensors, end to end.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .errors import RopextError
from .json_object import parse_object

__all__ = ["tensor_names"]

MAX_HEADER_BYTES = 100_000_000  # what the safetensors library accepts


def tensor_names(file: Path, name: str) -> set[str]:
    """Return the names of a file's tensors, once its size is known to be what its header says.

    Args:
        file: where it is.
        name: what to call it in messages.

    Raises:
        RopextError: it is cut off, longer than it should be, or no safetensors file.
    """
    header, start = _read_header(file, name)
    header.pop("__metadata__", None)
    expected, found = start + _extent(header, name), file.stat().st_size
    if found != expected:
        fault = "cut off" if found < expected else "longer than its header says"
        raise RopextError(f"{name}: {fault}: expected {expected} bytes, found {found}; download it again.")
    return set(header)


def _read_header(file: Path, name: str) -> tuple[dict[str, Any], int]:
    """Return the header and the byte at which the tensors begin."""
    with file.open("rb") as stream:
        prefix = stream.read(8)
        if prefix == b"version ":
            raise RopextError(f"{name}: is a Git LFS pointer, not the weights; run `git lfs pull`.")
        found = file.stat().st_size
        size = struct.unpack("<Q", prefix)[0] if len(prefix) == 8 else 0
        if not 2 <= size <= min(MAX_HEADER_BYTES, found - 8):
            raise RopextError(
                f"{name}: not a safetensors file, or cut off: {found} bytes, "
                f"of which its header claims {size}; download it again."
            )
        return parse_object(stream.read(size), f"{name} (header)"), 8 + size


def _extent(header: Mapping[str, Any], name: str) -> int:
    """Return how many bytes of tensors follow a header, which has to place them end to end."""
    end = 0
    try:
        for start, stop in sorted((int(a), int(b)) for a, b in (entry["data_offsets"] for entry in header.values())):
            if start != end or stop < start:
                raise RopextError(f"{name}: its header leaves a gap or overlaps at byte {start}; download it again.")
            end = stop
    except (TypeError, KeyError, ValueError):
        raise RopextError(f"{name}: a tensor in its header has no data_offsets; download it again.") from None
    return end
