"""Files that are read in order to be compared or sent."""

from __future__ import annotations

import fnmatch
import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from ropext.converter.hub.types import RemoteFile

__all__ = ["Outgoing", "Reading", "linked_folders", "matches", "outgoing", "paths_in"]

_CHUNK = 4 << 20

Reading = Callable[[str, int, int], None]
"""Called with a file's path, its bytes read so far and its size."""


@dataclass(frozen=True)
class Outgoing:
    """One file of a checkpoint that is to be published.

    Attributes:
        path: its name within the repository, with forward slashes.
        size: in bytes.
        data: where it is; None for a file that only the base's repository holds.
        known: the SHA-256 of that file.
        reading: told of bytes as they are read to be compared.
    """

    path: str
    size: int
    data: bytes | Path | None
    known: str | None = None
    reading: Reading | None = None

    @cached_property
    def sha256(self) -> str:
        """Digest of the contents."""
        return self.known or self._digest(hashlib.sha256())

    @cached_property
    def blob_id(self) -> str:
        """Git's digest of the contents."""
        return self._digest(hashlib.sha1(b"blob %d\0" % self.size, usedforsecurity=False))

    def read(self) -> bytes:
        """Return the contents of a small file that is here."""
        return self.data.read_bytes() if isinstance(self.data, Path) else self.data or b""

    def equals(self, other: RemoteFile | None) -> bool:
        """Whether a file of a repository has these contents, byte for byte."""
        if other is None or other.size != self.size:
            return False
        return self.sha256 == other.sha256 if other.sha256 else self.blob_id == other.blob_id

    def _digest(self, digest: Any) -> str:
        done = 0
        for chunk in self._chunks():
            digest.update(chunk)
            done += len(chunk)
            if self.reading:
                self.reading(self.path, done, self.size)
        return str(digest.hexdigest())

    def _chunks(self) -> Iterator[bytes]:
        if not isinstance(self.data, Path):
            yield self.data or b""
            return
        with self.data.open("rb") as stream:
            while chunk := stream.read(_CHUNK):
                yield chunk


def outgoing(path: str, data: bytes | Path, known: str | None = None, reading: Reading | None = None) -> Outgoing:
    """Describe a file that is here."""
    return Outgoing(path, len(data) if isinstance(data, bytes) else data.stat().st_size, data, known, reading)


def paths_in(folder: Path) -> Iterator[str]:
    """Yield the files of a folder, hidden ones and those in hidden folders left out."""
    for where, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        inside = Path(where).relative_to(folder)
        yield from (str((inside / name).as_posix()) for name in names if not name.startswith("."))


def linked_folders(folder: Path) -> Iterator[str]:
    """Yield the symbolic links to folders within a folder; they are not followed."""
    for where, folders, _ in os.walk(folder):
        links = [name for name in folders if os.path.islink(os.path.join(where, name))]
        yield from ((Path(where) / name).relative_to(folder).as_posix() for name in links)


def matches(path: str, patterns: Sequence[str]) -> bool:
    """Whether a path fits one of some patterns in lower case."""
    return any(fnmatch.fnmatchcase(path.lower(), pattern) for pattern in patterns)
