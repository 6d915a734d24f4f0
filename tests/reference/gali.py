"""GALI, arXiv 2502.02659: greedy positions, and logits interpolated between two dot products."""

from __future__ import annotations

from fractions import Fraction
from math import ceil, floor

from .rope import Array, Logit, logit
from .self_extend import query_factor


def positions(count: int, initial_window: int, local_window: int) -> list[Fraction]:
    """Where `count` tokens stand: the first integers shared by g tokens each, for as few integers as will do."""
    if count <= initial_window:
        return [Fraction(p) for p in range(count)]
    group = ceil(Fraction(count - local_window, initial_window - local_window))
    for shared in range(initial_window + 1):
        if shared * group + (initial_window - shared) >= count:
            untouched = [Fraction(p) for p in range(shared, initial_window)]
            return [Fraction(n, group) for n in range(count - len(untouched))] + untouched
    raise AssertionError("g is large enough for all tokens")


def chunk_end(i: int, length: int, initial_window: int, chunk_size: int | float, chunk_ends: str) -> int:
    """How many tokens there are for query i."""
    end = initial_window
    while end <= i:
        end += chunk_size if isinstance(chunk_size, int) else max(1, floor(end * chunk_size))
    return min(end, length) if chunk_ends == "input" else end


def pair_logit(
    inv_freq: Array,
    length: int,
    *,
    initial_window: int,
    local_window: int,
    chunk_size: int | float,
    chunk_ends: str = "input",
    logit_interpolation: bool = True,
    query_scaling: bool = False,
    activate_beyond: int = 0,
) -> Logit:
    """The logit of query i and key j in an input of `length` tokens that comes all at once."""
    tables: dict[int, list[Fraction]] = {}

    def of(layer: int, query: Array, key: Array, i: int, j: int) -> Array:
        if i < initial_window or i < activate_beyond:
            return logit(query, key, float(i - j), inv_freq)
        wanted = {"wanted": query_scaling, "activate_beyond": activate_beyond, "local_window": initial_window}
        factor = query_factor(i, initial_window, **wanted)
        end = chunk_end(i, length, initial_window, chunk_size, chunk_ends)
        pi = tables.setdefault(end, positions(end, initial_window, local_window))
        if not logit_interpolation:
            return factor * logit(query, key, float(pi[i] - pi[j]), inv_freq)
        weight = float((ceil(pi[i]) - pi[j]) % 1)
        at_floor = logit(query, key, float(ceil(pi[i]) - ceil(pi[j])), inv_freq)
        at_ceil = logit(query, key, float(ceil(pi[i]) - floor(pi[j])), inv_freq)
        return factor * ((1 - weight) * at_floor + weight * at_ceil)

    return of
