"""Writing a planned checkpoint: the one place that touches the disk.

The output is built in a hidden folder beside its place and renamed when it is whole. `config.json`, without
which nothing can be loaded, comes last. Whatever interrupts it, what was there before is there again.
"""

from __future__ import annotations

import errno
import hashlib
import os
import secrets
import shutil
import signal
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NoReturn, get_args

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
    "terminated_as_exception",
    "write",
]

LinkMode = Literal["auto", "reflink", "hardlink", "symlink", "copy"]
LINK_MODES: tuple[LinkMode, ...] = get_args(LinkMode)

Progress = Callable[[str, int, int], None]
"""Called with a file's path, its bytes copied so far and its size."""

_FICLONE = 0x40049409  # linux/fs.h: share the blocks of another file, copy on write
_CHUNK = 4 << 20

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
    progress: Progress | None = None,
) -> Result:
    """Write a converted checkpoint, whole or not at all.

    Args:
        plan: what to write.
        output: the folder to make; missing parents are made too.
        link: how weights get there; `auto` takes the first of reflink, hard link and copy that works.
        force: replace what a folder of that name holds.
        progress: told of every chunk that is copied.

    Returns:
        What was written, and how.

    Raises:
        UsageError: `output` is no place for it; see `check_output`.
        RopextError: the disk refuses, or `link` is not possible between source and output.
    """
    check_output(output, plan.source, force=force)
    output = output.resolve()
    with terminated_as_exception(), explained(output), _parents_of(output):
        temp = output.with_name(f".{output.name}.ropext-{secrets.token_hex(4)}")
        try:
            temp.mkdir()
            files = _write_files(plan, temp, link, progress or (lambda path, done, total: None))
            _move_into_place(temp, output, force=force)
        finally:
            shutil.rmtree(temp, ignore_errors=True)
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


def _write_files(plan: Plan, folder: Path, link: LinkMode, progress: Progress) -> tuple[WrittenFile, ...]:
    written = []
    for file in plan.files:
        target = folder / file.path
        target.parent.mkdir(exist_ok=True, parents=True)
        if file.path not in (PROVENANCE, CONFIG):
            written.append(_write_file(file, target, link, progress))
    config = dump_json(plan.config)
    described = _generated(CONFIG, config)
    record = dump_json(provenance(plan, [*written, described]))
    (folder / PROVENANCE).write_bytes(record)
    (folder / CONFIG).write_bytes(config)
    return (*written, _generated(PROVENANCE, record), described)


def _write_file(file: PlannedFile, target: Path, link: LinkMode, progress: Progress) -> WrittenFile:
    if file.source is None:
        content = file.content or b""
        target.write_bytes(content)
        return _generated(file.path, content)
    method = _link(file.source, target, link) if file.action == "link" else "copy"
    if method != "copy":
        return WrittenFile(file.path, method, file.size or 0, file.sha256)
    size, digest = _copy(file.source, target, lambda done: progress(file.path, done, file.size or 0))
    return WrittenFile(file.path, method, size, digest)


def _generated(path: str, content: bytes) -> WrittenFile:
    return WrittenFile(path, "generate", len(content), sha256(content))


def provenance(plan: Plan, files: Sequence[WrittenFile]) -> dict[str, Any]:
    """Return what `ropext.json` says of files that were written."""
    linked = {file.path for file in plan.files if file.action == "link"}
    code = {file.path for file in plan.files if file.path.endswith(".py")}
    return {
        **plan.provenance,
        "link": ", ".join(sorted({file.method for file in files if file.path in linked})),
        "code": {file.path: file.sha256 for file in files if file.path in code},
        "files": {file.path: {"sha256": file.sha256, "bytes": file.size} for file in files},
    }


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


def _link(source: Path, target: Path, mode: LinkMode) -> str:
    """Put a file into place without moving its bytes and return how; `copy` leaves it to the caller."""
    if mode == "auto":
        possible = (method for method in ("reflink", "hardlink") if _try_link(source, target, method))
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
    """Replace a folder: set it aside, and delete it only when the new one is in its place."""
    old = output.with_name(f"{temp.name}-old")
    try:
        os.rename(output, old)
        os.rename(temp, output)
    except BaseException:
        if old.exists() and not output.exists():
            os.rename(old, output)
        raise
    shutil.rmtree(old)


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
}
