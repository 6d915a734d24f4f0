"""STRING, arXiv 2410.18745, section 4: distances from a shift on are counted from a smaller number."""

from __future__ import annotations

from .rope import Array, Logit, logit
from .self_extend import query_factor


def pair_logit(
    inv_freq: Array,
    *,
    initial_window: int,
    shift: int,
    local_window: int,
    query_scaling: bool = False,
    activate_beyond: int = 0,
) -> Logit:
    """The logit of query i and key j."""

    def of(layer: int, query: Array, key: Array, i: int, j: int) -> Array:
        distance = i - j
        if distance >= shift and i >= activate_beyond:
            distance = distance - shift + local_window
        wanted = {"wanted": query_scaling, "activate_beyond": activate_beyond, "local_window": shift}
        return query_factor(i, initial_window, **wanted) * logit(query, key, float(distance), inv_freq)

    return of
