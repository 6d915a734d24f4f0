"""How far a long reading or copying is, on a terminal, and sizes for people."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

__all__ = ["progress_line", "size_text"]


def size_text(count: float) -> str:
    """Return a number of bytes as people say it."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.4g} {unit}"
        count /= 1024
    return f"{count:.4g} TiB"


@contextmanager
def progress_line(shown: bool, doing: str = "copying") -> Iterator[Callable[[str, int, int], None] | None]:
    """Show on stderr, in one line, how far a file is."""
    if not shown:
        yield None
        return
    width = shutil.get_terminal_size().columns - 1

    def show(path: str, done: int, total: int) -> None:
        share = 100 * done // max(total, 1)
        sys.stderr.write(f"\r{f'{doing} {path} {share:3d} %'[:width]}\x1b[K")

    try:
        yield show
    finally:
        sys.stderr.write("\r\x1b[K")
