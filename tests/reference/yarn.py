"""YaRN, arXiv 2309.00071, section 3: its ramp as in the authors' program, its temperature on queries and keys."""

from __future__ import annotations

from math import ceil, floor, log, pi

import numpy as np

from .rope import Array, Logit, logit


def ramp(pair: int, low: float, high: float) -> float:
    """1 - gamma of the paper: 0 where a pair is kept, 1 where it is interpolated."""
    return min(max((pair - low) / (high - low if high != low else 0.001), 0.0), 1.0)


def frequencies(
    theta: float,
    head_dim: int,
    initial_window: int,
    *,
    scaling_factor: float,
    beta_fast: float = 32,
    beta_slow: float = 1,
    truncate: bool = True,
) -> Array:
    """Radians per token of each pair."""

    def pair_that_turns(times: float) -> float:
        return head_dim * log(initial_window / (times * 2 * pi)) / (2 * log(theta))

    low, high = pair_that_turns(beta_fast), pair_that_turns(beta_slow)
    if truncate:
        low, high = floor(low), ceil(high)
    low, high = max(low, 0), min(high, head_dim - 1)
    base = [theta ** (-2 * pair / head_dim) for pair in range(head_dim // 2)]
    shares = [ramp(pair, low, high) for pair in range(head_dim // 2)]
    return np.array([(1 - share) * w + share * w / scaling_factor for share, w in zip(shares, base, strict=True)])


def pair_logit(inv_freq: Array, *, attention_factor: float) -> Logit:
    """The logit of query i and key j: both are scaled by the factor."""

    def of(layer: int, query: Array, key: Array, i: int, j: int) -> Array:
        return logit(query, key, float(i - j), inv_freq) * attention_factor**2

    return of
