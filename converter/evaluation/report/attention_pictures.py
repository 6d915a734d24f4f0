"""Pictures of attention: maps side by side in one scale of colours, and the means against distance."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Literal

from .drawing import Picture, legend, line_style, tokens
from .lines import TASKS
from .ranking import short_names
from .results import BASE, Experiment

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import SubFigure

__all__ = ["attention_pictures"]

What = Literal["logits", "weights"]

_COLUMNS = 3
_MAPS = 4.6
"""Width of all maps of a row, inches."""
_LABELS = {"logits": "mean logit", "weights": "mean weight"}
_EXTREMES = {"logits": (1.0, 99.0), "weights": (2.0, 99.8)}
"""Percentiles between which colours differ: single cells, such as those of the first token, lie far out."""


def attention_pictures(experiment: Experiment) -> Iterator[Picture]:
    """Draw logits, weights and both against distance, for each length."""
    for length in experiment.lengths:
        presets = [preset for preset in experiment.presets if experiment.at(preset, length)]
        yield _maps(experiment, presets, length, "logits")
        yield _maps(experiment, presets, length, "weights")
        yield _curves(experiment, presets, length)


# Maps


def _maps(experiment: Experiment, presets: list[str], length: int, what: What) -> Picture:
    rows = math.ceil(len(presets) / _COLUMNS)
    row = min(_MAPS / min(_COLUMNS, len(presets)), 0.6 * _MAPS) + 0.2
    title = f"{TASKS[experiment.task]}, {experiment.source}, {tokens(length)} tokens: {_LABELS[what]} by query and key"
    names = ", ".join(experiment.name(preset) for preset in presets)
    trained = _trained(experiment, length)
    line = f" Beyond the dotted line keys are farther than the trained {tokens(trained)}." if trained else ""

    def draw(part: SubFigure) -> None:
        _draw_maps(part, experiment, presets, length, what)

    return Picture(
        f"{title}.{line}", f"Maps in one scale of colours, of {names}. {title}.{line}", 0.5 + row * rows, draw
    )


def _trained(experiment: Experiment, length: int) -> int | None:
    """The trained length, where the settings say it and a text is longer."""
    trained = experiment.settings.get("trained_length")
    return trained if isinstance(trained, int) and trained < length else None


def _draw_maps(part: SubFigure, experiment: Experiment, presets: list[str], length: int, what: What) -> None:
    grids = [_grid(experiment, preset, length, what) for preset in presets]
    norm = _norm(grids, what)
    rows, columns = math.ceil(len(presets) / _COLUMNS), min(_COLUMNS, len(presets))
    panels = part.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    for axes in panels.flat[len(presets) :]:
        axes.set_visible(False)
    trained = _trained(experiment, length)
    for place, (preset, grid, axes) in enumerate(zip(presets, grids, panels.flat, strict=False)):
        image = axes.imshow(grid, cmap="viridis", norm=norm, extent=(0, length, length, 0), interpolation="none")
        axes.set_title(short_names(experiment)[preset])
        ticks = [0, length // 2, length]
        axes.set_xticks(ticks, [tokens(tick) for tick in ticks])
        axes.set_yticks(ticks, [tokens(tick) for tick in ticks])
        if place + columns >= len(presets):  # the foot of its column
            axes.tick_params(labelbottom=True)
        if trained:
            axes.plot((0, length - trained), (trained, length), color="white", linewidth=1.0, linestyle=":")
    bar = part.colorbar(image, ax=panels, label=_LABELS[what], pad=0.01, aspect=18 * rows, extend="both")
    bar.ax.yaxis.set_major_formatter(_plain)
    part.suptitle(f"{TASKS[experiment.task]}, {experiment.source}: {_LABELS[what]}", fontsize=9)
    part.supxlabel("key", fontsize=8)
    part.supylabel("query", fontsize=8)


def _plain(value: float, place: int | None = None) -> str:
    """A number without powers of ten in raised digits."""
    return f"{value:g}".replace("-", "−")


def _grid(experiment: Experiment, preset: str, length: int, what: What) -> Any:
    """The mean over texts, as a square; masked above the diagonal."""
    import numpy as np

    values = list(experiment.at(preset, length).values())
    cells = max(len(value[what]) for value in values)
    grid = np.full((cells, cells), np.nan)
    for n in range(cells):
        grid[n, : n + 1] = np.mean([value[what][n] for value in values if len(value[what]) == cells], axis=0)
    return np.ma.masked_invalid(grid)


def _norm(grids: list[Any], what: What) -> Any:
    """One scale for all grids."""
    import numpy as np
    from matplotlib.colors import LogNorm, Normalize

    values = np.concatenate([grid.compressed() for grid in grids])
    values = values[values > 0] if what == "weights" else values
    low, high = np.percentile(values, _EXTREMES[what]) if len(values) else (0.5, 1.0)
    return (LogNorm if what == "weights" else Normalize)(low, max(high, low + 1e-9))


# Curves


def _curves(experiment: Experiment, presets: list[str], length: int) -> Picture:
    title = f"{TASKS[experiment.task]}, {experiment.source}, {tokens(length)} tokens: against distance"
    far = "; ".join(_farthest(experiment, preset, length) for preset in presets)
    compared = BASE in presets and len(presets) > 1

    def draw(part: SubFigure) -> None:
        panels = part.subplots(1 + compared, 2, sharex=True, squeeze=False)
        for column, what in zip(panels.T, _LABELS, strict=True):
            _draw_curves(column[0], experiment, presets, length, what)
            if compared:
                _draw_differences(column[1], experiment, presets, length, what)
            column[-1].set_xlabel("distance, tokens")
        part.suptitle(title, fontsize=9)
        legend(part, panels[0, 0], _COLUMNS)

    about = f"{title}, without the first token"
    height = 2.4 + 1.5 * compared + 0.17 * math.ceil(len(presets) / _COLUMNS)
    return Picture(f"{about}.", f"Lines. {about}. At the greatest distances: {far}.", height, draw)


def _farthest(experiment: Experiment, preset: str, length: int) -> str:
    logits, weights = (_by_distance(experiment, preset, length, what)[1][-1] for what in _LABELS)
    return f"{experiment.name(preset)} logit {logits:.3g}, weight {weights:.2g}"


def _by_distance(experiment: Experiment, preset: str, length: int, what: str) -> tuple[list[float], list[float]]:
    """The middle of each band of distances from 1 token on, and the mean over texts."""
    values = list(experiment.at(preset, length).values())
    begins = max((value["distances"]["from"] for value in values), key=len)
    ends = [*begins[1:], length]
    alike = [value["distances"][what] for value in values if value["distances"]["from"] == begins]
    means = [sum(column) / len(alike) for column in zip(*alike, strict=True)]
    middles = [math.sqrt(begin * (end - 1)) for begin, end in zip(begins, ends, strict=True)]
    return (middles[1:], means[1:]) if len(begins) > 1 else (middles, means)


def _draw_curves(axes: Axes, experiment: Experiment, presets: list[str], length: int, what: str) -> None:
    for preset in presets:
        x, y = _by_distance(experiment, preset, length, what)
        axes.plot(x, y, label=short_names(experiment)[preset], **_style(presets, preset))
    if what == "weights":
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter(_plain)
    axes.set_ylabel(_LABELS[what])
    _finish(axes, experiment, length)


def _draw_differences(axes: Axes, experiment: Experiment, presets: list[str], length: int, what: str) -> None:
    """What the curves above hide where they lie on each other: logits less the base's, weights over the base's."""
    _, its = _by_distance(experiment, BASE, length, what)
    for preset in presets:
        x, y = _by_distance(experiment, preset, length, what)
        pairs = zip(y, its, strict=False)
        shown = [mine / other if what == "weights" else mine - other for mine, other in pairs]
        axes.plot(x[: len(shown)], shown, **_style(presets, preset))
    axes.yaxis.set_major_formatter(_plain)
    axes.set_ylabel("over the base's" if what == "weights" else "less the base's")
    _finish(axes, experiment, length)


def _style(presets: list[str], preset: str) -> dict[str, Any]:
    number = presets.index(preset)
    return {"markevery": (number * 2 % 7, 7), **line_style(number - 1, base=preset == BASE)}


def _finish(axes: Axes, experiment: Experiment, length: int) -> None:
    """What both rows of curves have: distances in doublings, and where the trained length ends."""
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_formatter(lambda value, _: tokens(round(value)))
    axes.grid(axis="y", color="0.9", linewidth=0.6)
    axes.set_axisbelow(True)
    trained = _trained(experiment, length)
    if trained:
        axes.axvline(trained, color="0.5", linewidth=0.8, linestyle=":", zorder=0)
        above = {"transform": axes.get_xaxis_transform(), "ha": "center", "va": "bottom"}
        axes.text(trained, 1.01, "trained to here", fontsize=6, **above)
