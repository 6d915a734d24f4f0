"""Whether a GGUF file's metadata is as long as it says, before the library believes it.

The library refuses most of what is wrong. It does not notice that a value is cut off, and never ends with an array that
claims to be long. Layout: magic, version, how many tensors and keys; the keys with their values; the tensors.
"""

from __future__ import annotations

import mmap
import struct
from pathlib import Path

__all__ = ["check_structure"]

MAX_ELEMENTS = 4_000_000
"""Entries of all arrays: several times the largest vocabulary with its merges."""

_SIZES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
_STRING, _ARRAY = 8, 9


def check_structure(file: Path) -> None:
    """Walk through the metadata of a GGUF file.

    Raises:
        ValueError: it is empty, cut off, or claims more than it can hold.
    """
    with file.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
        _Walk(data).all()


class _Walk:
    """Reads from front to back and never beyond the end."""

    def __init__(self, data: mmap.mmap) -> None:
        self.data, self.at, self.order, self.elements = data, 0, "<", 0

    def all(self) -> None:
        self.at = 4
        if self.number("I") & 0xFFFF == 0:
            self.order = ">"  # a file for machines of the other byte order
        self.skip(8)  # how many tensors there are
        for _ in range(self.number("Q")):
            self.text()
            self.value(self.number("I"))

    def skip(self, count: int) -> None:
        if count > len(self.data) - self.at:
            raise ValueError(f"byte {self.at} claims {count} bytes that follow, and it has {len(self.data)}")
        self.at += count

    def number(self, kind: str) -> int:
        start = self.at
        self.skip(struct.calcsize(kind))
        return int(struct.unpack_from(self.order + kind, self.data, start)[0])

    def text(self) -> None:
        self.skip(self.number("Q"))

    def value(self, kind: int) -> None:
        if kind == _STRING:
            self.text()
        elif kind == _ARRAY:
            self.array()
        elif kind in _SIZES:
            self.skip(_SIZES[kind])
        else:
            raise ValueError(f"byte {self.at}: there is no type {kind}")

    def array(self) -> None:
        kind, count = self.number("I"), self.number("Q")
        self.elements += count
        if self.elements > MAX_ELEMENTS:
            raise ValueError(f"byte {self.at}: more than {MAX_ELEMENTS} entries of arrays")
        if kind == _ARRAY:
            raise ValueError(f"byte {self.at}: arrays of arrays are not supported")
        if kind in _SIZES:
            self.skip(count * _SIZES[kind])
            return
        for _ in range(count):
            self.value(kind)
