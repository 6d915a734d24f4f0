"""What commands print for people: tables with colour on a terminal, and plain aligned text anywhere else.

`rich` is imported only where there is a terminal to draw on, so that a pipe costs nothing.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from typing import Literal, TextIO

from ropext.converter.text import printable

__all__ = ["is_terminal", "table", "width_of"]

_FALLBACK = 80
_NARROWEST = 8
"""Columns of text below which a cell of a drawn table cannot be read."""


def is_terminal(stream: TextIO | None = None) -> bool:
    """Return whether a stream, by default standard output, is a terminal that people look at."""
    stream = sys.stdout if stream is None else stream
    return stream is not None and not stream.closed and stream.isatty()


def width_of(fallback: int = _FALLBACK) -> int:
    """Return the terminal's width in columns; `fallback` where it says 0 or nothing."""
    return shutil.get_terminal_size((fallback, 24)).columns or fallback


def table(
    headers: Sequence[str], rows: Sequence[Sequence[object]], *, right: Sequence[str] = (), terminal: bool | None = None
) -> str:
    """Lay out a table, ready for `click.echo`.

    On a terminal it has lines and colours (none with NO_COLOR set), and long cells wrap. Anywhere else, and on a
    terminal too narrow for that, it is plain text with aligned columns.

    Args:
        headers: one for each column.
        rows: the cells of each row; `str` is called on each.
        right: headers of the columns that are aligned to the right, as numbers are.
        terminal: whether it is for a terminal; by default what standard output is.

    Returns:
        The lines, without a newline at their end.
    """
    cells = [[printable(str(cell)) for cell in row] for row in rows]
    drawn = is_terminal() if terminal is None else terminal
    if drawn and width_of() >= (_NARROWEST + 3) * len(headers):
        return _drawn(headers, cells, right)
    return _plain(headers, cells, right)


def _plain(headers: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[str]) -> str:
    whole = [[header.upper() for header in headers], *rows]
    widths = [max(map(len, column)) for column in zip(*whole, strict=True)]
    numeric = [header in right for header in headers]

    def line(row: Sequence[str]) -> str:
        parts = zip(row, widths, numeric, strict=True)
        return "  ".join(cell.rjust(width) if far else cell.ljust(width) for cell, width, far in parts).rstrip()

    return "\n".join(map(line, whole))


def _drawn(headers: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[str]) -> str:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    drawn = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, header_style="bold")
    names = min(max(len(row[0]) for row in [headers, *rows]), width_of() // 2)  # in one piece, to be copied
    for number, header in enumerate(headers):
        style, least = ("cyan", names) if number == 0 else (None, None)
        side: Literal["left", "right"] = "right" if header in right else "left"
        drawn.add_column(header, style=style, width=least, justify=side, overflow="fold")
    for row in rows:
        drawn.add_row(*map(Text, row))
    console = Console(file=sys.stdout, width=width_of(), force_terminal=True)
    with console.capture() as captured:
        console.print(drawn)
    return captured.get().strip("\n")
