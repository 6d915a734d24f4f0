"""SelfExtend, arXiv 2401.01325, section 3: grouped positions beyond a local window."""

from __future__ import annotations

from math import log

from .rope import Array, Logit, logit


def query_factor(i: int, initial_window: int, *, wanted: bool, activate_beyond: int, local_window: int) -> float:
    """The optional scaling of queries: ln(i + 1) / ln(M), at least 1."""
    if not wanted or i < max(activate_beyond, local_window):
        return 1.0
    return max(1.0, log(i + 1) / log(initial_window))


def pair_logit(
    inv_freq: Array,
    *,
    initial_window: int,
    local_window: int,
    group_size: int,
    query_scaling: bool = False,
    activate_beyond: int = 0,
) -> Logit:
    """The logit of query i and key j."""

    def of(layer: int, query: Array, key: Array, i: int, j: int) -> Array:
        distance = i - j
        if distance >= local_window and i >= activate_beyond:
            distance = i // group_size - j // group_size + local_window - local_window // group_size
        factor = query_factor(
            i, initial_window, wanted=query_scaling, activate_beyond=activate_beyond, local_window=local_window
        )
        return factor * logit(query, key, float(distance), inv_freq)

    return of
