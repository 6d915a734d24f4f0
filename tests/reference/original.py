"""RoPE, arXiv 2104.09864: exact distances."""

from __future__ import annotations

from .rope import Array, Logit, logit


def pair_logit(inv_freq: Array) -> Logit:
    """The logit of query i and key j."""
    return lambda layer, query, key, i, j: logit(query, key, float(i - j), inv_freq)
