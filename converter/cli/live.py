"""Progress of what takes longer than a moment: a bar on a terminal, plain lines anywhere else, always on stderr."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from ropext.converter.text import printable

from .output import say
from .screen import is_terminal, width_of

if TYPE_CHECKING:
    from rich.progress import Progress

__all__ = ["Bar", "live"]

_PATIENCE = 1.0
"""Seconds that may pass before the first plain line."""

_SECONDS = 10.0
"""Least time between two plain lines; it grows with the time that the work takes."""


class Bar:
    """Progress that is not shown, and what the shown ones share."""

    _doing = ""

    def start(self, doing: str, total: int | None = None) -> None:
        """Begin something, of a known number of steps or not."""

    def at(self, done: int, total: int) -> None:
        """Say how many steps of how many are done."""

    def hear(self, doing: str, done: int, total: int) -> None:
        """Take a callback's word: what is being done, how many steps are done, and of how many (0: unknown)."""
        if doing != self._doing:
            self._doing = doing
            self.start(doing, total)
        if total:
            self.at(done, total)

    def say(self, text: str, *, err: bool = False) -> None:
        """Print a line of output on stdout or stderr, above the bar."""
        say(text, err=err)

    def close(self) -> None:
        """End, and leave nothing on the screen that is not meant to stay."""


class _Lines(Bar):
    """Plain lines: one when something begins, and one from time to time; none for what ends within a second."""

    def __init__(self) -> None:
        self._opened = time.monotonic()
        self._timer: threading.Timer | None = None

    def start(self, doing: str, total: int | None = None) -> None:
        self.close()
        self._doing, self._total, self._done = doing, total or 0, 0
        self._begin = self._told = time.monotonic()
        patience = _PATIENCE - (self._begin - self._opened)
        if patience <= 0:
            self._tell()
        else:
            self._timer = threading.Timer(patience, self._tell)
            self._timer.daemon = True
            with suppress(RuntimeError):  # no thread to be had
                self._timer.start()

    def at(self, done: int, total: int) -> None:
        self._done, self._total = done, max(total, done)
        now = time.monotonic()
        if now - self._told >= max(_SECONDS, (now - self._begin) / 20):
            self._told = now
            self._tell()

    def _tell(self) -> None:
        seconds = int(time.monotonic() - self._begin)
        passed = f", {seconds // 60}:{seconds % 60:02d}" if seconds > _PATIENCE else ""
        say(self._doing + (f" ({self._done} of {self._total}{passed})" if self._total else ""), err=True)

    def close(self) -> None:
        if self._timer:
            self._timer.cancel()


class _Drawn(Bar):
    """A bar that `rich` draws; it turns while nothing advances."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

        self._progress: Progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=20),
            TextColumn("{task.fields[share]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(compact=True),
            console=Console(file=sys.stderr, width=width_of()),
            transient=True,
            redirect_stdout=False,
        )
        self._task = self._progress.add_task("", total=None, share="")
        self._progress.start()

    def start(self, doing: str, total: int | None = None) -> None:
        self._progress.remove_task(self._task)
        share = f"0/{total}" if total else ""
        self._task = self._progress.add_task(printable(doing), total=total or None, share=share)

    def at(self, done: int, total: int) -> None:
        total = max(done, total)
        share = f"{done}/{total}" if total else ""
        self._progress.update(self._task, completed=done, total=total or None, share=share)

    def say(self, text: str, *, err: bool = False) -> None:
        self._progress.stop()
        say(text, err=err)
        self._progress.start()

    def close(self) -> None:
        self._progress.stop()


@contextmanager
def live(doing: str, total: int | None = None, *, shown: bool = True) -> Iterator[Bar]:
    """Show on stderr what is being done and how far it is, from now until the block ends.

    Args:
        doing: what is being done.
        total: of how many steps.
        shown: whether to show anything.
    """
    bar = Bar() if not shown or sys.stderr is None else _Drawn() if is_terminal(sys.stderr) else _Lines()
    try:
        bar.start(doing, total)
        yield bar
    finally:
        bar.close()
