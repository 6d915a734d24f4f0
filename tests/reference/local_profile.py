"""A frequency profile beyond a local window, as Jet-Long's program has it for frequencies (arXiv 2607.07740)."""

from __future__ import annotations

import numpy as np

from .rope import Array, Logit, logit
from .self_extend import query_factor


def pair_logit(
    inv_freq: Array,
    *,
    initial_window: int,
    local_window: int,
    factors: list[float],
    joined: bool,
    attention_factor: float,
    query_scaling: bool = False,
    activate_beyond: int = 0,
) -> Logit:
    """The logit of query i and key j; `factors` is [pairs]."""

    def of(layer: int, query: Array, key: Array, i: int, j: int) -> Array:
        wanted = {"wanted": query_scaling, "activate_beyond": activate_beyond, "local_window": local_window}
        temperature = query_factor(i, initial_window, **wanted)
        temperature *= attention_factor**2 if i >= max(local_window, activate_beyond) else 1.0
        if i - j < local_window or i < activate_beyond:
            return logit(query, key, float(i - j), inv_freq) * temperature
        begin = local_window if joined else 0
        return logit(query, key, begin + np.array(factors) * (i - j - begin), inv_freq) * temperature

    return of
