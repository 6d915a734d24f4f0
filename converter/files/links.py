"""Putting a file into place without moving its bytes."""

from __future__ import annotations

import errno
import os
import sys
from pathlib import Path
from typing import Literal, get_args

from ropext.converter.errors import RopextError

__all__ = ["LINK_MODES", "LinkMode", "link", "real_path"]

LinkMode = Literal["auto", "reflink", "hardlink", "symlink", "copy"]
LINK_MODES: tuple[LinkMode, ...] = get_args(LinkMode)

_FICLONE = 0x40049409  # linux/fs.h: share the blocks of another file, copy on write

# What "this file system cannot do that" looks like; anything else, such as a full disk, is a failure.
_CANNOT = {
    errno.EXDEV, errno.EPERM, errno.EACCES, errno.EMLINK, errno.EINVAL, errno.ENOTTY, errno.ENOSYS,
    errno.EOPNOTSUPP, errno.ENOTSUP, errno.EBADF, errno.ETXTBSY,
}  # fmt: skip


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


def link(source: Path, target: Path, mode: LinkMode, *, apart: bool) -> str:
    """Put a file into place without moving its bytes and return how; `copy` leaves it to the caller.

    Args:
        source: the file.
        target: its place.
        mode: as the user asks.
        apart: `auto` must not make the two one file.

    Raises:
        RopextError: it cannot be done here by the mode that is asked for.
        OSError: it could be, and failed, as on a full disk.
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


def real_path(path: Path) -> Path:
    """Resolve all symbolic links of a path.

    Raises:
        RopextError: they lead in a circle.
    """
    try:
        return path.resolve()
    except (OSError, RuntimeError):
        raise RopextError(f"{path}: its symbolic links lead in a circle; replace them by the file or folder.") from None
