"""Pictures of results: heat maps by length and depth, scores and perplexity against length."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Literal, get_args

from ropext.converter.evaluation.tasks.ruler import THRESHOLD

from .attention_pictures import attention_pictures
from .drawing import Picture, legend, line_style, tokens
from .results import BASE, TASKS, Experiment
from .statistics import METRICS, Estimate, Metric, by_depth, depths, estimate

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import SubFigure

__all__ = ["KINDS", "MEASURES", "Kind", "Measure", "pictures"]

Kind = Literal["heatmap", "score", "perplexity", "attention"]
KINDS: tuple[Kind, ...] = get_args(Kind)
"""What can be drawn."""

Measure = Literal["exact", "log-probability"]
MEASURES: tuple[Measure, ...] = get_args(Measure)
"""What heat maps and scores of passkeys and needles show."""

_COLUMNS = 3
_INTERVALS = 6
"""So many curves, at most, have their intervals drawn."""
_BANDS = 10
_AXES = {
    "exact": "exact match, percent",
    "score": "average, percent",
    "log_probability": "log-probability of the answer, nats",
}
"""Labels of axes that the titles of tables are too long for."""


def pictures(
    experiments: Sequence[Experiment], kinds: Sequence[Kind] = KINDS, measure: Measure = "exact"
) -> list[tuple[Experiment, Picture]]:
    """The pictures that experiments have, each beside its experiment.

    Args:
        experiments: what to show.
        kinds: which pictures.
        measure: of passkeys and needles.
    """
    return [(each, picture) for each in experiments for picture in _of(each, kinds, measure)]


def _of(experiment: Experiment, kinds: Sequence[Kind], measure: Measure) -> Iterator[Picture]:
    if experiment.task in ("passkey", "niah"):
        if "heatmap" in kinds:
            yield _heatmap(experiment, measure)
        if "score" in kinds:
            yield _curves(experiment, METRICS[experiment.task][MEASURES.index(measure)])
    elif experiment.task == "attention":
        if "attention" in kinds:
            yield from attention_pictures(experiment)
    elif {"ppl": "perplexity", "mixed": "score", "ruler": "score", "leval": "score"}[experiment.task] in kinds:
        yield _curves(experiment, METRICS[experiment.task][0])


# Heat maps


def _heatmap(experiment: Experiment, measure: Measure) -> Picture:
    presets, bands = experiment.presets, depths(experiment)
    rows = math.ceil(len(presets) / _panels(len(presets)))
    unit = "exact match, percent" if measure == "exact" else "log-probability of the right answer, nats"
    what = f"{TASKS[experiment.task]}, {experiment.source}: {unit}, by length and depth"
    means = "; ".join(
        _means(experiment, preset, METRICS[experiment.task][MEASURES.index(measure)]) for preset in presets
    )

    def draw(part: SubFigure) -> None:
        _draw_heatmaps(part, experiment, measure, rows)

    return Picture(
        what, f"Heat maps. {what}. Over all depths: {means}.", 0.65 + rows * (0.55 + 0.155 * len(bands)), draw
    )


def _panels(count: int) -> int:
    """How many stand side by side."""
    return 2 if count == 4 else min(_COLUMNS, count)


def _means(experiment: Experiment, preset: str, metric: Metric) -> str:
    form = ".0f" if metric.name == "exact" else ".3g"
    found = [(length, estimate(metric, experiment, preset, length)) for length in experiment.lengths]
    values = ", ".join(f"{each.value:{form}} at {tokens(length)}" for length, each in found if each)
    return f"{experiment.name(preset)} {values}"


def _draw_heatmaps(part: SubFigure, experiment: Experiment, measure: Measure, rows: int) -> None:
    presets, bands, lengths = experiment.presets, depths(experiment), experiment.lengths
    grids = [_grid(experiment, preset, measure) for preset in presets]
    norm = _norm(grids, measure)
    columns = _panels(len(presets))
    panels = part.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    for axes in panels.flat[len(presets) :]:
        axes.set_visible(False)
    for place, (preset, grid, axes) in enumerate(zip(presets, grids, panels.flat, strict=False)):
        mesh = _draw_grid(axes, grid, norm, measure)
        axes.set_title(experiment.name(preset))
        axes.set_xticks([column + 0.5 for column in range(len(lengths))], [tokens(length) for length in lengths])
        axes.set_yticks([row + 0.5 for row in range(len(bands))], [name for name, *_ in bands])
        if place + columns >= len(presets):  # the foot of its column
            axes.tick_params(labelbottom=True)
    panels[0, 0].invert_yaxis()
    label = "exact match, percent" if measure == "exact" else "log-probability, nats"
    bar = part.colorbar(mesh, ax=panels, label=label, pad=0.01, aspect=18 * rows)
    bar.outline.set_visible(False)
    part.suptitle(f"{TASKS[experiment.task]}, {experiment.source}", fontsize=9)
    part.supxlabel("length, tokens", fontsize=8)
    part.supylabel("depth, percent", fontsize=8)


def _grid(experiment: Experiment, preset: str, measure: Measure) -> Any:
    """The measure by depth and length, NaN where nothing was measured."""
    import numpy as np

    bands, lengths = depths(experiment), experiment.lengths
    grid = np.full((len(bands), len(lengths)), np.nan)
    for row, (_, low, high) in enumerate(bands):
        for column, length in enumerate(lengths):
            found = by_depth(experiment, preset, length, low, high)
            if found:
                grid[row, column] = found[MEASURES.index(measure)]
    return grid


def _norm(grids: Sequence[Any], measure: Measure) -> Any:
    """Bands of values that share a colour in all grids."""
    import numpy as np
    from matplotlib.colors import BoundaryNorm
    from matplotlib.ticker import MaxNLocator

    levels = np.linspace(0, 100, _BANDS + 1)
    if measure != "exact":
        finite = np.concatenate([grid[np.isfinite(grid)] for grid in grids])
        levels = MaxNLocator(_BANDS).tick_values(*(finite.min(), finite.max()) if len(finite) else (-1, 0))
    return BoundaryNorm(levels, len(levels) - 1)


def _draw_grid(axes: Any, grid: Any, norm: Any, measure: Measure) -> Any:
    """Draw one grid with its numbers, hatched where nothing was measured."""
    import numpy as np
    from matplotlib import colormaps

    axes.set_facecolor("white")
    axes.patch.set(hatch="////", edgecolor="0.75")
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    colours = colormaps["Blues"].resampled(norm.N)
    mesh = axes.pcolormesh(np.ma.masked_invalid(grid), cmap=colours, norm=norm, edgecolors="white", linewidth=0.5)
    for row, column in zip(*np.nonzero(np.isfinite(grid)), strict=True):
        value = grid[row, column]
        text = f"{value:.0f}" if measure == "exact" else f"{value:.1f}"
        colour = "white" if float(norm(value)) >= 0.55 * norm.N else "black"
        axes.text(column + 0.5, row + 0.5, text, ha="center", va="center", fontsize=6, color=colour)
    return mesh


# Curves


def _curves(experiment: Experiment, metric: Metric) -> Picture:
    what = f"{TASKS[experiment.task]}, {experiment.source}: {_lower(metric.title)}, against length"
    values = "; ".join(_means(experiment, preset, metric) for preset in experiment.presets)
    legend_rows = math.ceil(len(experiment.presets) / _COLUMNS)

    def draw(part: SubFigure) -> None:
        _draw_curves(part, experiment, metric)

    return Picture(what, f"Lines. {what}. {values}.", 2.6 + 0.17 * legend_rows, draw)


def _lower(title: str) -> str:
    return title[0].lower() + title[1:]


def _draw_curves(part: SubFigure, experiment: Experiment, metric: Metric) -> None:
    axes = part.subplots()
    presets, lengths = experiment.presets, experiment.lengths
    place = math.log2 if lengths[-1] >= 8 * lengths[0] else float
    gaps = [place(b) - place(a) for a, b in pairwise(lengths)]
    aside = 0.012 * (place(lengths[-1]) - place(lengths[0]))
    aside = min(aside, 0.5 * min(gaps, default=0.0) / len(presets))
    highest, lowest = -math.inf, math.inf
    for number, preset in enumerate(presets):
        found = {length: estimate(metric, experiment, preset, length) for length in lengths}
        points = [(length, each) for length, each in found.items() if each and math.isfinite(each.value)]
        if not points:
            continue
        shift = aside * (number - (len(presets) - 1) / 2) if len(presets) <= _INTERVALS else 0.0
        x = [place(length) + shift for length, _ in points]
        y = [each.value for _, each in points]
        style = line_style(number - 1, base=preset == BASE)
        axes.plot(x, y, label=experiment.name(preset), **style)
        if len(presets) <= _INTERVALS and all(each.low is not None for _, each in points):
            axes.errorbar(
                x, y, _margins([each for _, each in points]), fmt="none", ecolor=style["color"], elinewidth=0.7
            )
        highest, lowest = max(highest, *y), min(lowest, *y)
    axes.set_xticks([place(length) for length in lengths], [tokens(length) for length in lengths])
    axes.set_xlabel("length, tokens")
    axes.set_ylabel(_AXES.get(metric.name, _lower(metric.title)))
    axes.grid(axis="y", color="0.9", linewidth=0.6)
    axes.set_axisbelow(True)
    if metric.name in ("exact", "score"):
        axes.set_ylim(-4, 104)
    elif metric.name == "perplexity" and highest > 5 * lowest:
        _logarithmic(axes)
    _mark(axes, experiment, place, metric)
    axes.set_title(f"{TASKS[experiment.task]}, {experiment.source}", pad=12)
    legend(part, axes, _COLUMNS)


def _margins(found: Sequence[Estimate]) -> list[list[float]]:
    """How far each interval reaches below and above its value."""
    return [
        [max(0.0, each.value - (each.low or 0.0)) for each in found],
        [max(0.0, (each.high or 0.0) - each.value) for each in found],
    ]


def _logarithmic(axes: Axes) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())


def _mark(axes: Axes, experiment: Experiment, place: object, metric: Metric) -> None:
    """Lines to hold the curves against: the trained length, where the settings say it, and RULER's threshold."""
    trained = experiment.settings.get("trained_length")
    if callable(place) and isinstance(trained, int) and experiment.lengths[0] <= trained < experiment.lengths[-1]:
        axes.axvline(place(trained), color="0.5", linewidth=0.8, linestyle=":", zorder=0)
        above = {"transform": axes.get_xaxis_transform(), "ha": "center", "va": "bottom"}
        axes.text(place(trained), 1.01, "trained to here", fontsize=6, **above)
    if experiment.task == "ruler":
        axes.axhline(THRESHOLD, color="0.5", linewidth=0.8, linestyle=":", zorder=0)
        text = f"{THRESHOLD}, Llama-2-7B at 4k"
        axes.text(1.0, THRESHOLD, text, transform=axes.get_yaxis_transform(), fontsize=6, ha="right", va="bottom")
