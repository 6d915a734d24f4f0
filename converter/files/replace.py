"""A file that is written whole or not at all: beside its place first, then renamed into it."""

from __future__ import annotations

import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["beside", "replace_file"]


@contextmanager
def beside(file: Path) -> Iterator[Path]:
    """Make a hidden empty file beside a place, which takes that place when the block ends well, or goes.

    The file that was in the place is replaced and not written to: what else is linked to it stays as it is. Whoever
    could read it can read the new one. A file that is new is readable as the umask has it, whatever writes it.

    Args:
        file: the place.

    Yields:
        The hidden file, with the same suffix.
    """
    temp = file.with_name(f".{file.stem}.ropext-{secrets.token_hex(4)}{file.suffix}")
    temp.touch(exist_ok=False)
    try:
        mode = stat.S_IMODE((file if file.is_file() else temp).stat().st_mode)
        yield temp
        temp.chmod(mode)
        os.replace(temp, file)
    finally:
        temp.unlink(missing_ok=True)


def replace_file(file: Path, data: bytes) -> None:
    """Put a new file into a place, whole or not at all; see `beside`."""
    with beside(file) as temp:
        temp.write_bytes(data)
