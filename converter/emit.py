"""Writing a planned checkpoint: the one place that touches the disk.

The output is built in a hidden folder beside its place and renamed when it is whole. `config.json`, without
which nothing can be loaded, comes last and, where something is removed, goes first. Whatever interrupts it, what was
there before is there again. What a killed conversion left behind is removed by the next one into the same place.
"""

from __future__ import annotations

import ctypes
import errno
import glob
import hashlib
import os
import re
import secrets
import shutil
import signal
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NoReturn, get_args

from .checkpoint import stamp_of
from .config import dump_json
from .errors import RopextError, UsageError
from .plan import CONFIG, PROVENANCE, Plan, PlannedFile
from .shipped import sha256

__all__ = [
    "LinkMode",
    "Progress",
    "Result",
    "WrittenFile",
    "check_output",
    "explained",
    "provenance",
    "sealed",
    "terminated_as_exception",
    "write",
]

LinkMode = Literal["auto", "reflink", "hardlink", "symlink", "copy"]
LINK_MODES: tuple[LinkMode, ...] = get_args(LinkMode)

Progress = Callable[[str, int, int], None]
"""Called with a file's path, its bytes copied so far and its size."""

_FICLONE = 0x40049409  # linux/fs.h: share the blocks of another file, copy on write
_CHUNK = 4 << 20
_READ_ANYWAY = 1 << 28
"""Bytes of linked weights up to which they are read for their digests unasked."""
_AT_FDCWD, _RENAME_EXCHANGE = -100, 2  # linux/fcntl.h, linux/fs.h

# What "this file system cannot do that" looks like; anything else, such as a full disk, is a failure.
_CANNOT = {
    errno.EXDEV, errno.EPERM, errno.EACCES, errno.EMLINK, errno.EINVAL, errno.ENOTTY, errno.ENOSYS,
    errno.EOPNOTSUPP, errno.ENOTSUP, errno.EBADF, errno.ETXTBSY,
}  # fmt: skip


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
        UsageError: `output` is no place for it; see `check_output`.
        RopextError: the disk refuses, a source has changed since it was checked, or `link` is not possible between
            source and output.
    """
    check_output(output, plan.source, force=force)
    output = output.resolve()
    with terminated_as_exception(), explained(output), _parents_of(output), _scratch(output) as temp:
        files = _write_files(plan, temp, link, digests, progress or (lambda path, done, total: None))
        _check_sources(plan)
        _move_into_place(temp, output, force=force)
    return Result(output, plan, files)


def check_output(output: Path, source: Path | None, *, force: bool) -> None:
    """Refuse a place where the output must not go.

    Args:
        output: the folder to make.
        source: the base's folder, if it is known yet.
        force: whether the contents of a folder may be replaced.

    Raises:
        UsageError: it is a file, a link, the source, inside it or around it, a folder that the user lives in,
            or holds something and `force` is not given.
    """
    if output.is_symlink():
        raise UsageError(f"{output}: is a symbolic link; name the folder itself.")
    place = output.resolve()
    base = source.resolve() if source else None
    if base and (place.is_relative_to(base) or base.is_relative_to(place)):
        raise UsageError(f"{output}: the output may not be the source {base}, inside it or around it.")
    for kept, what in ((Path.cwd(), "current folder"), (Path.home(), "home folder")):
        if kept.resolve().is_relative_to(place):
            raise UsageError(f"{output}: the output may not be the {what} or hold it; name a folder of its own.")
    if place.is_dir():
        if not force and any(place.iterdir()):
            raise UsageError(_occupied(output))
    elif place.exists():
        raise UsageError(f"{output}: is a file; name a folder.")


def _occupied(output: Path) -> str:
    return f"{output}: is not empty; choose another --output, or replace what it holds with --force."


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
    record = dump_json(provenance(plan, [*written, described]))
    (folder / PROVENANCE).write_bytes(record)
    # Never a part of it under its own name, however suddenly this ends.
    part = folder / f"{CONFIG}.part"
    part.write_bytes(config)
    os.rename(part, folder / CONFIG)
    return (*written, _generated(PROVENANCE, record), described)


def _write_file(file: PlannedFile, target: Path, link: LinkMode, progress: Progress, *, digests: bool) -> WrittenFile:
    def told(done: int) -> None:
        progress(file.path, done, file.size or 0)

    if file.source is None:
        content = file.content or b""
        target.write_bytes(content)
        return _generated(file.path, content)
    _check_source(file)
    method = _link(file.source, target, link, apart=file.cached) if file.action == "link" else "copy"
    if method in ("hardlink", "symlink") and file.stamp and stamp_of(target.stat()) != file.stamp:
        raise _changed(file)
    if method != "copy":
        known = file.sha256 or (_digest(target, told) if digests else None)
        return WrittenFile(file.path, method, file.size or 0, known)
    size, digest = _copy(file.source, target, told)
    return WrittenFile(file.path, method, size, digest)


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


def provenance(plan: Plan, files: Sequence[WrittenFile]) -> dict[str, Any]:
    """Return what `ropext.json` says of files that were written."""
    linked = {file.path for file in plan.files if file.action == "link"}
    code = {file.path for file in plan.files if file.path.endswith(".py")}
    return sealed(
        {
            **plan.provenance,
            "link": ", ".join(sorted({file.method for file in files if file.path in linked})),
            "code": {file.path: file.sha256 for file in files if file.path in code},
            "files": {file.path: {"sha256": file.sha256, "bytes": file.size} for file in files},
        }
    )


def sealed(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return `ropext.json` with a digest of all of it but `files`, which the files themselves give away."""
    rest = {key: value for key, value in record.items() if key not in ("sha256", "files")}
    return {**rest, "sha256": sha256(dump_json(rest)), "files": record["files"]}


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


# Links


def _reflink(source: Path, target: Path) -> None:
    if sys.platform != "linux":
        raise OSError(errno.ENOSYS, "reflinks are made on Linux only")
    import fcntl

    try:
        with source.open("rb") as reader, target.open("xb") as writer:
            fcntl.ioctl(writer.fileno(), _FICLONE, reader.fileno())
    except BaseException:
        target.unlink(missing_ok=True)
        raise


def _hardlink(source: Path, target: Path) -> None:
    # A link to a link would dangle once moved: the planned source is resolved already.
    os.link(source, target)


def _symlink(source: Path, target: Path) -> None:
    target.symlink_to(source.absolute())


_LINKERS = {"reflink": _reflink, "hardlink": _hardlink, "symlink": _symlink}


def _link(source: Path, target: Path, mode: LinkMode, *, apart: bool) -> str:
    """Put a file into place without moving its bytes and return how; `copy` leaves it to the caller.

    Args:
        source: the file.
        target: its place.
        mode: as the user asks.
        apart: `auto` must not make the two one file.
    """
    if mode == "auto":
        methods = ("reflink",) if apart else ("reflink", "hardlink")
        possible = (method for method in methods if _try_link(source, target, method))
        return next(possible, "copy")
    if mode != "copy":
        try:
            _LINKERS[mode](source, target)
        except OSError as error:
            if error.errno not in _CANNOT:
                raise
            raise RopextError(
                f"{source}: cannot make a {mode} of it here: {error.strerror}; use --link auto or copy."
            ) from None
    return mode


def _try_link(source: Path, target: Path, method: str) -> bool:
    try:
        _LINKERS[method](source, target)
    except OSError as error:
        if error.errno not in _CANNOT:
            raise
        return False
    return True


# All or nothing


def _move_into_place(temp: Path, output: Path, *, force: bool) -> None:
    if force and output.exists():
        _swap(temp, output)
        return
    try:
        os.rename(temp, output)  # replaces an empty folder; one that has been filled meanwhile makes it fail
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
        raise UsageError(_occupied(output)) from None


def _swap(temp: Path, output: Path) -> None:
    """Replace a folder: in one step where the system has one, else by setting it aside first."""
    if _exchange(temp, output):
        _discard(temp)
        return
    old = output.with_name(f"{temp.name}-old")
    try:
        os.rename(output, old)
        os.rename(temp, output)
    except BaseException:
        if old.exists() and not output.exists():
            os.rename(old, output)
        raise
    _discard(old)


def _exchange(first: Path, second: Path) -> bool:
    """Let two folders take each other's names at once; False where the system or the disk cannot."""
    if sys.platform != "linux":
        return False
    rename = getattr(ctypes.CDLL(None), "renameat2", None)
    names = os.fsencode(first), os.fsencode(second)
    return bool(rename and rename(_AT_FDCWD, names[0], _AT_FDCWD, names[1], _RENAME_EXCHANGE) == 0)


def _discard(folder: Path) -> None:
    """Remove a folder, first that without which it cannot be loaded."""
    with suppress(OSError):
        (folder / CONFIG).unlink()
    shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _scratch(output: Path) -> Iterator[Path]:
    """Make a hidden folder beside the output, locked as long as somebody works in it, and remove what is left of it."""
    for abandoned in output.parent.glob(f"{_hidden(glob.escape(output.name))}*"):
        if re.fullmatch(re.escape(_hidden(output.name)) + "[0-9a-f]{8}", abandoned.name):
            with _locked(abandoned) as alone:
                if alone:
                    _discard(abandoned)
    while True:
        temp = output.with_name(_hidden(output.name) + secrets.token_hex(4))
        temp.mkdir()
        with _locked(temp) as alone:
            if alone is False:
                continue  # somebody took it for abandoned in the moment before it was locked
            try:
                yield temp
            finally:
                _discard(temp)
            return


def _hidden(name: str) -> str:
    return f".{name}.ropext-"


@contextmanager
def _locked(folder: Path) -> Iterator[bool | None]:
    """Lock a folder until the end of the block or the process; None where there are no such locks.

    Yields:
        Whether it is there and nobody else has it.
    """
    if sys.platform == "win32":
        yield None
        return
    import fcntl

    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError as error:
        yield False if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP) else None
        return
    try:
        yield _flock(fcntl, descriptor) and folder.exists()
    finally:
        os.close(descriptor)


def _flock(fcntl: Any, descriptor: int) -> bool | None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return False if error.errno in (errno.EWOULDBLOCK, errno.EACCES) else None
    return True


@contextmanager
def _parents_of(output: Path) -> Iterator[None]:
    """Make the folders above the output, and remove those again if it fails."""
    missing = [parent for parent in output.parents if not parent.exists()]
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        yield
    except BaseException:
        for parent in missing:
            with suppress(OSError):
                parent.rmdir()
        raise


@contextmanager
def terminated_as_exception() -> Iterator[None]:
    """Let SIGTERM unwind the stack, so that what was half written is removed."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, _exit_on_signal)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _exit_on_signal(number: int, frame: object) -> NoReturn:
    raise SystemExit(128 + number)


@contextmanager
def explained(output: Path) -> Iterator[None]:
    """Turn what the disk refuses into a message."""
    try:
        yield
    except OSError as error:
        place = f" ({error.filename})" if error.filename else ""
        todo = _TODO.get(error.errno or 0, "")
        raise RopextError(f"{output}: not written: {error.strerror or error}{place}.{todo}") from None


_TODO = {
    errno.ENOSPC: " Free some space or choose another --output.",
    errno.EDQUOT: " Free some of your quota or choose another --output.",
    errno.EACCES: " Choose another --output or change the permissions.",
    errno.EPERM: " Choose another --output or change the permissions.",
    errno.EROFS: " Choose another --output.",
    errno.EFBIG: " Choose another --output, or raise the limit on the size of files.",
}
