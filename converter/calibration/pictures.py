"""A picture of what a search for DPE's scale factors measured."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ropext.converter.evaluation.report.drawing import Picture, heading, line_style

from .report import GroupCurve

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import SubFigure

__all__ = ["scale_picture"]

_COLUMNS = 4


def scale_picture(curves: Sequence[GroupCurve]) -> Picture:
    """A panel for each group that was varied: log-probability of the right answers against the group's scale."""
    varied = [curve for curve in curves if len(curve.ahead) > 1]
    held = [curve for curve in curves if len(curve.ahead) < 2]
    title = "DPE: one group's scale, the others at their best"
    found = f"Best, from high to low frequency: {' '.join(str(curve.scale) for curve in curves)}."
    rows = math.ceil(max(len(varied), 1) / _COLUMNS)
    rest = f"Not varied alone: pairs {', '.join(map(_pairs, held))}." if held else ""

    def draw(part: SubFigure) -> None:
        grid = part.subplots(rows, max(1, min(_COLUMNS, len(varied))), sharex=True, sharey=True, squeeze=False)
        for axes, curve in zip(grid.flat, varied, strict=False):
            _draw_group(axes, curve)
        for axes in list(grid.flat)[len(varied) :]:
            axes.set_visible(False)
        heading(part, f"{title}.", f"{found} {rest}")
        part.supxlabel("scale factor", fontsize=8)
        part.supylabel("log-probability, less\nthat of the best, nats", fontsize=8)

    return Picture(title, f"{title}. {found}", 0.9 + 1.5 * rows, draw, caption=rest)


def _pairs(curve: GroupCurve) -> str:
    return f"{curve.pairs[0]}–{curve.pairs[1]}"


def _draw_group(axes: Axes, curve: GroupCurve) -> None:
    """One group: the best scale is shaded, bars are standard errors."""
    scales = list(curve.ahead)
    style = line_style(0, base=True)
    axes.errorbar(scales, list(curve.ahead.values()), yerr=[curve.error[each] for each in scales], **style)
    axes.axvline(curve.scale, color="0.8", linewidth=4, zorder=0)
    axes.set_xscale("log", base=2)
    axes.set_title(f"pairs {curve.pairs[0]} to {curve.pairs[1]}")
    axes.xaxis.set_major_formatter(lambda scale, _: f"{scale:g}")
