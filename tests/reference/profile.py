"""Profiles, each read literally from its formula: MrRoPE, arXiv 2601.22181; TailSpline; CoPE, arXiv 2602.05258."""

from __future__ import annotations

from math import cos, pi

import numpy as np

from .rope import Array
from .yarn import pair_logit

__all__ = ["factors", "pair_logit"]


def exponent(shape: str, q: int, n: int) -> float:
    """epsilon_q: the power of S that the q-th step of the band divides by."""
    return {
        "uniform": 1 / n,
        "progressive": 2 * q / (n * (n + 1)),
        "tail": 3 * (n * (n + 1) - q * (q - 1)) / (n * (n + 1) * (2 * n + 1)),
    }[shape]


def factors(inv_freq: Array, initial_window: int, shape: str, scaling_factor: float = 1.0) -> Array:
    """c_d: what the frequency of pair d is multiplied by; bands lie between 32 turns and 1."""
    turns = [initial_window * w / (2 * pi) for w in inv_freq]
    if shape == "clip":
        k = sum(t < 1 for t in turns)
        faded = [(1 + cos(pi * r / (k - 1))) / 2 for r in range(k)]
        return np.array([1.0] * (len(turns) - k) + faded)
    low = max(d for d, t in enumerate(turns) if t > 32)
    high = min(d for d, t in enumerate(turns) if t < 1)
    n = high - low
    steps = {low + q - 1: scaling_factor ** exponent(shape, q, n) for q in range(1, n + 1)}
    return np.array([1 / np.prod([steps.get(k, 1.0) for k in range(d)]) for d in range(len(turns))])
