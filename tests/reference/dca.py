"""DCA, arXiv 2402.17463, with the positions of its authors' program."""

from __future__ import annotations

from math import log

from .rope import Array, Logit, logit
from .self_extend import query_factor


def pair_logit(
    inv_freq: Array,
    length: int,
    *,
    initial_window: int,
    chunk_size: int,
    local_window: int,
    temperature: bool,
    query_scaling: bool = False,
    activate_beyond: int = 0,
) -> Logit:
    """The logit of query i and key j in an input of `length` tokens that comes all at once."""
    stride = chunk_size - local_window
    factor = 1.0
    if temperature and length > initial_window:
        factor = (0.05 * log(length / initial_window) + 1) ** 2  # on the query and on the key

    def of(layer: int, query: Array, key: Array, i: int, j: int) -> Array:
        if i < activate_beyond:
            return logit(query, key, float(i - j), inv_freq)
        wanted = {"wanted": query_scaling, "activate_beyond": activate_beyond, "local_window": stride}
        scale = factor * query_factor(i, initial_window, **wanted)
        chunks_apart = i // stride - j // stride
        if chunks_apart == 0:
            position = i % stride
        elif chunks_apart == 1:
            position = min(i % stride + stride, chunk_size)
        else:
            position = chunk_size
        return scale * logit(query, key, float(position - j % stride), inv_freq)

    return of
