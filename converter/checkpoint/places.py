"""Where the files of a checkpoint are: in a folder, or on the Hub, which is asked for no more than is needed."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Protocol

from ropext.converter.errors import RopextError, UsageError
from ropext.converter.files.contents import Reading, linked_folders, outgoing, paths_in
from ropext.converter.files.json_object import MAX_BYTES, read_bounded
from ropext.converter.files.links import real_path
from ropext.converter.files.pickles import HEAD
from ropext.converter.files.safetensors_header import TensorType, tensor_types
from ropext.converter.hub import client as hub
from ropext.converter.hub.types import Repository
from ropext.converter.names import PROVENANCE

from .roles import SourceFile, inside, source_file

__all__ = ["Place", "Shapes", "find_place", "in_folder", "on_hub"]

_SMALL = 1 << 20
"""Bytes of a file of a repository that is fetched to be looked at, whether the Hub knows its digest or not."""

Shapes = Mapping[str, Sequence[int]]
"""Of tensors, by name."""


class Place(Protocol):
    """A folder or a repository.

    Attributes:
        name: what to call it.
        revision: the commit, of a repository.
        here: whether its weights are on this machine.
    """

    name: str
    revision: str | None
    here: bool

    @property
    def paths(self) -> frozenset[str]:
        """The paths of its files, except hidden ones."""

    @property
    def entries(self) -> frozenset[str]:
        """The names of the files and folders at its top."""

    @property
    def folder(self) -> Path:
        """Where its small files are on this machine."""

    def has(self, path: str) -> bool:
        """Whether there is such a file."""

    def size(self, path: str) -> int:
        """Return a file's bytes."""

    def sha256(self, path: str) -> str:
        """Return a file's digest."""

    def read(self, path: str) -> bytes:
        """Return what a small file holds."""

    def head(self, path: str) -> bytes:
        """Return how a file begins."""

    def types(self, path: str) -> Mapping[str, TensorType]:
        """Read the header of a file of weights, which has to be whole."""

    def shapes(self, path: str) -> Shapes:
        """Read no more of that header than the shapes of its tensors."""

    def weights(self, path: str) -> SourceFile:
        """Describe a file of weights."""

    def file(self, path: str) -> Path:
        """Return where a file is on this machine."""

    def fetch(self, paths: Iterable[str]) -> None:
        """Get small files here, all in one go."""

    def astray(self) -> list[tuple[str, str]]:
        """Return what lies elsewhere than its name says, and how that is: links, which are not followed out of it."""


def find_place(source: str, revision: str | None, reading: Reading | None) -> Place:
    """Find a converted folder, or a repository on the Hub.

    Args:
        source: a folder or a Hub id; a folder of that name wins.
        revision: branch, tag or commit of a Hub id.
        reading: told of bytes as they are read.

    Raises:
        UsageError: it is neither, or nothing that ropext converted.
        HubFailure: the Hub refuses or cannot be reached.
    """
    place: Place
    folder = Path(source).expanduser()
    if source and folder.is_dir():
        if revision is not None:
            raise UsageError(f"{source}: is a local folder, so --revision {revision} does not apply to it.")
        place = _Folder(folder, source, reading)
    elif hub.is_hub_id(source):
        place = _OnHub(hub.look_up(source, revision), reading)
    else:
        named = source or repr(source)
        raise UsageError(f"{named}: there is no such folder, and it is no Hub id (`organisation/name`).")
    if PROVENANCE not in place.paths:
        raise UsageError(f"{source}: is nothing that ropext converted: it has no {PROVENANCE}.")
    return place


def in_folder(folder: Path) -> Place:
    """Return a folder as a place."""
    return _Folder(folder, str(folder))


def on_hub(repository: Repository) -> Place:
    """Return a repository as a place."""
    return _OnHub(repository)


class _Folder:
    """A folder of this machine."""

    here = True
    revision: str | None = None

    def __init__(self, folder: Path, name: str, reading: Reading | None = None) -> None:
        self.name, self.folder, self._reading = name, folder, reading

    @cached_property
    def paths(self) -> frozenset[str]:
        return frozenset(paths_in(self.folder))

    @cached_property
    def entries(self) -> frozenset[str]:
        return frozenset(os.listdir(self.folder))

    def has(self, path: str) -> bool:
        return self.file(path).exists()

    def astray(self) -> list[tuple[str, str]]:
        found = [(path, "is a link to a folder") for path in linked_folders(self.folder)]
        return found + [
            (path, "is a link out of the folder") for path in sorted(self.paths) if not self._is_inside(path)
        ]

    def _is_inside(self, path: str) -> bool:
        try:
            inside(self.folder, path)
        except RopextError:
            return False
        return True

    def fetch(self, paths: Iterable[str]) -> None:
        pass

    def file(self, path: str) -> Path:
        """Nothing but weights, which may be linked on purpose, is ever opened outside of the folder."""
        real = real_path(self.folder / path)
        weights = path.endswith(".safetensors") and re.fullmatch(r".*\.safetensors|[0-9a-f]{64}", real.name)
        return real if weights else inside(self.folder, path)

    def size(self, path: str) -> int:
        return self.file(path).stat().st_size

    def sha256(self, path: str) -> str:
        if not self.file(path).is_file():
            raise RopextError(f"{path}: is no regular file")
        return outgoing(path, self.file(path), None, self._reading).sha256

    def read(self, path: str) -> bytes:
        return read_bounded(self.file(path), path)

    def head(self, path: str) -> bytes:
        with self.file(path).open("rb") as stream:
            return stream.read(HEAD)

    def types(self, path: str) -> Mapping[str, TensorType]:
        return tensor_types(self.file(path), str(self.folder / path))

    def shapes(self, path: str) -> Shapes:
        return {name: found.shape for name, found in self.types(path).items()}

    def weights(self, path: str) -> SourceFile:
        return source_file(self.folder, path, "weights")


class _OnHub:
    """A repository. Small files are fetched; of large ones, the Hub knows the digests."""

    here = False

    def __init__(self, repository: Repository, reading: Reading | None = None) -> None:
        self.name = repository.repo_id
        self.revision: str | None = repository.revision
        self._repository, self._reading = repository, reading
        self._fetched: dict[str, Path] = {}
        self.paths = frozenset(
            path for path in repository.files if not any(part.startswith(".") for part in path.split("/"))
        )
        self.entries = frozenset(path.split("/")[0] for path in repository.files if not path.startswith("."))

    @cached_property
    def folder(self) -> Path:
        return hub.fetch(self.name, self.revision, hub.SMALL).folder.resolve()

    def has(self, path: str) -> bool:
        return path in self._repository.files

    def astray(self) -> list[tuple[str, str]]:
        return []

    def fetch(self, paths: Iterable[str]) -> None:
        wanted = [path for path in paths if path in self.paths and not self._repository.files[path].sha256]
        folder = hub.fetch_files(self._repository, wanted)
        self._fetched |= {path: folder / path for path in wanted}

    def file(self, path: str) -> Path:
        if path not in self._fetched:
            self._fetched[path] = hub.fetch_files(self._repository, [path]) / path
        return self._fetched[path]

    def size(self, path: str) -> int:
        return self._repository.files[path].size

    def sha256(self, path: str) -> str:
        return self._repository.files[path].sha256 or outgoing(path, self.file(path), None, self._reading).sha256

    def read(self, path: str) -> bytes:
        if self.size(path) > MAX_BYTES:
            raise RopextError(f"{path}: {self.size(path)} bytes is too long for such a file.")
        return self.file(path).read_bytes()

    def head(self, path: str) -> bytes:
        if self.size(path) > _SMALL:
            return hub.beginning(self._repository, path, HEAD)
        return self.file(path).read_bytes()[:HEAD]

    def types(self, path: str) -> Mapping[str, TensorType]:
        return {name: TensorType(*found) for name, found in hub.tensors(self._repository, path).items()}

    def shapes(self, path: str) -> Shapes:
        return {name: found.shape for name, found in self.types(path).items()}

    def weights(self, path: str) -> SourceFile:
        held = self._repository.files[path]
        return SourceFile(path, "weights", self.folder / path, held.size, held.sha256)
