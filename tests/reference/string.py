"""STRING, arXiv 2410.18745, section 4: distances from a shift on are counted from a smaller number."""

from __future__ import annotations

from .rope import Array, Logit, logit


def pair_logit(inv_freq: Array, *, shift: int, local_window: int, activate_beyond: int = 0) -> Logit:
    """The logit of query i and key j."""

    def of(layer: int, query: Array, key: Array, i: int, j: int) -> Array:
        distance = i - j
        if distance >= shift and i >= activate_beyond:
            distance = distance - shift + local_window
        return logit(query, key, float(distance), inv_freq)

    return of
