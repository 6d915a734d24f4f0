"""A picture of what a search for DPE's scale factors measured."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ropext.converter.evaluation.report.drawing import Picture, line_style

from .report import GroupCurve

if TYPE_CHECKING:
    from matplotlib.figure import SubFigure

__all__ = ["scale_picture"]

_COLUMNS = 4


def scale_picture(curves: Sequence[GroupCurve]) -> Picture:
    """A panel for each group: log-probability of the right answers against the group's scale."""
    title = "DPE: one group's scale, the others at their best"
    found = ", ".join(f"{curve.scale} for pairs {curve.pairs[0]} to {curve.pairs[1]}" for curve in curves)
    rows = math.ceil(len(curves) / _COLUMNS)

    def draw(part: SubFigure) -> None:
        grid = part.subplots(rows, min(_COLUMNS, len(curves)), sharex=True, sharey=True, squeeze=False)
        for axes, curve in zip(grid.flat, curves, strict=False):
            scales = list(curve.ahead)
            style = line_style(0, base=True)
            axes.errorbar(scales, list(curve.ahead.values()), yerr=[curve.error[each] for each in scales], **style)
            axes.axvline(curve.scale, color="0.8", linewidth=4, zorder=0)
            axes.set_xscale("log", base=2)
            axes.set_title(f"pairs {curve.pairs[0]} to {curve.pairs[1]}")
            axes.xaxis.set_major_formatter(lambda scale, _: f"{scale:g}")
        for axes in list(grid.flat)[len(curves) :]:
            axes.set_visible(False)
        part.supxlabel("scale factor", fontsize=8)
        part.supylabel("log-probability of the right answer\nto that at the best scale, nats", fontsize=8)

    return Picture(title, f"{title}. Best: {found}.", 0.6 + 1.3 * rows, draw)
