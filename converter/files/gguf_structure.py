"""Whether a GGUF file's own lengths and counts can be true, before a library believes them.

Layout: magic, version, how many tensors and keys; the keys with their values; the tensors' names, shapes and places.
"""

from __future__ import annotations

import mmap
import struct
from pathlib import Path

__all__ = ["check_structure"]

MAX_ENTRIES = 65_536
"""Keys, and tensors."""

MAX_ELEMENTS = 4_000_000
"""Entries of all arrays: several times the largest vocabulary with its merges."""

MAX_DIMENSIONS = 8

_SIZES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
_STRING, _ARRAY = 8, 9


def check_structure(file: Path) -> None:
    """Walk through the metadata of a GGUF file.

    Raises:
        ValueError: it is none, cut off, or claims more than it can hold.
    """
    if not file.is_file():
        raise ValueError("it is no regular file")
    with file.open("rb") as stream:
        if not stream.read(1):
            raise ValueError("it is empty")
        with mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
            _Walk(data).all()


class _Walk:
    """Reads from front to back and never beyond the end."""

    def __init__(self, data: mmap.mmap) -> None:
        self.data, self.at, self.order, self.elements = data, 0, "<", 0

    def all(self) -> None:
        if self.data[:4] != b"GGUF":
            raise ValueError("it does not begin with GGUF")
        self.at = 4
        if self.number("I") & 0xFFFF == 0:
            self.order = ">"  # a file for machines of the other byte order
        tensors, keys = self.number("Q"), self.number("Q")
        if max(tensors, keys) > MAX_ENTRIES:
            raise ValueError(f"it claims {tensors} tensors and {keys} keys")
        for _ in range(keys):
            self.text()
            self.value(self.number("I"))
        for _ in range(tensors):
            self.tensor()

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

    def tensor(self) -> None:
        self.text()
        dimensions = self.number("I")
        if dimensions > MAX_DIMENSIONS:
            raise ValueError(f"byte {self.at}: a tensor of {dimensions} dimensions")
        shape = [self.number("Q") for _ in range(dimensions)]
        self.skip(4)
        if max(self.number("Q"), *shape, 0) > 2**40:
            raise ValueError(f"byte {self.at}: a tensor of shape {shape} cannot be in it")
