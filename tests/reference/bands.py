"""Bands: exact distances in a window, and from each border on divided by the region's own scale factor."""

from __future__ import annotations

from math import floor
from typing import Any

import numpy as np

from .rope import Array, Logit, logit
from .self_extend import query_factor


def moved(i: int, j: int, regions: list[dict[str, Any]], group: int, *, whole: bool) -> float:
    """The distance of query i and key j for one group of pairs, the borders walked from the nearest on."""

    def share(position: int, scale: float) -> float:
        return float(floor(position / scale)) if whole else position / scale

    scales = [each["scale_factor"] for each in regions]
    scales = [each[group] if isinstance(each, list) else each for each in scales]
    borders = [each["from"] for each in regions]
    if i - j < borders[0]:
        return float(i - j)
    reached = float(borders[0])
    for border, end, scale in zip(borders, [*borders[1:], np.inf], scales, strict=True):
        offset = reached - share(border, scale)
        if i - j < end:
            return share(i, scale) - share(j, scale) + offset
        reached = share(int(end), scale) + offset
    raise AssertionError("the last region has no end")


def pair_logit(
    inv_freq: Array,
    *,
    initial_window: int,
    regions: list[dict[str, Any]],
    whole_positions: bool,
    dimension_groups: list[int] | None = None,
    attention_factor: float = 1.0,
    query_scaling: bool = False,
    activate_beyond: int = 0,
) -> Logit:
    """The logit of query i and key j."""
    sizes = np.diff(dimension_groups or [0, len(inv_freq)])
    window = regions[0]["from"]

    def of(layer: int, query: Array, key: Array, i: int, j: int) -> Array:
        factor = query_factor(
            i, initial_window, wanted=query_scaling, activate_beyond=activate_beyond, local_window=window
        )
        factor *= attention_factor**2 if i >= max(window, activate_beyond) else 1.0
        if i < activate_beyond:
            return factor * logit(query, key, float(i - j), inv_freq)
        distances = [moved(i, j, regions, group, whole=whole_positions) for group in range(len(sizes))]
        return factor * logit(query, key, np.repeat(distances, sizes), inv_freq)

    return of
