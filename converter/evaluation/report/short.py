"""What models cost while a prompt fits the window, as a table."""

from __future__ import annotations

from .cells import cell, difference, number
from .ranking import ranked
from .results import Experiment
from .statistics import METRICS, estimate, pairs

__all__ = ["short_rows"]

_PERPLEXITY, _RATIO, *_ = METRICS["ppl"]


def short_rows(experiment: Experiment, *, brief: bool = False) -> list[list[str]]:
    """Return a row for each model: its name, tokens of a prompt, its perplexity, and that over the reference's.

    Args:
        experiment: what was measured.
        brief: leave out by how much a ratio is not resolved.
    """
    if (short := experiment.short) is None:
        return []
    return [
        [
            experiment.name(preset),
            f"{length:,}",
            number(_PERPLEXITY, found.value),
            _compared(short, preset, length, brief=brief),
        ]
        for preset in ranked(experiment)
        for length in short.lengths
        if (found := estimate(_PERPLEXITY, short, preset, length))
    ]


def _compared(short: Experiment, preset: str, length: int, *, brief: bool) -> str:
    """A perplexity over the reference's, and whether the model is the base, where it promises that."""
    found = estimate(_RATIO, short, preset, length)
    if found is None:
        return ""
    both = pairs(short, preset, length)
    promised = all(mine.get("promised") is True for mine, _ in both)
    if promised and all(mine["nll"] == its["nll"] for mine, its in both):
        return f"the base, bit for bit (n = {found.prompts})"
    shown = difference(_RATIO, found, brief=True) if brief else cell(_RATIO, found)
    return f"{shown}; promised: the base, bit for bit" if promised else shown
