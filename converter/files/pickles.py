"""Whether a file is a pickle, or an archive that may hold one: no tokenizer, licence or setting is either."""

from __future__ import annotations

import pickletools
import re

__all__ = ["HEAD", "is_pickled"]

HEAD = 1 << 16
"""Bytes of a file that are looked at."""

_ARCHIVES = (
    b"PK\x03\x04",
    b"\x1f\x8b",
    b"BZh",
    b"\xfd7zXZ\x00",
    b"\x28\xb5\x2f\xfd",
    b"\x04\x22\x4d\x18",
    b"7z\xbc\xaf",
)
_OTHERS = (b"\x93NUMPY", b"\x89HDF\r\n\x1a\n")
_BINARY = re.compile(rb"\x80[\x01-\x05]")
"""How a pickle begins, of protocol 2 and later ones."""

_NAMES = {"GLOBAL", "INST", "STACK_GLOBAL"}
_CALLS = {"REDUCE", "INST", "OBJ", "NEWOBJ", "NEWOBJ_EX", "BUILD"}


def is_pickled(head: bytes) -> bool:
    """Whether a file that begins so is a pickle of any protocol, or packed in a way that could hide one.

    Those of protocol 0 and 1 have no mark: what can be read as one, up to a call of something that it names, counts.
    """
    if head.startswith((*_ARCHIVES, *_OTHERS)) or head[257:262] == b"ustar" or _BINARY.match(head):
        return True
    named = False
    try:
        for opcode, argument, _ in pickletools.genops(head):
            if opcode.name in ("GLOBAL", "INST") and not re.fullmatch(r"[\w.]+ [\w.]+", str(argument)):
                return False
            named = named or opcode.name in _NAMES
            if named and opcode.name in _CALLS:
                return True
    except Exception:  # what is no pickle fails in any way
        return False
    return False
