"""DPRoPE's candidates and threshold; nothing is measured for them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ropext.converter.errors import UsageError
from ropext.converter.methods.dprope_solver import Solution, solve, threshold_for

__all__ = ["choose"]


def choose(
    inv_freq: Sequence[float],
    trained: int,
    target: int,
    candidates: Sequence[str],
    threshold: float | None,
    interpolated: int | None,
) -> tuple[Solution, dict[str, Any]]:
    """Choose a frequency for each pair.

    Args:
        inv_freq: the base's frequencies, radians per token [pairs].
        trained: the window to begin with, tokens.
        target: the length to reach, tokens.
        candidates: names of candidates; the first is kept unless another is better by the threshold.
        threshold: the least advantage of another; None for 0, or for what `interpolated` gives.
        interpolated: how many dimensions shall leave the first candidate.

    Returns:
        What was chosen, and the preset's parameters.

    Raises:
        UsageError: there is no such candidate, or no such number of dimensions.
    """
    try:
        if interpolated is not None:
            if interpolated % 2:
                raise ValueError(f"{interpolated} dimensions: two make a pair; give an even number")
            free = solve(inv_freq, trained, target, candidates=candidates)
            threshold = threshold_for(free, interpolated // 2)
        solved = solve(inv_freq, trained, target, candidates=candidates, threshold=threshold or 0.0)
    except ValueError as error:
        raise UsageError(str(error)) from None
    return solved, {"candidates": list(candidates)} | ({"threshold": threshold} if threshold else {})
