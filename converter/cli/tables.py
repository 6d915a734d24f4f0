"""Results of measurements as tables for people."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ropext.converter.text import printable

from .screen import table

if TYPE_CHECKING:
    from ropext.converter.evaluation.report.results import Experiment

__all__ = ["shown"]


def shown(experiments: Sequence[Experiment]) -> str:
    """Return what was measured, a table for each number, fit for a terminal."""
    from ropext.converter.evaluation.report.tables import HOW_TO_READ, tables, title

    parts = []
    for experiment in experiments:
        parts.append(printable(title(experiment)))
        for each in tables(experiment):
            parts.append(f"{printable(each.caption)}\n{table(each.header, each.rows, right=each.header[1:])}")
        parts += map(printable, experiment.notes)
    return "\n\n".join([*parts, HOW_TO_READ]) + "\n"
