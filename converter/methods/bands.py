"""Bands: beyond a local window, regions by distance, each with a scale factor of its own."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise, product
from typing import TYPE_CHECKING, Any

from ropext.converter.errors import Fault

from .base import Baked, Grid, Heads, Method, Settings, Suggestion, Wish, parameter_fault
from .dpe import group_faults

if TYPE_CHECKING:
    from ropext.converter.checkpoint.facts import ModelFacts
    from ropext.converter.preset import Preset


def farthest(regions: Sequence[Mapping[str, Any]], length: int, group: int = 0) -> float:
    """The distance at which a group of pairs sees a token that is `length` tokens away, rounding aside."""
    reached = float(min(length, regions[0]["from"]))
    for region, after in zip(regions, [*regions[1:], {"from": length}], strict=True):
        scale = region["scale_factor"]
        scale = scale[group] if isinstance(scale, list) else scale
        reached += max(0, min(length, after["from"]) - region["from"]) / scale
    return reached


def _faults(settings: Settings) -> Iterator[Fault]:
    regions, groups = settings.parameters.get("regions"), settings.parameters.get("dimension_groups")
    if not regions:
        return
    initial, target = settings.initial, settings.target
    borders = [region["from"] for region in regions]
    for left, right in pairwise(borders):
        if right <= left:
            yield parameter_fault("regions", f"must rise: one from {right} follows one from {left}")
    if initial and borders[0] >= initial:
        yield parameter_fault("regions", f"begin at {borders[0]}; it must be under initial_window ({initial})")
    if target and borders[-1] >= target:
        message = f"has one from {borders[-1]}: with target_window {target} it would never act; leave it out"
        yield parameter_fault("regions", message)
    lists = [region["scale_factor"] for region in regions if isinstance(region["scale_factor"], list)]
    if bool(lists) != bool(groups):
        message = "goes with a list of scale factors in some region, and with nothing else: give both or neither"
        yield parameter_fault("dimension_groups", message)
    elif groups:
        for factors in lists:
            yield from group_faults("regions", groups, factors)
    elif initial and target and sorted(borders) == borders and farthest(regions, target) > initial:
        message = f"let the distance {target} of target_window become {farthest(regions, target):.0f}"
        yield parameter_fault("regions", f"{message}, over initial_window ({initial}); raise a scale_factor")


def _size_faults(parameters: Mapping[str, Any], heads: Heads) -> Iterator[Fault]:
    groups = parameters.get("dimension_groups")
    if groups and groups[-1] != heads.pairs:
        yield parameter_fault("dimension_groups", f"ends at {groups[-1]}; end it at {heads.half} = {heads.pairs}")


def _by_rule(wish: Wish, window: int, times: int, scale: float, share: float) -> list[dict[str, Any]]:
    """Two regions: of a scale factor up to some windows, then of the smallest that keeps to a share of M."""
    border = min(times * window, wish.target - 1)
    near = {"from": window, "scale_factor": scale}
    room = wish.trained * share - farthest([near], border)
    if room <= 0:
        return []
    return [near, {"from": border, "scale_factor": max(scale, math.ceil((wish.target - border) / room))}]


def _window(wish: Wish) -> int:
    return max(1, min(1024, wish.trained // 8))


def _suggest(wish: Wish) -> Suggestion:
    regions = _by_rule(wish, _window(wish), 4, 2, 1 / 2)
    if not regions:
        return Suggestion(
            "bands", None, None, f"M = {wish.trained} leaves no room for two regions within half of it", ""
        )
    reached, scale = farthest(regions, wish.target), regions[-1]["scale_factor"]
    why = f"groups of 2 up to 4 w, then of {scale}: the farthest token is seen at {reached:.0f}, within half of M"
    source = "no publication: group sizes that grow with the distance, as in AdaGroPE (ACL 2025), by SelfExtend's rule"
    return Suggestion("bands", {"regions": regions}, wish.target, why, source)


def _others(wish: Wish) -> Iterator[dict[str, Any]]:
    """Other windows, first borders, first factors, and reaches; whole positions and fractional ones."""
    for window, times, scale, share in product((_window(wish), _window(wish) // 2), (4, 8), (2, 4), (1 / 2, 2 / 3)):
        regions = _by_rule(wish, max(1, window), times, scale, share)
        if regions:
            yield {"regions": regions}
            if share == 1 / 2:
                yield {"regions": regions, "whole_positions": False}


def _bake(preset: Preset, facts: ModelFacts, inv_freq: list[float]) -> Baked:
    regions, groups = preset.parameters["regions"], preset.parameters.get("dimension_groups", (0, 1))
    target = preset.target_window
    ends = sorted({round(farthest(regions, target, group)) for group in range(len(groups) - 1)})
    seen = f"{ends[0]}" if len(ends) == 1 else f"{ends[0]} to {ends[-1]}, by group of pairs"
    note = f"distances are exact up to {regions[0]['from']} tokens; one of {target} becomes {seen}"
    return Baked(dict(preset.parameters), inv_freq, {}, (note,))


METHOD = Method(
    about=(
        "Distances within the first border are exact. "
        "In each region beyond it they grow more slowly, by the region's own scale factor; with one region this is "
        "[SelfExtend](https://arxiv.org/abs/2401.01325)."
    ),
    reason="Distances nearby are exact, and farther ones lose precision step by step and not at once.",
    suggest=_suggest,
    bake=_bake,
    faults=_faults,
    size_faults=_size_faults,
    grid=Grid({}, others=_others),
)
