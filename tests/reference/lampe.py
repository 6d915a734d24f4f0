"""LaMPE, arXiv 2508.02308: the formulas of the paper and of its program, word for word."""

from __future__ import annotations

from math import ceil, floor

from .rope import Array, Logit, logit
from .self_extend import query_factor


def paper(i: int, j: int, length: int, s1: int, s2: int, m: int) -> float:
    """The distance before it is rounded down."""
    distance = i - j
    if distance < s1:
        return distance
    if distance < length - s2:
        return (m - s1 - s2) / (length - s1 - s2) * (distance - s1) + s1
    return distance - length + m


def program(i: int, j: int, length: int, s1: int, m: int) -> float:
    """Positions rounded down; there is no tail."""
    if i - j < s1:
        return i - j
    return floor(i * m / length) - floor(j * m / length) + s1 - floor(s1 * m / length)


def pair_logit(
    inv_freq: Array,
    length: int,
    *,
    initial_window: int,
    form: str,
    local_window: int,
    tail: int,
    mapping_length: int,
    full_length: int,
    length_step: int | None = None,
    attention_factor: float,
    query_scaling: bool = False,
    activate_beyond: int = 0,
) -> Logit:
    """The logit of query i and key j in an input of `length` tokens that comes all at once."""
    if length_step:
        full_length = max(mapping_length, ceil(length / length_step) * length_step)

    def of(layer: int, query: Array, key: Array, i: int, j: int) -> Array:
        if i < max(local_window, activate_beyond):
            return logit(query, key, float(i - j), inv_freq)
        wanted = {"wanted": query_scaling, "activate_beyond": activate_beyond, "local_window": local_window}
        factor = attention_factor**2 * query_factor(i, initial_window, **wanted)
        if form == "paper":
            distance = paper(i, j, full_length, local_window, tail, mapping_length)
        else:
            distance = program(i, j, full_length, local_window, mapping_length)
        return factor * logit(query, key, float(distance), inv_freq)

    return of
