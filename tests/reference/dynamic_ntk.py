"""Dynamic NTK scaling, arXiv 2309.00071, section 3.3, with the growth of theta that transformers has."""

from __future__ import annotations

from . import ntk
from .rope import Array, Logit, logit


def frequencies(theta: float, head_dim: int, length: int, *, initial_window: int, scaling_factor: float) -> Array:
    """Radians per token of each pair when there are `length` tokens."""
    growth = max(1.0, scaling_factor * length / initial_window - (scaling_factor - 1))
    return ntk.frequencies(theta, head_dim, growth)


def pair_logit(theta: float, head_dim: int, length: int, *, initial_window: int, scaling_factor: float) -> Logit:
    """The logit of query i and key j in an input of `length` tokens that comes all at once."""
    inv_freq = frequencies(theta, head_dim, length, initial_window=initial_window, scaling_factor=scaling_factor)

    def of(layer: int, query: Array, key: Array, i: int, j: int) -> Array:
        return logit(query, key, float(i - j), inv_freq)

    return of
