"""Intervals of 95%: Wilson's of a share, and Student's t."""

from __future__ import annotations

import math
from statistics import NormalDist

__all__ = ["student", "wilson"]

_Z = NormalDist().inv_cdf(0.975)
_STUDENT = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776}


def wilson(share: float, count: int) -> tuple[float, float]:
    """The 95% interval of a share of questions (Wilson, 1927)."""
    centre, spread = share + _Z**2 / (2 * count), _Z * math.sqrt(share * (1 - share) / count + (_Z / (2 * count)) ** 2)
    low, high = ((centre + sign * spread) / (1 + _Z**2 / count) for sign in (-1, 1))
    return (0.0 if share == 0 else max(low, 0.0)), (1.0 if share == 1 else min(high, 1.0))


def student(freedom: int) -> float:
    """Student's t at 97.5% for a number of degrees of freedom, to three digits (Cornish and Fisher's expansion)."""
    if freedom in _STUDENT:
        return _STUDENT[freedom]
    terms = (
        (_Z**3 + _Z) / 4,
        (5 * _Z**5 + 16 * _Z**3 + 3 * _Z) / 96,
        (3 * _Z**7 + 19 * _Z**5 + 17 * _Z**3 - 15 * _Z) / 384,
    )
    return float(_Z + sum(term / freedom**power for power, term in enumerate(terms, start=1)))
