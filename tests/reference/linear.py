"""Position interpolation, arXiv 2306.15595, equation 4: a token at p is put at p / s."""

from __future__ import annotations

from .rope import Array, Logit, logit


def pair_logit(inv_freq: Array, *, scaling_factor: float) -> Logit:
    """The logit of query i and key j; `inv_freq` is the base's."""

    def of(layer: int, query: Array, key: Array, i: int, j: int) -> Array:
        return logit(query, key, i / scaling_factor - j / scaling_factor, inv_freq)

    return of
