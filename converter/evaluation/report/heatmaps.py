"""Heat maps of questions by length and depth, a panel for each model."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from .cells import number
from .depth import Asked, by_depth, depths
from .drawing import Picture, heading, tokens
from .lines import TASKS
from .ranking import headline, ranked, short_names
from .results import Experiment
from .statistics import METRICS, estimate

if TYPE_CHECKING:
    from matplotlib.figure import SubFigure

__all__ = ["heatmap"]

_COLUMNS = 3
_BANDS = 8
_LETTERS = 30
"""Of a line above a panel."""
_DARK = 0.55
"""The share of a colour scale from which on numbers are white."""


def heatmap(experiment: Experiment, *, exact: bool) -> Picture:
    """Draw the share of right answers, or the log-probability of the right one.

    Args:
        experiment: of passkeys or needles.
        exact: the former.
    """
    presets, bands = ranked(experiment), depths(experiment)
    rows = math.ceil(len(presets) / _panels(len(presets)))
    what = f"{TASKS[experiment.task]}, {experiment.source}: {_unit(experiment, exact=exact)}, by length and depth"
    metric = next(each for each in METRICS[experiment.task] if each.name == ("exact" if exact else "log_probability"))
    means = []
    for preset in presets:
        found = [(length, estimate(metric, experiment, preset, length)) for length in experiment.lengths]
        values = ", ".join(f"{number(metric, each.value)} at {tokens(length)}" for length, each in found if each)
        means.append(f"{experiment.name(preset)} {values}")

    def draw(part: SubFigure) -> None:
        _draw(part, experiment, rows, exact=exact)

    alt = f"Heat maps. {what}. Over all depths: {'; '.join(means)}."
    return Picture(what, alt, 0.95 + rows * (0.5 + 0.155 * len(bands)), draw, caption=_caption(experiment, exact=exact))


def _unit(experiment: Experiment, *, exact: bool) -> str:
    if not exact:
        return "log-probability of the right answer, nats"
    return "✓ found, ✗ missed; n = 1 in a cell" if _most(experiment) == 1 else "right answers of all that were asked"


def _caption(experiment: Experiment, *, exact: bool) -> str:
    most = _most(experiment)
    asked = f"{most} question{'s' if most > 1 else ''} in a cell" if most else "No questions"
    far = "" if exact else "; values below the scale have its lightest colour"
    return f"{asked}{far}. The dotted line stands where the trained length ends."


def _most(experiment: Experiment) -> int:
    """Questions in the fullest cell."""
    cells = [
        by_depth(experiment, preset, length, low, high)
        for preset in experiment.presets
        for length in experiment.lengths
        for _, low, high in depths(experiment)
    ]
    return max((each.count for each in cells if each), default=0)


def _panels(count: int) -> int:
    """How many stand side by side."""
    return 2 if count == 4 else min(_COLUMNS, count)


def _draw(part: SubFigure, experiment: Experiment, rows: int, *, exact: bool) -> None:
    presets, bands, lengths = ranked(experiment), depths(experiment), experiment.lengths
    names = short_names(experiment)
    grids = [_grid(experiment, preset, exact=exact) for preset in presets]
    norm = _norm(grids, exact=exact)
    columns = _panels(len(presets))
    panels = part.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    for axes in panels.flat[len(presets) :]:
        axes.set_visible(False)
    for place, (preset, grid, axes) in enumerate(zip(presets, grids, panels.flat, strict=False)):
        mesh = _draw_grid(axes, grid, norm, _texts(experiment, preset, exact=exact))
        weight = "bold" if place == 1 and len(presets) > 2 else "normal"
        axes.set_title("\n".join(textwrap.wrap(names[preset], _LETTERS)), fontweight=weight)
        axes.set_xticks([column + 0.5 for column in range(len(lengths))], [tokens(length) for length in lengths])
        axes.set_yticks([row + 0.5 for row in range(len(bands))], [name for name, *_ in bands])
        if place + columns >= len(presets):  # the foot of its column
            axes.tick_params(labelbottom=True)
        _mark_trained(axes, experiment)
    panels[0, 0].invert_yaxis()
    if not exact or _most(experiment) > 1:
        label = "right answers, percent" if exact else "log-probability, nats"
        bar = part.colorbar(mesh, ax=panels, label=label, pad=0.01, aspect=18 * rows)
        bar.outline.set_visible(False)
    what = f"{TASKS[experiment.task]}, {experiment.source}: {_unit(experiment, exact=exact)}"
    heading(part, headline(experiment, short=True), what)
    part.supxlabel("length, tokens", fontsize=8)
    part.supylabel("depth, percent", fontsize=8)


def _mark_trained(axes: Any, experiment: Experiment) -> None:
    trained = experiment.settings.get("trained_length")
    within = sum(length <= trained for length in experiment.lengths) if isinstance(trained, int) else 0
    if 0 < within < len(experiment.lengths):
        axes.axvline(within, color="black", linewidth=1, linestyle=":")


def _grid(experiment: Experiment, preset: str, *, exact: bool) -> Any:
    """The measure by depth and length, NaN where nothing was measured."""
    import numpy as np

    bands, lengths = depths(experiment), experiment.lengths
    grid = np.full((len(bands), len(lengths)), np.nan)
    for row, (_, low, high) in enumerate(bands):
        for column, length in enumerate(lengths):
            found = by_depth(experiment, preset, length, low, high)
            if found:
                grid[row, column] = 100 * found.right / found.count if exact else found.log_probability
    return grid


def _texts(experiment: Experiment, preset: str, *, exact: bool) -> list[list[str]]:
    """What stands in the cells: a mark for one question, else how many of how many, or the log-probability."""
    return [
        [_text(by_depth(experiment, preset, length, low, high), exact=exact) for length in experiment.lengths]
        for _, low, high in depths(experiment)
    ]


def _text(found: Asked | None, *, exact: bool) -> str:
    if found is None:
        return ""
    if not exact:
        return f"{found.log_probability:.1f}".replace("-", "−")
    if found.count == 1:
        return "✓" if found.right else "✗"
    return f"{found.right}/{found.count}"


def _norm(grids: Sequence[Any], *, exact: bool) -> Any:
    """Bands of values that share a colour in all grids; a few that are far below the others share the lowest."""
    import numpy as np
    from matplotlib.colors import BoundaryNorm
    from matplotlib.ticker import MaxNLocator

    if exact:
        return BoundaryNorm(np.linspace(0, 100, _BANDS + 1), _BANDS)
    finite = np.concatenate([grid[np.isfinite(grid)] for grid in grids])
    if not len(finite):
        return BoundaryNorm([-1.0, 0.0], 1)
    low, high = np.percentile(finite, (25, 75))
    fence = low - 1.5 * max(high - low, 0.1)
    levels = MaxNLocator(_BANDS).tick_values(max(finite.min(), fence), finite.max())
    return (
        BoundaryNorm(levels, len(levels), extend="min")
        if finite.min() < levels[0]
        else BoundaryNorm(levels, len(levels) - 1)
    )


def _draw_grid(axes: Any, grid: Any, norm: Any, texts: Sequence[Sequence[str]]) -> Any:
    """Draw one grid with its texts, hatched where nothing was measured."""
    import numpy as np
    from matplotlib import colormaps
    from matplotlib.colors import ListedColormap

    axes.set_facecolor("white")
    axes.patch.set(hatch="////", edgecolor="0.75")
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    colours = ListedColormap(colormaps["Blues"](np.linspace(0.08, 0.95, norm.Ncmap)))
    mesh = axes.pcolormesh(np.ma.masked_invalid(grid), cmap=colours, norm=norm, edgecolors="white", linewidth=0.5)
    for row, column in zip(*np.nonzero(np.isfinite(grid)), strict=True):
        colour = "white" if float(norm(grid[row, column])) >= _DARK * norm.Ncmap else "black"
        text = texts[row][column]
        size = 8 if text in "✓✗" else 6
        axes.text(column + 0.5, row + 0.5, text, ha="center", va="center", fontsize=size, color=colour)
    return mesh
