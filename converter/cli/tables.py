"""Results of measurements as tables for people."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from ropext.converter.text import printable

from .screen import table

if TYPE_CHECKING:
    from ropext.converter.evaluation.report.results import Experiment
    from ropext.converter.evaluation.report.tables import Table

__all__ = ["brief", "shown"]

_LEGEND = (
    "* The best of its length. Differences are on the same prompts; in brackets: 95% interval, or p of an exact test. "
    "Not resolved: too few prompts (n) to tell the two apart."
)


def shown(experiments: Sequence[Experiment]) -> str:
    """Return what was measured, a table for each number, fit for a terminal."""
    from ropext.converter.evaluation.report.tables import HOW_TO_READ, tables

    return _laid_out(experiments, tables, HOW_TO_READ)


def brief(experiments: Sequence[Experiment]) -> str:
    """Return what was measured in as few tables as a screen holds."""
    from ropext.converter.evaluation.report.tables import summary

    return _laid_out(experiments, summary, _LEGEND if any(len(each.presets) > 1 for each in experiments) else "")


def _laid_out(experiments: Sequence[Experiment], of: Callable[[Experiment], Sequence[Table]], legend: str) -> str:
    from ropext.converter.evaluation.report.ranking import headline
    from ropext.converter.evaluation.report.tables import notes, title

    parts = []
    for experiment in experiments:
        parts.append(printable(title(experiment)))
        for each in of(experiment):
            rows = each.marked("", "*")
            parts.append(f"{printable(each.caption)}\n{table(each.header, rows, right=each.header[1:])}")
        parts += map(printable, (*notes(experiment), headline(experiment)))
    return "\n\n".join(filter(None, [*parts, legend])) + "\n"
