"""DPRoPE, EMNLP 2024 main.414, as its authors' program counts: one angle at a time, angles in float32."""

from __future__ import annotations

from math import log, pi

import numpy as np

EMPTY_COUNT = 6.103515625e-05


def distribution(frequency: float, length: int, intervals: int) -> list[float]:
    """The share of positions in each interval of the turn."""
    counts = [EMPTY_COUNT] * intervals
    for position in range(length):
        angle = np.float32(position) * np.float32(frequency) % np.float32(2 * pi)
        counts[int(float(angle) / (2 * pi) * intervals)] += 1
    return [count / length for count in counts]


def divergence(original: list[float], candidate: list[float]) -> float:
    terms = [o * (log(o) - log(c)) for o, c in zip(original, candidate, strict=True)]
    return sum(terms) / len(terms)


def factors(
    inv_freq: list[float], initial: int, target: int, *, intervals: int, scale: float, threshold: float = 0.0
) -> list[float]:
    """1 or `scale` for each pair: extrapolation unless interpolation is closer by more than the threshold."""
    chosen = []
    for frequency in inv_freq:
        original = distribution(frequency, initial, intervals)
        kept = divergence(original, distribution(frequency, target, intervals))
        divided = divergence(original, distribution(frequency / scale, target, intervals))
        chosen.append(scale if kept > divided + threshold else 1)
    return chosen
