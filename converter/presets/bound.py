"""How far frequencies can tell near tokens from others: an argument, no measurement.

Of two like tokens the nearer one attends more as long as the sum over the frequency pairs of cos(m f) is above zero,
for every distance m up to the text's length ("base of RoPE bounds", arXiv 2405.14591; MrRoPE, arXiv 2601.22181, argues
with it).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

__all__ = ["rope_bound"]

_AT_ONCE = 8192


def rope_bound(inv_freq: Sequence[float], most: int) -> int | None:
    """Return the first distance, in tokens, at which the cosines of all pairs add up to less than nothing.

    Args:
        inv_freq: radians per token [pairs].
        most: distances that are looked at; None is returned where it is none of them.
    """
    frequencies = np.asarray(inv_freq)
    for start in range(0, most, _AT_ONCE):
        distances = np.arange(start, min(start + _AT_ONCE, most))
        sums = np.cos(distances[:, None] * frequencies).sum(-1)
        if (sums < 0).any():
            return start + int(np.argmax(sums < 0))
    return None
