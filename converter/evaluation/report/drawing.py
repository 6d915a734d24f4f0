"""What all pictures share: one look, files that are the same for the same figures, and text that says what is in them.

They are made to be read in print without colours: lines differ by marker and dash, shades by lightness and by number.
"""

from __future__ import annotations

import io
import re
import textwrap
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ropext.converter.errors import RopextError, UsageError
from ropext.converter.files.replace import replace_file

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure

__all__ = [
    "SUFFIXES",
    "WIDTH",
    "Picture",
    "check_file",
    "heading",
    "inline_svg",
    "legend",
    "line_style",
    "save",
    "tokens",
]

SUFFIXES = (".png", ".svg", ".pdf")
"""Of the files that pictures can be saved to."""

WIDTH = 5.6
"""Of a picture, inches: on a page's text it is enlarged, and can be read on a phone."""

_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#666666")
"""Okabe and Ito's, which the colour-blind can tell apart."""
_LETTERS = 82
"""Of a line as wide as a picture."""
_MARKERS = "sD^vP*X<>ph8d"
_DASHES = ((0, ()), (0, (5, 1.5)), (0, (1, 1)), (0, (6, 1.5, 1, 1.5)), (0, (3, 1, 1, 1, 1, 1)))

_LOOK = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 8,
    "axes.titlesize": 8,
    "axes.labelsize": 8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "legend.fontsize": 7,
    "legend.frameon": False,
    "lines.linewidth": 1.2,
    "lines.markersize": 4,
    "hatch.linewidth": 0.5,
    "text.parse_math": False,
    "savefig.dpi": 200,
    "savefig.facecolor": "white",
    # The same numbers give the same file, and text stays text.
    "svg.hashsalt": "ropext",
    "svg.fonttype": "none",
    "pdf.fonttype": 42,
}
_METADATA: dict[str, dict[str, None]] = {
    "png": {"Software": None},
    "svg": {"Date": None, "Creator": None, "Format": None, "Type": None},
    "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
}


_DARK = b"""<style>@media (prefers-color-scheme: dark) { svg { filter: invert(0.9) hue-rotate(180deg); } }</style>
 <defs>"""
"""Turns light and dark round for readers of dark pages, and leaves the colours."""


@dataclass(frozen=True)
class Picture:
    """Something to draw.

    Attributes:
        title: what it shows.
        alt: the same for those who do not see it, with what can be read from it.
        height: inches.
        draw: draws it.
        caption: what the reader has to know to read it; empty where it explains itself.
    """

    title: str
    alt: str
    height: float
    draw: Callable[[SubFigure], None]
    caption: str = ""


def check_file(file: Path) -> None:
    """Refuse a file that no picture can be saved to.

    Raises:
        UsageError: it has another suffix.
        RopextError: matplotlib is not installed.
    """
    if file.suffix.lower() not in SUFFIXES:
        raise UsageError(f"{file}: a picture's name ends in {', '.join(SUFFIXES)}")
    _require_matplotlib()


def save(pictures: Sequence[Picture], file: Path) -> None:
    """Write pictures into one file, one below the other.

    Raises:
        UsageError: the file has a suffix that is none of `SUFFIXES`.
        RopextError: matplotlib is not installed.
    """
    check_file(file)
    replace_file(file, _rendered(pictures, file.suffix.lower()[1:]))


def inline_svg(picture: Picture, name: str) -> str:
    """An `svg` element for an HTML page, whose ids all begin with a name.

    Raises:
        RopextError: matplotlib is not installed.
    """
    text = _rendered([picture], "svg").decode()
    text = re.sub(r"<metadata>.*?</metadata>\s*", "", text[text.index("<svg") :], flags=re.DOTALL)
    text = re.sub(r'\bid="', f'id="{name}-', text)
    text = re.sub(r'(xlink:href="#|url\(#)', rf"\g<1>{name}-", text)
    return re.sub(r'(<svg [^>]*?) width="[^"]*"', r"\1", re.sub(r'(<svg [^>]*?) height="[^"]*"', r"\1", text, count=1))


def _require_matplotlib() -> None:
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError:
        raise RopextError("pictures need matplotlib: pip install 'ropext[plot]'") from None


@contextmanager
def _look() -> Iterator[None]:
    _require_matplotlib()
    import matplotlib

    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_LOOK)
        yield


def _rendered(pictures: Sequence[Picture], form: str) -> bytes:
    with _look():
        figure = _figure(pictures)
        stream = io.BytesIO()
        figure.savefig(stream, format=form, metadata=_METADATA[form])
    found = stream.getvalue()
    return found.replace(b"<defs>", _DARK, 1) if form == "svg" else found


def _figure(pictures: Sequence[Picture]) -> Figure:
    from matplotlib.figure import Figure

    heights = [picture.height for picture in pictures]
    figure = Figure(figsize=(WIDTH, sum(heights)), layout="constrained")
    parts = figure.subfigures(len(pictures), 1, height_ratios=heights, squeeze=False)
    for part, picture in zip(parts[:, 0], pictures, strict=True):
        picture.draw(part)
    return figure


def heading(part: SubFigure, sentence: str, what: str) -> None:
    """Write above a picture what it says, and what it is of."""
    whole = re.sub(r" ([=<]) ", "\u00a0\\1\u00a0", sentence).replace(" %", "\u00a0%")  # `n = 3` stays on one line
    part.suptitle("\n".join([*_wrapped(whole), *_wrapped(what)]), fontsize=8)


def _wrapped(text: str) -> list[str]:
    """A text in as few lines as there can be, which are about equally long."""
    lines = len(textwrap.wrap(text, _LETTERS))
    narrow = next(width for width in range(1, _LETTERS + 1) if len(textwrap.wrap(text, width)) <= lines)
    return textwrap.wrap(text, narrow)


def line_style(number: int, *, base: bool = False) -> dict[str, Any]:
    """The style of one of several curves: no two in a picture are alike, and the base's is black."""
    if base:
        return {"color": "black", "marker": "o", "linestyle": "-", "linewidth": 1.8, "zorder": 3}
    return {
        "color": _COLOURS[number % len(_COLOURS)],
        "marker": _MARKERS[number % len(_MARKERS)],
        "linestyle": _DASHES[number % len(_DASHES)],
    }


def legend(part: SubFigure, axes: Axes, columns: int = 3) -> None:
    """Under the axes, in columns."""
    handles, labels = axes.get_legend_handles_labels()
    part.legend(handles, labels, loc="outside lower center", ncols=min(columns, len(labels)), handlelength=3.5)


def tokens(length: float) -> str:
    """A number of tokens, short: 8k for 8192."""
    return f"{length / 1024:g}k" if length >= 1024 and length % 256 == 0 else f"{length:,.0f}"
