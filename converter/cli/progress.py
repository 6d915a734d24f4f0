"""How far a long reading or copying of files is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from .live import Bar, live

__all__ = ["bytes_on", "progress_line"]

_WORTH_SHOWING = 16 << 20
"""Bytes of a file that takes a moment."""


@contextmanager
def progress_line(shown: bool, doing: str = "copying") -> Iterator[Callable[[str, int, int], None] | None]:
    """Show on stderr how far a file is; yield what has to be called with its name, its bytes so far and all of them."""
    if not shown:
        yield None
        return
    with live(doing) as bar:
        yield bytes_on(bar, doing)


def bytes_on(bar: Bar, doing: str) -> Callable[[str, int, int], None]:
    """Return a function that shows on a bar how much of a file is done."""
    current = ""

    def show(path: str, done: int, total: int) -> None:
        nonlocal current
        if total < _WORTH_SHOWING:
            return
        if path != current:
            current = path
            bar.start(f"{doing} {path}, MiB", total >> 20)
        bar.at(done >> 20, total >> 20)

    return show
