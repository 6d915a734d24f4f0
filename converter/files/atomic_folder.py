"""A folder that is written whole or not at all.

It is built in a hidden folder beside its place and renamed when it is whole. Where something is removed, `config.json`,
without which nothing can be loaded, goes first. Whatever interrupts it, what was there before is there again. What a
killed process left behind is removed by the next one that writes into the same place.
"""

from __future__ import annotations

import ctypes
import errno
import glob
import os
import re
import secrets
import shutil
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NoReturn

from ropext.converter.errors import RopextError, UsageError
from ropext.converter.names import CONFIG
from ropext.converter.text import printable

from .foreign import foreign
from .links import real_path

__all__ = ["check_output", "explained", "move_into_place", "parents_of", "scratch", "terminated_as_exception"]

_NAMED = 8
"""Files that a message names."""

_AT_FDCWD, _RENAME_EXCHANGE = -100, 2  # linux/fcntl.h, linux/fs.h


def check_output(output: Path, source: Path | None, *, force: bool) -> None:
    """Refuse a place where the output must not go.

    Args:
        output: the folder to make.
        source: the base's folder, if it is known yet.
        force: whether what ropext wrote there may be replaced.

    Raises:
        UsageError: it is a file, a link, the source, inside it or around it, a folder that the user lives in,
            holds something and `force` is not given, or holds what ropext did not write.
    """
    if output.is_symlink():
        raise UsageError(f"{output}: is a symbolic link; name the folder itself.")
    place = real_path(output)
    base = real_path(source) if source else None
    if base and (place.is_relative_to(base) or base.is_relative_to(place)):
        raise UsageError(f"{output}: the output may not be the source {base}, inside it or around it.")
    for kept, what in ((Path.cwd(), "current folder"), (Path.home(), "home folder")):
        if kept.resolve().is_relative_to(place):
            raise UsageError(f"{output}: the output may not be the {what} or hold it; name a folder of its own.")
    if place.is_dir():
        if not force and any(place.iterdir()):
            raise UsageError(_occupied(output))
        _refuse_foreign(place, output)
    elif place.exists():
        raise UsageError(f"{output}: is a file; name a folder.")


def move_into_place(temp: Path, output: Path, *, force: bool) -> None:
    """Give a folder its name at last.

    Args:
        temp: the folder, whole.
        output: its place.
        force: replace what ropext wrote there.

    Raises:
        UsageError: the place has been filled meanwhile, and `force` is not given or that is somebody else's.
        OSError: the disk refuses.
    """
    if force and output.exists():
        _refuse_foreign(output, output)
        _swap(temp, output)
        return
    try:
        os.rename(temp, output)  # replaces an empty folder; one that has been filled meanwhile makes it fail
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
        raise UsageError(_occupied(output)) from None


def _occupied(output: Path) -> str:
    return f"{output}: is not empty; choose another --output, or replace what it holds with --force."


def _refuse_foreign(place: Path, output: Path) -> None:
    """Refuse to replace what ropext did not write.

    Raises:
        UsageError: it names that.
    """
    found = list(foreign(place))
    if found:
        more = f" and {len(found) - _NAMED} more" if len(found) > _NAMED else ""
        raise UsageError(
            f"{output}: holds what ropext did not write, and only what it wrote is replaced: "
            f"{printable(', '.join(found[:_NAMED]))}{more}; move that away, or choose another --output."
        )


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
def scratch(output: Path) -> Iterator[Path]:
    """Make a hidden folder beside the output, locked as long as somebody works in it, and remove what is left of it.

    Those that killed processes left beside this output are removed first.
    """
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
def parents_of(output: Path) -> Iterator[None]:
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
    """Let SIGTERM unwind the stack, so that what was half written is removed.

    Raises:
        SystemExit: on that signal, with status 143.
    """
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
    """Turn what the disk refuses into a message.

    Raises:
        RopextError: in the place of an OSError; it names the folder and says what to do.
    """
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
