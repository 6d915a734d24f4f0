"""NTK-aware scaling, arXiv 2309.00071, definition 1: theta' = theta * s^(d / (d - 2))."""

from __future__ import annotations

import numpy as np

from .rope import Array, Logit, logit


def frequencies(theta: float, head_dim: int, scaling_factor: float) -> Array:
    """Radians per token of each pair."""
    raised = theta * scaling_factor ** (head_dim / (head_dim - 2))
    return np.array([raised ** (-2 * pair / head_dim) for pair in range(head_dim // 2)])


def pair_logit(theta: float, head_dim: int, *, scaling_factor: float) -> Logit:
    """The logit of query i and key j."""
    inv_freq = frequencies(theta, head_dim, scaling_factor)

    def of(layer: int, query: Array, key: Array, i: int, j: int) -> Array:
        return logit(query, key, float(i - j), inv_freq)

    return of
