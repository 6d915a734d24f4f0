"""DPE, arXiv 2504.18857, section 3: the distance of each frequency pair."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .rope import Array, Logit, logit
from .self_extend import query_factor


def pair_logit(
    inv_freq: Array,
    *,
    initial_window: int,
    local_window: int,
    scale_factors: list[int],
    dimension_groups: list[int],
    selected: NDArray[np.bool_] | None = None,
    query_scaling: bool = False,
    activate_beyond: int = 0,
) -> Logit:
    """The logit of query i and key j; `selected` is [layers, heads, pairs]."""
    scales = np.repeat(scale_factors, np.diff(dimension_groups))

    def of(layer: int, query: Array, key: Array, i: int, j: int) -> Array:
        wanted = {"wanted": query_scaling, "activate_beyond": activate_beyond, "local_window": local_window}
        query = query * query_factor(i, initial_window, **wanted)
        if i - j < local_window or i < activate_beyond:
            return logit(query, key, float(i - j), inv_freq)
        scaled = i // scales - j // scales + local_window - local_window // scales
        if selected is None:
            return logit(query, key, scaled, inv_freq)
        heads = zip(query, key, selected[layer], strict=True)
        return np.array([logit(q[None], k[None], np.where(s, scaled, i - j), inv_freq)[0] for q, k, s in heads])

    return of
