"""A picture of mixed questions by kind, written as SVG by hand: the same numbers give the same bytes everywhere."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from itertools import count

from ropext.converter.evaluation.report.drawing import tokens
from ropext.converter.evaluation.report.results import Experiment

from .kinds import GUESS, Row, trained_share

_WIDTH, _NAMES, _ROW, _HEAD, _FOOT = 720, 138, 34, 96, 42
_BAR = 42
"""The longest bar."""
_THICK = 14
_LONGEST = 15
"""Letters of a name that there is room for."""
_FAMILIES = {
    "base": "as it is",
    "stock": "by stock keys: frequencies alone",
    "own": "by attention of its own: code",
}
_STYLE = """\
text { font: 17px system-ui, -apple-system, "Segoe UI", "DejaVu Sans", sans-serif; fill: #1f2328; }
.small { font-size: 15px; } .dim { fill: #59636e; } .best { font-weight: 700; }
.ground { fill: #ffffff; } .rule { stroke: #d1d9e0; } .guess { stroke: #59636e; stroke-dasharray: 3 3; }
.base { fill: #818b98; } .stock { fill: #d55e00; } .own { fill: #0072b2; }
@media (prefers-color-scheme: dark) {
text { fill: #f0f6fc; } .dim { fill: #9198a1; } .ground { fill: #0d1117; } .rule { stroke: #3d444d; }
.guess { stroke: #9198a1; } .base { fill: #7d8590; } .stock { fill: #f0883e; } .own { fill: #4ba3e3; }
}"""


@dataclass(frozen=True)
class Bar:
    """One bar: its colour, its length and what stands behind it."""

    family: str
    value: float
    text: str


def number(value: float) -> str:
    """A share, percent: two digits."""
    return f"{value:.1f}" if value < 9.95 else f"{value:.0f}"


def perplexity(value: float | None) -> str:
    """A perplexity: three digits."""
    if value is None:
        return ""
    return f"{value:.1f}" if value < 99.95 else f"{value:,.0f}"


def percent(value: float | None) -> str:
    """A change."""
    if value is None:
        return ""
    text = f"{value:+.1f}" if abs(value) < 99.95 else f"{value:+.0f}"
    return f"{'0' if float(text) == 0 else text.replace('-', '−')} %"


def picture(experiment: Experiment, found: Sequence[Row], title: str) -> str:
    """Bars by model and kind.

    Args:
        experiment: mixed questions.
        found: its rows, the base first.
        title: what the picture shows, in words.
    """
    height = _HEAD + _ROW * len(found) + _FOOT
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" width="{_WIDTH}" height="{height}" '
        'role="img" aria-labelledby="t d">',
        f'<title id="t">{escape(title)}</title>\n<desc id="d">{escape(described(experiment, found))}</desc>',
        f"<style>\n{_STYLE}\n</style>",
        f'<rect class="ground" width="{_WIDTH}" height="{height}"/>',
        _text(_WIDTH / 2, 20, title, "best", anchor="middle"),
        *_columns(experiment, found),
        *(_row(place, each) for place, each in enumerate(found)),
        *_legend(height, {each.family for each in found}),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def described(experiment: Experiment, found: Sequence[Row]) -> str:
    """The picture in words, for those who do not see it."""
    trained, _ = trained_share(experiment)
    texts = []
    for each in found:
        known = ", ".join(f"{kind} {number(share)} %" for kind, share in each.known.items())
        inside = f", inside {_inside(each)}" if each.inside else ""
        beyond = f"; perplexity beyond {tokens(trained)} {perplexity(each.beyond)}" if each.beyond else "; perplexity"
        texts.append(f"{each.name}: {known}{beyond}{inside}")
    return f"Probability of each digit of the right answer, by kind of question; a guess has 10 %. {'. '.join(texts)}."


def _text(x: float, y: float, text: str, kind: str = "", anchor: str = "start") -> str:
    named = f' class="{kind}"' if kind else ""
    where = "" if anchor == "start" else f' text-anchor="{anchor}"'
    return f'<text x="{x:.5g}" y="{y:g}"{named}{where}>{escape(text)}</text>'


def _row(place: int, row: Row) -> str:
    y = _HEAD + _ROW * place
    name = row.name if len(row.name) <= _LONGEST else f"{row.name[: _LONGEST - 1]}…"
    rule = f'<path class="rule" d="M0 {y:g}H{_WIDTH}"/>'
    return f"{rule}\n{_text(4, y + 23, name)}"


def _columns(experiment: Experiment, found: Sequence[Row]) -> Iterator[str]:
    """All columns: kinds, prose beyond the trained length, and what it costs before it."""
    trained, _ = trained_share(experiment)
    kinds = list(found[0].known)
    wide = (_WIDTH - _NAMES) / (len(kinds) + 2)
    places = (_NAMES + wide * column for column in count())
    yield _text(_NAMES, 54, "probability of each digit, % (dashed: a guess)", "small dim")
    yield _text(_NAMES + wide * len(kinds), 54, "perplexity of prose", "small dim")
    top = max(share for each in found for share in each.known.values())
    for kind, x in zip(kinds, places, strict=False):
        yield _text(x, 80, kind)
        at, foot = _BAR * GUESS / top, _HEAD + _ROW * len(found)
        bars = [Bar(row.family, row.known[kind], number(row.known[kind])) for row in found]
        yield from _bars(x, bars, max(bar.value for bar in bars), top, at)
        yield f'<path class="guess" d="M{x + at:.4g} {_HEAD}V{foot}"/>'
    x = next(places)
    yield _text(x, 80, f"beyond {tokens(trained)}", "small")
    prose = [Bar(row.family, row.beyond or 0.0, perplexity(row.beyond)) for row in found]
    if all(bar.value for bar in prose):
        yield from _bars(x, prose, min(bar.value for bar in prose), max(bar.value for bar in prose))
    else:
        yield _text(x, _HEAD + 23, "text repeats", "small dim")
    yield _text(x + wide, 80, f"inside {tokens(trained)}", "small")
    yield from (_text(x + wide, _HEAD + _ROW * place + 23, _inside(row)) for place, row in enumerate(found))


def _inside(row: Row) -> str:
    """The base's perplexity, and how much higher those of the others are."""
    return perplexity(row.inside) if row.family == "base" else percent(row.cost)


def _bars(x: float, bars: Sequence[Bar], best: float, top: float, guess: float = 0) -> Iterator[str]:
    """A column of bars, the numbers behind them and behind the line of a guess."""
    for place, bar in enumerate(bars):
        y, long = _HEAD + _ROW * place, max(1.5, _BAR * bar.value / top)
        where = f'x="{x:g}" y="{y + (_ROW - _THICK) / 2:g}" width="{long:.4g}" height="{_THICK}"'
        yield f'<rect class="{bar.family}" {where}/>'
        yield _text(x + max(long, guess) + 5, y + 23, bar.text, "best" if bar.value == best else "")


def _legend(height: float, families: set[str]) -> Iterator[str]:
    x = 4.0
    for family, text in _FAMILIES.items():
        if family in families:
            yield f'<rect class="{family}" x="{x:g}" y="{height - 27}" width="{_THICK}" height="{_THICK}"/>'
            yield _text(x + 20, height - 15, text, "small dim")
            x += 38 + 7.6 * len(text)
