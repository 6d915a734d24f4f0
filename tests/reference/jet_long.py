"""Jet-Long, arXiv 2607.07740: SelfExtend with a group size from the number of tokens."""

from __future__ import annotations

from math import ceil

from . import self_extend
from .rope import Array, Logit


def pair_logit(
    inv_freq: Array,
    length: int,
    *,
    initial_window: int,
    window: int,
    local_window: int,
    query_scaling: bool = False,
    activate_beyond: int = 0,
) -> Logit:
    """The logit of query i and key j in an input of `length` tokens that comes all at once."""
    return self_extend.pair_logit(
        inv_freq,
        initial_window=initial_window,
        local_window=local_window,
        group_size=ceil(length / window),
        query_scaling=query_scaling,
        activate_beyond=activate_beyond,
    )
