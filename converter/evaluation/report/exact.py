"""An exact test of paired differences, for few questions.

If two settings were alike, each prompt's difference could as well have had the other sign. The p-value is the share of
all ways to choose the signs whose sum is as far from zero as the one that was found. For one question in each prompt,
right or wrong, this is McNemar's exact test, a binomial one on the prompts that the two settings answered differently.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

__all__ = ["flipped"]

_MOST = 16
"""Differences of unequal size up to which all signs are tried; beyond, means are near enough to normal."""
_DIGITS = 9


def flipped(differences: Sequence[float]) -> float | None:
    """Return the two-sided p-value of paired differences.

    Args:
        differences: one for each prompt; those of zero say nothing.

    Returns:
        1 where none differs; None for too many of unequal size.
    """
    sizes = [abs(each) for each in differences if each]
    if not sizes:
        return 1.0
    found = abs(math.fsum(differences))
    if max(sizes) - min(sizes) <= 10**-_DIGITS * max(sizes):
        return _binomial(len(sizes), round(found / sizes[0]))
    return _enumerated(sizes, found) if len(sizes) <= _MOST else None


def _binomial(count: int, ahead: int) -> float:
    """The share of signs of equal differences by which one side leads by at least this many."""
    behind = (count - ahead) // 2
    tail = sum(math.comb(count, losses) for losses in range(behind + 1))
    return min(1.0, 2 * tail / (1 << count))


def _enumerated(sizes: Sequence[float], found: float) -> float:
    sums = {0.0: 1}
    for size in sizes:
        grown: dict[float, int] = {}
        for total, ways in sums.items():
            for each in (round(total - size, _DIGITS), round(total + size, _DIGITS)):
                grown[each] = grown.get(each, 0) + ways
        sums = grown
    far = sum(ways for total, ways in sums.items() if abs(total) >= found - 10 ** (1 - _DIGITS))
    return far / (1 << len(sizes))
