"""`ropext.json`, the record in a converted checkpoint: what it was made from, by what, and the files that were written.

It is read and written here; `files/foreign.py`, which must not trust it, looks up the names of files in it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any

from ropext.converter import __version__
from ropext.converter.checkpoint.roles import inside
from ropext.converter.errors import RopextError, UsageError
from ropext.converter.files.json_object import parse_object, read_bounded
from ropext.converter.hub.types import LocalSource
from ropext.converter.model_code import sha256
from ropext.converter.names import PROVENANCE
from ropext.converter.preset import Preset
from ropext.converter.text import printable

from .config import dump_json

__all__ = ["Entry", "Record", "RecordedPreset", "WrittenFile", "read_record", "stray_faults"]

FORMAT = 1
_SHOWN = 20
"""Faults that are named."""
_NO_FOLDER = "base"
"""What a base is called whose name was not recorded."""


@dataclass(frozen=True)
class WrittenFile:
    """One file as it was written.

    Attributes:
        path: its name within the output, with forward slashes.
        method: `reflink`, `hardlink`, `symlink`, `copy` or `generate`.
        size: in bytes.
        sha256: its digest; None for linked weights, which are not read, unless a download cache knew it.
    """

    path: str
    method: str
    size: int
    sha256: str | None


@dataclass(frozen=True)
class Entry:
    """Digest and size of a file; the digest is None for weights that were linked unread."""

    sha256: str | None
    size: int

    @classmethod
    def of(cls, data: bytes) -> Entry:
        """Describe a file that holds these bytes."""
        return cls(sha256(data), len(data))


@dataclass(frozen=True)
class RecordedPreset:
    """A preset as it was used: its name, the text of its file, and each `--set`."""

    name: str
    text: str
    overrides: tuple[str, ...] = ()


@dataclass(frozen=True)
class Record:
    """What `ropext.json` says.

    Attributes:
        method: the method's name.
        native: stock classes load the checkpoint, without remote code.
        preset: what it was converted with.
        source: where the base came from; its folder is no more than a name.
        ropext_version: the ropext that made it.
        link: how the weights got there, such as `hardlink`.
        files: every file but `ropext.json` itself, in the order in which it was written.
        sha256: digest of all of it but `files`, which the files themselves give away.
    """

    method: str
    native: bool
    preset: RecordedPreset
    source: LocalSource
    ropext_version: str = __version__
    link: str = ""
    files: Mapping[str, Entry] = field(default_factory=dict)
    sha256: str = ""

    @classmethod
    def of(cls, preset: Preset, source: LocalSource, *, native: bool) -> Record:
        """Begin the record of a conversion, of which nothing is written yet."""
        # No date and no path of this machine: the same conversion gives the same file, and it may be published.
        used = RecordedPreset(preset.name, preset.text, tuple(preset.overrides))
        return cls(preset.method, native, used, source)

    @classmethod
    def parse(cls, data: bytes, name: str) -> Record:
        """Read the file.

        Args:
            data: what it holds.
            name: of the folder or repository, for messages.

        Raises:
            RopextError: it is damaged, with every fault found, or a newer ropext's.
        """
        where = f"{name}: {PROVENANCE}"
        found = parse_object(data, where)
        if found.get("format") != FORMAT:
            raise RopextError(
                f"{where}: has format {found.get('format')!r}, and this ropext, {__version__}, reads {FORMAT}."
            )
        faults = [f"{where}: {key}: {fault}; convert again." for key, fault in _faults(found)]
        if faults:
            more = [f"{where}: and {len(faults) - _SHOWN} more faults."] if len(faults) > _SHOWN else []
            raise RopextError("\n".join(faults[:_SHOWN] + more))
        preset, source = found["preset"], found["source"]
        return cls(
            method=found["method"],
            native=found["native"],
            preset=RecordedPreset(preset["name"], preset["text"], tuple(preset["overrides"])),
            source=LocalSource(Path(source["folder"] or _NO_FOLDER), source["repo_id"], source["revision"]),
            ropext_version=found["ropext_version"],
            link=found["link"],
            files={path: Entry(entry["sha256"], entry["bytes"]) for path, entry in found["files"].items()},
            sha256=found["sha256"],
        )

    @property
    def code(self) -> dict[str, str | None]:
        """The digests of the code."""
        return {path: entry.sha256 for path, entry in self.files.items() if path.endswith(".py")}

    def sealed(self) -> Record:
        """Return it with the digest that belongs to it."""
        return replace(self, sha256=sha256(dump_json(self._rest())))

    def with_written(self, files: Iterable[WrittenFile], linked: Iterable[str]) -> Record:
        """Return the finished record of a conversion.

        Args:
            files: what was written.
            linked: those that were planned as links.
        """
        written = {file.path: file for file in files}
        link = ", ".join(sorted({written[path].method for path in linked if path in written}))
        entries = {path: Entry(file.sha256, file.size) for path, file in written.items()}
        return replace(self, link=link, files=entries).sealed()

    def with_files(self, files: Mapping[str, Entry]) -> Record:
        """Return it with other digests of some files; its own digest does not depend on them."""
        return replace(self, files={**self.files, **files})

    def dump(self) -> bytes:
        """Write the file."""
        files = {path: {"sha256": entry.sha256, "bytes": entry.size} for path, entry in self.files.items()}
        return dump_json({**self._rest(), "sha256": self.sha256, "files": files})

    def _rest(self) -> dict[str, Any]:
        source = self.source
        return {
            "format": FORMAT,
            "ropext_version": self.ropext_version,
            "method": self.method,
            "native": self.native,
            "preset": {
                "name": self.preset.name,
                "text": self.preset.text,
                "overrides": list(self.preset.overrides),
            },
            "source": {
                "repo_id": source.repo_id,
                "revision": source.revision,
                "folder": None if source.repo_id else source.folder.name,
            },
            "link": self.link,
            "code": self.code,
        }


def read_record(folder: Path) -> Record:
    """Read the record of a converted folder.

    Raises:
        UsageError: the folder has none.
        RopextError: it is damaged.
    """
    file = folder / PROVENANCE
    if not file.exists():
        raise UsageError(f"{folder}: is no folder that ropext converted: it has no {PROVENANCE}.")
    return Record.parse(read_bounded(inside(folder, PROVENANCE), str(file)), str(folder))


def stray_faults(data: bytes, record: Record) -> Iterator[str]:
    """Yield how a file that could be read differs from what ropext wrote.

    Args:
        data: the file.
        record: what was read from it.
    """
    if record.dump() != data:
        yield f"{PROVENANCE}: is not laid out as ropext writes it"
    if record.sealed() != record:
        yield f"{PROVENANCE}: is not what its sha256 says"
    if record.code != parse_object(data, PROVENANCE).get("code"):
        yield f"{PROVENANCE}: code: is not as under files"


# What it has to hold

_TEXT = (str,)
_MAYBE = (str, type(None))
_KEYS: Mapping[str, tuple[type, ...]] = {
    "ropext_version": _TEXT,
    "method": _TEXT,
    "native": (bool,),
    "preset": (dict,),
    "preset.name": _TEXT,
    "preset.text": _TEXT,
    "preset.overrides": (list,),
    "source": (dict,),
    "source.repo_id": _MAYBE,
    "source.revision": _MAYBE,
    "source.folder": _MAYBE,
    "link": _TEXT,
    "sha256": _TEXT,
    "files": (dict,),
}


def _faults(found: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for path, kinds in _KEYS.items():
        outer, _, key = path.rpartition(".")
        holder = found.get(outer) if outer else found
        if isinstance(holder, dict) and not isinstance(holder.get(key, ...), kinds):
            yield path, "is damaged" if key in holder else "is missing"
    preset, files = found.get("preset"), found.get("files")
    overrides = preset.get("overrides") if isinstance(preset, dict) else None
    if isinstance(overrides, list) and not all(isinstance(each, str) for each in overrides):
        yield "preset.overrides", "is damaged"
    for path, entry in files.items() if isinstance(files, dict) else ():
        if not _is_plain(path) or not _is_entry(entry):
            yield f"files: {printable(path)[:200]}", "is damaged"


def _is_entry(entry: object) -> bool:
    if not isinstance(entry, dict) or not isinstance(entry.get("sha256", ...), str | None):
        return False
    return type(entry.get("bytes")) is int


def _is_plain(path: str) -> bool:
    parts = PurePosixPath(path).parts
    return bool(parts) and not PurePosixPath(path).is_absolute() and ".." not in parts and "\\" not in path
