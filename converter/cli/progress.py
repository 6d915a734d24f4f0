"""How far a long reading or copying is, on a terminal, and sizes for people."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

__all__ = ["progress_line"]


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
