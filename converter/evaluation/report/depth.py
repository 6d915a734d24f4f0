"""Questions by the depth at which their answers stand."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import fmean

from .results import Experiment

__all__ = ["DEPTHS", "Asked", "by_depth", "depths"]

DEPTHS = 10
"""Bands that depths are sorted into where they are many."""


def depths(experiment: Experiment) -> list[tuple[str, float, float]]:
    """The depths that were asked for: each by itself where they are few, else in bands of a tenth.

    Returns:
        Name, lower and upper end (without it) of each, from the start of the text (0) to its end (1).
    """
    found = sorted({answer["depth"] for value in experiment.values.values() for answer in value["answers"]})
    if len({round(depth, 3) for depth in found}) <= DEPTHS + 1:
        exact = sorted({round(depth, 3) for depth in found})
        return [(f"{100 * depth:.3g}", depth - 5e-4, depth + 5e-4) for depth in exact]
    edges = [band / DEPTHS for band in range(DEPTHS + 1)]
    ends = [*edges[1:-1], 1.0 + 1e-9]
    return [
        (f"{100 * low:.0f}–{100 * min(high, 1):.0f}", low, high) for low, high in zip(edges[:-1], ends, strict=True)
    ]


@dataclass(frozen=True)
class Asked:
    """Questions at some depths.

    Attributes:
        right: how many were answered right.
        count: how many there were.
        log_probability: mean of the right answers', nats.
    """

    right: int
    count: int
    log_probability: float


def by_depth(experiment: Experiment, preset: str, length: int, low: float, high: float) -> Asked | None:
    """How the questions from one depth to another were answered; None where there are none."""
    values = experiment.at(preset, length).values()
    asked = [answer for value in values for answer in value["answers"] if low <= answer["depth"] < high]
    if not asked:
        return None
    right = sum(each["exact"] for each in asked)
    return Asked(right, len(asked), fmean(each["log_probability"] for each in asked))
