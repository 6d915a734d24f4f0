"""A number against length: curves for a few models, rows of dots for many."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

from ropext.converter.evaluation.tasks.ruler import THRESHOLD

from .cells import number
from .drawing import Picture, heading, legend, line_style, tokens
from .lines import TASKS
from .ranking import best, headline, main_metric, ranked, short_names
from .results import BASE, Experiment
from .statistics import METRICS, Estimate, Metric, estimate

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import SubFigure

__all__ = ["against_length"]

_CURVES = 6
"""More curves than this lie on each other: they are drawn as rows of dots."""
_COLUMNS = 3
_ACROSS = 4
_LABELS = {
    "exact": "right answers, percent",
    "score": "average, percent",
    "log_probability": "log-probability of the answer, nats",
    "balanced": "balanced score, nats",
    "perplexity_ratio": "perplexity, as a multiple of the base's",
}
"""Labels of axes that the titles of tables are too long for."""

Found = Mapping[str, Mapping[int, Estimate]]
"""Numbers by model and length."""


def against_length(experiment: Experiment, metric: Metric) -> Picture:
    """Draw a metric; perplexity as a multiple of the base's, where that was measured."""
    others = len(experiment.presets) > 1
    shown = METRICS["ppl"][1] if metric.name == "perplexity" and others and experiment.reference == BASE else metric
    what = f"{TASKS[experiment.task]}, {experiment.source}: {_label(shown)}, against length"
    found = _found(experiment, shown)
    values = "; ".join(f"{experiment.name(preset)} {_said(shown, each)}" for preset, each in found.items())
    curves = len(experiment.presets) <= _CURVES and len(experiment.lengths) > 1 and experiment.task != "ppl"
    sentence = headline(experiment, short=True) if metric == main_metric(experiment) else ""

    def draw(part: SubFigure) -> None:
        (_draw_curves if curves else _draw_dots)(part, experiment, shown, found)
        heading(part, sentence, f"{TASKS[experiment.task]}, {experiment.source}: {_label(shown)}")

    height = 3.0 + 0.17 * math.ceil(len(found) / _COLUMNS) if curves else _height(experiment)
    how = "Lines" if curves else "Dots"
    return Picture(what, f"{how}. {what}. {values}.", height, draw, caption=_caption(experiment, shown, curves=curves))


def _label(metric: Metric) -> str:
    return _LABELS.get(metric.name) or metric.title[0].lower() + metric.title[1:]


def _caption(experiment: Experiment, metric: Metric, *, curves: bool) -> str:
    parts = ["Below 1 is better than the base."] if metric.neutral else []
    if not curves:
        parts.append("From top to bottom: the best beyond the trained length first. The vertical line is the base.")
    parts.append(
        "What is far from all others stands at the edge, as a number. Bars: 95% intervals, where there are any."
    )
    return " ".join(parts)


def _found(experiment: Experiment, metric: Metric) -> dict[str, dict[int, Estimate]]:
    """Finite numbers, in the order of ranks; of a ratio the base's is 1."""
    found = {}
    for preset in ranked(experiment):
        values = {length: estimate(metric, experiment, preset, length) for length in experiment.lengths}
        if metric.beside and preset == experiment.reference:
            measured = [length for length in experiment.lengths if experiment.at(preset, length)]
            values = {length: Estimate(metric.neutral) for length in measured}
        kept = {length: each for length, each in values.items() if each and math.isfinite(each.value)}
        if kept:
            found[preset] = kept
    return found


def _said(metric: Metric, values: Mapping[int, Estimate]) -> str:
    return ", ".join(f"{number(metric, each.value)} at {tokens(length)}" for length, each in values.items())


def _limits(metric: Metric, values: Sequence[float]) -> tuple[float, float]:
    """Ends of an axis that leave out a few values that are far from all others."""
    if metric.name in ("exact", "score"):
        return -6.0, 106.0
    if not values:  # none is finite
        return 0.0, 1.0
    import numpy as np

    low, middle, high = np.percentile(values, (25, 50, 75))
    reach = 1.5 * max(high - low, 0.02 * abs(middle))
    ends = max(min(values), low - reach), min(max(values), high + reach)
    margin = 0.08 * (ends[1] - ends[0]) or 0.05 * abs(middle) or 1.0
    return float(ends[0] - margin), float(ends[1] + margin)


# Curves


def _draw_curves(part: SubFigure, experiment: Experiment, metric: Metric, found: Found) -> None:
    axes = part.subplots()
    lengths, names = experiment.lengths, short_names(experiment)
    place = math.log2 if lengths[-1] >= 8 * lengths[0] else float
    gaps = [place(b) - place(a) for a, b in pairwise(lengths)]
    aside = min(0.012 * (place(lengths[-1]) - place(lengths[0])), 0.5 * min(gaps) / len(found))
    low, high = _heights(experiment, metric, found)
    for index, (preset, values) in enumerate(found.items()):
        style = line_style(index - 1, base=preset == BASE)
        x = [place(length) + aside * (index - (len(found) - 1) / 2) for length in values]
        y = [each.value for each in values.values()]
        axes.plot(x, y, label=names[preset], **style)
        if all(each.low is not None for each in values.values()):
            margins = _margins(list(values.values()))
            axes.errorbar(x, y, margins, fmt="none", ecolor=style["color"], elinewidth=0.7)
        for at, value in zip(x, y, strict=True):
            if not low <= value <= high:
                _beyond(axes, at, metric, value, above=value > high, colour=style["color"])
    axes.set_ylim(low, high)
    axes.set_xticks([place(length) for length in lengths], [tokens(length) for length in lengths])
    axes.set_xlabel("length, tokens")
    axes.set_ylabel(_label(metric))
    axes.grid(axis="y", color="0.9", linewidth=0.6)
    axes.set_axisbelow(True)
    _mark(axes, experiment, place)
    legend(part, axes, _COLUMNS)


def _heights(experiment: Experiment, metric: Metric, found: Found) -> tuple[float, float]:
    """Ends of the axis, which leave out the reference where it falls far below the others, and leave room to say so."""
    if metric.name in ("exact", "score"):
        return -6.0, 106.0
    its = [each.value for each in found.get(experiment.reference, {}).values()]
    others = [
        each.value for preset in found if preset != experiment.reference for each in found[preset].values()
    ] or its
    reach = (max(others) - min(others)) or 0.05 * abs(max(others)) or 1.0
    near = [*others, *(each for each in its if min(others) - reach < each < max(others) + reach)]
    below = min(its, default=0.0) < min(near)
    return min(near) - (0.2 if below else 0.08) * reach, max(near) + 0.08 * reach


def _beyond(axes: Axes, x: float, metric: Metric, value: float, *, above: bool, colour: str) -> None:
    """Say at the edge what lies beyond it."""
    text = f"{'▲' if above else '▼'} {number(metric, value)}"
    place = {"ha": "center", "va": "top" if above else "bottom", "transform": axes.get_xaxis_transform()}
    axes.text(x, 0.99 if above else 0.01, text, fontsize=7, color=colour, **place)


def _margins(found: Sequence[Estimate]) -> list[list[float]]:
    """How far each interval reaches below and above its value."""
    return [
        [max(0.0, each.value - (each.low or 0.0)) for each in found],
        [max(0.0, (each.high or 0.0) - each.value) for each in found],
    ]


def _mark(axes: Axes, experiment: Experiment, place: Callable[[float], float]) -> None:
    """Lines to hold the curves against: the trained length, where the settings say it, and RULER's threshold."""
    trained = experiment.settings.get("trained_length")
    if isinstance(trained, int) and experiment.lengths[0] <= trained < experiment.lengths[-1]:
        axes.axvline(place(trained), color="0.5", linewidth=0.8, linestyle=":", zorder=0)
        above = {"transform": axes.get_xaxis_transform(), "ha": "center", "va": "bottom"}
        axes.text(place(trained), 1.01, "trained to here", fontsize=6, **above)
    if experiment.task == "ruler":
        axes.axhline(THRESHOLD, color="0.5", linewidth=0.8, linestyle=":", zorder=0)
        text = f"{THRESHOLD}, Llama-2-7B at 4k"
        axes.text(1.0, THRESHOLD, text, transform=axes.get_yaxis_transform(), fontsize=6, ha="right", va="bottom")


# Rows of dots


def _across(experiment: Experiment) -> int:
    return min(_ACROSS, len(experiment.lengths))


def _height(experiment: Experiment) -> float:
    down = math.ceil(len(experiment.lengths) / _across(experiment))
    return 0.8 + down * (0.5 + 0.16 * len(experiment.presets))


def _draw_dots(part: SubFigure, experiment: Experiment, metric: Metric, found: Found) -> None:
    across, lengths, names = _across(experiment), experiment.lengths, short_names(experiment)
    panels = part.subplots(math.ceil(len(lengths) / across), across, sharey=True, squeeze=False)
    order = [preset for preset in found if preset != experiment.reference] + [experiment.reference]
    for axes in panels.flat[len(lengths) :]:
        axes.set_visible(False)
    for axes, length in zip(panels.flat, lengths, strict=False):
        values = {preset: found[preset][length] for preset in order if length in found.get(preset, {})}
        tops = best(main_metric(experiment), experiment, length)
        _draw_column(axes, metric, values, [order.index(preset) for preset in values], tops)
        axes.set_title(f"{tokens(length)} tokens", fontsize=8)
        if experiment.reference in values:
            axes.axvline(values[experiment.reference].value, color="black", linewidth=0.8, zorder=0)
    panels[0, 0].set_yticks(range(len(order)), [names[preset] for preset in order])
    panels[0, 0].set_ylim(len(order) - 0.4, -0.6)
    part.supxlabel(_label(metric), fontsize=8)


def _draw_column(
    axes: Axes, metric: Metric, values: Mapping[str, Estimate], rows: Sequence[int], tops: set[str]
) -> None:
    """One length: a dot for each model, with its number at the right."""
    low, high = _limits(metric, [each.value for each in values.values()])
    for row, (preset, each) in zip(rows, values.items(), strict=True):
        top = preset in tops
        inside = min(max(each.value, low), high)
        marker = "o" if low <= each.value <= high else ">" if each.value > high else "<"
        axes.plot(inside, row, marker, color="#0072B2" if top else "0.35", markersize=5 if top else 4, clip_on=False)
        if each.low is not None and each.high is not None:
            axes.plot([max(each.low, low), min(each.high, high)], [row, row], color="0.5", linewidth=0.8, zorder=1)
        axes.text(
            1.06, row, number(metric, each.value), transform=axes.get_yaxis_transform(), fontsize=6.5, va="center",
            fontweight="bold" if top else "normal",
        )  # fmt: skip
    axes.set_xlim(low, high)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="y", color="0.92", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.locator_params(axis="x", nbins=2)
