"""Writing a planned checkpoint, whole or not at all; `config.json`, without which nothing can be loaded, comes last."""

from __future__ import annotations

import hashlib
import stat
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ropext.converter.checkpoint.roles import stamp_of
from ropext.converter.errors import RopextError
from ropext.converter.files import links
from ropext.converter.files.atomic_folder import (
    explained,
    move_into_place,
    parents_of,
    scratch,
    terminated_as_exception,
)
from ropext.converter.files.links import LinkMode
from ropext.converter.files.replace import replace_file
from ropext.converter.model_code import sha256
from ropext.converter.names import CONFIG, PROVENANCE

from .config import dump_json
from .output import require_place
from .plan import Plan, PlannedFile
from .record import WrittenFile

__all__ = ["Progress", "Result", "write"]

Progress = Callable[[str, int, int], None]
"""Called with a file's path, its bytes copied so far and its size."""

_CHUNK = 4 << 20
_READ_ANYWAY = 1 << 28
"""Bytes of linked weights up to which they are read for their digests unasked."""


@dataclass(frozen=True)
class Result:
    """A finished conversion.

    Attributes:
        output: the folder.
        plan: what was planned.
        files: what was written, in order.
    """

    output: Path
    plan: Plan
    files: tuple[WrittenFile, ...]

    @property
    def methods(self) -> dict[str, int]:
        """Files by the method that made them."""
        return dict(Counter(file.method for file in self.files))

    @property
    def bytes_moved(self) -> int:
        """Bytes that were really written; linked files count nothing."""
        return sum(file.size for file in self.files if file.method in ("copy", "generate"))

    @property
    def bytes_linked(self) -> int:
        """Bytes of the files that were linked."""
        return sum(file.size for file in self.files) - self.bytes_moved

    def to_json(self) -> dict[str, Any]:
        """Return the result as JSON values."""
        planned = self.plan.to_json()
        return {
            "output": str(self.output),
            "preset": self.plan.preset,
            "method": self.plan.method,
            "native": self.plan.native,
            "source": str(self.plan.source),
            "files": [_file_json(file) for file in self.files],
            "methods": self.methods,
            "bytes_linked": self.bytes_linked,
            "bytes_moved": self.bytes_moved,
            "config_changes": planned["config_changes"],
            "notes": list(self.plan.notes),
        }


def _file_json(file: WrittenFile) -> dict[str, Any]:
    return {"path": file.path, "method": file.method, "bytes": file.size, "sha256": file.sha256}


def write(
    plan: Plan,
    output: Path,
    *,
    link: LinkMode = "auto",
    force: bool = False,
    digests: bool | None = None,
    progress: Progress | None = None,
) -> Result:
    """Write a converted checkpoint, whole or not at all.

    Args:
        plan: what to write.
        output: the folder to make; missing parents are made too.
        link: how weights get there; `auto` takes the first of reflink, hard link and copy that works, and leaves
            out hard links into the download cache, through which an edit of the output would change it for others.
        force: replace what a folder of that name holds.
        digests: read weights that are linked, to record their digests; by default where that takes less than half
            a second.
        progress: told of every chunk that is copied or read.

    Returns:
        What was written, and how.

    Raises:
        UsageError: `output` is no place for it; see `require_place`.
        RopextError: the disk refuses, a source has changed since it was checked, or `link` is not possible between
            source and output.
    """
    require_place(output, plan.source, force=force)
    output = output.resolve()
    with terminated_as_exception(), explained(output), parents_of(output), scratch(output) as temp:
        files = _write_files(plan, temp, link, digests, progress or (lambda path, done, total: None))
        _check_sources(plan)
        move_into_place(temp, output, force=force)
    return Result(output, plan, files)


# Files


def _write_files(
    plan: Plan, folder: Path, link: LinkMode, digests: bool | None, progress: Progress
) -> tuple[WrittenFile, ...]:
    written = []
    if digests is None:
        unknown = [file for file in plan.files if file.action == "link" and not file.sha256]
        digests = sum(file.size or 0 for file in unknown) <= _READ_ANYWAY
    for file in plan.files:
        target = folder / file.path
        target.parent.mkdir(exist_ok=True, parents=True)
        if file.path not in (PROVENANCE, CONFIG):
            written.append(_write_file(file, target, link, progress, digests=digests))
    config = dump_json(plan.config)
    described = _generated(CONFIG, config)
    record = plan.record_of([*written, described]).dump()
    (folder / PROVENANCE).write_bytes(record)
    # Never a part of it under its own name, however suddenly this ends.
    replace_file(folder / CONFIG, config)
    return (*written, _generated(PROVENANCE, record), described)


def _write_file(file: PlannedFile, target: Path, link: LinkMode, progress: Progress, *, digests: bool) -> WrittenFile:
    def told(done: int) -> None:
        progress(file.path, done, file.size or 0)

    if file.source is None:
        content = file.content or b""
        target.write_bytes(content)
        return _generated(file.path, content)
    _check_source(file)
    method = links.link(file.source, target, link, apart=file.cached) if file.action == "link" else "copy"
    if method in ("hardlink", "symlink") and file.stamp and stamp_of(target.stat()) != file.stamp:
        raise _changed(file)
    if method != "copy":
        if method == "reflink":
            _as_readable(target, file.source)
        known = file.sha256 or (_digest(target, told) if digests else None)
        return WrittenFile(file.path, method, file.size or 0, known)
    size, digest = _copy(file.source, target, told)
    _as_readable(target, file.source)
    return WrittenFile(file.path, method, size, digest)


def _as_readable(target: Path, source: Path) -> None:
    """Let those read a new file who can read the one it was made of, as far as the umask lets them."""
    made, known = stat.S_IMODE(target.stat().st_mode), stat.S_IMODE(source.stat().st_mode)
    target.chmod(made & (known | stat.S_IRUSR | stat.S_IWUSR))


def _check_sources(plan: Plan) -> None:
    for file in plan.files:
        _check_source(file)


def _check_source(file: PlannedFile) -> None:
    """Refuse a file that is not, or no longer, the one that was checked."""
    if file.source and file.stamp and stamp_of(file.source.stat()) != file.stamp:
        raise _changed(file)


def _changed(file: PlannedFile) -> RopextError:
    return RopextError(f"{file.source}: has changed while it was being converted; run the command again.")


def _generated(path: str, content: bytes) -> WrittenFile:
    return WrittenFile(path, "generate", len(content), sha256(content))


def _copy(source: Path, target: Path, progress: Callable[[int], None]) -> tuple[int, str]:
    """Copy a file and return its size and digest."""
    digest, done = hashlib.sha256(), 0
    with source.open("rb") as reader, target.open("xb") as writer:
        while chunk := reader.read(_CHUNK):
            writer.write(chunk)
            digest.update(chunk)
            done += len(chunk)
            progress(done)
    return done, digest.hexdigest()


def _digest(file: Path, progress: Callable[[int], None]) -> str:
    """Read a file and return its digest."""
    digest, done = hashlib.sha256(), 0
    with file.open("rb") as reader:
        while chunk := reader.read(_CHUNK):
            digest.update(chunk)
            done += len(chunk)
            progress(done)
    return digest.hexdigest()
