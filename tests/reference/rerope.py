"""ReRoPE and Leaky ReRoPE: a distance that is clipped at a window, or leaks beyond it."""

from __future__ import annotations

from .rope import Array, Logit, logit
from .self_extend import query_factor


def pair_logit(
    inv_freq: Array,
    *,
    initial_window: int,
    local_window: int,
    leak: float | None = None,
    query_scaling: bool = False,
    activate_beyond: int = 0,
) -> Logit:
    """The logit of query i and key j."""

    def of(layer: int, query: Array, key: Array, i: int, j: int) -> Array:
        distance = float(i - j)
        if distance >= local_window and i >= activate_beyond:
            distance = local_window + (0.0 if leak is None else (distance - local_window) / leak)
        factor = query_factor(
            i, initial_window, wanted=query_scaling, activate_beyond=activate_beyond, local_window=local_window
        )
        return factor * logit(query, key, distance, inv_freq)

    return of
