"""SelfExtend: beyond a local window, groups of tokens share a position (arXiv 2401.01325)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from ropext.converter.errors import Fault

from .base import Grid, Method, Settings, Suggestion, Wish, parameter_fault


def reach(initial: int, group: int, window: int) -> int:
    """Tokens up to which only trained distances are met: (M - w) G + w (section 3)."""
    return (initial - window) * group + window


def group_size(trained: int, target: int, local_window: int) -> int:
    """The smallest G with w + (N - w) / G within half of M; where w leaves no room for that, within M.

    The authors ask for less than half to two thirds of M: what is farthest was seen most seldom in training.
    """
    room = trained / 2 - local_window
    if room <= 0:
        room = trained - local_window
    return max(2, math.ceil((target - local_window) / room))


def _faults(settings: Settings) -> Iterator[Fault]:
    group, window = settings.parameters.get("group_size"), settings.parameters.get("local_window")
    initial, target = settings.initial, settings.target
    if not (initial and target and group and window) or window >= initial:
        return
    reached = reach(initial, group, window)
    if reached < target:
        least = math.ceil((target - window) / (initial - window))
        message = f"is {group}: that reaches {reached} tokens of target_window's {target}"
        yield parameter_fault("group_size", f"{message}; set at least {least}")


def _following(parameters: Mapping[str, Any], initial: int, target: int) -> dict[str, Any]:
    window = parameters.get("local_window")
    if type(window) is not int or not 1 <= window < initial < target:
        return {}  # and what is wrong is said when the preset is checked
    return {"group_size": group_size(initial, target, window)}


def _suggest(wish: Wish) -> Suggestion:
    window = wish.window(1024)
    group = group_size(wish.trained, wish.target, window)
    farthest = window + (wish.target - window) / group
    share = farthest / wish.trained
    return Suggestion(
        "self_extend",
        {"group_size": group, "local_window": window},
        reach(wish.trained, group, window),
        f"the farthest token is seen at w + (N - w) / G = {farthest:.0f}, {share:.0%} of M; advised: under 50 to 67%",
        "arXiv 2401.01325, and its authors' advice on choosing G and w",
    )


METHOD = Method(
    about=(
        "[SelfExtend](https://arxiv.org/abs/2401.01325) keeps distances within the local window exact. "
        "Beyond it, groups of neighbouring tokens share a position, so that the farthest token stays at a "
        "distance that the model knows."
    ),
    reason="Distances in the local window are exact and farther ones keep their order; a rule gives its two numbers.",
    measured=-3.06,
    suggest=_suggest,
    faults=_faults,
    following=_following,
    grid=Grid({"group_size": (1, 0.75, 1.5, 2), "local_window": (1, 0.5, 2)}),
)
