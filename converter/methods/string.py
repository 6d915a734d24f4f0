"""STRING: far distances come nearer, inside the trained length (arXiv 2410.18745)."""

from __future__ import annotations

from collections.abc import Iterator

from ropext.converter.errors import Fault

from .base import Grid, Method, Settings, Suggestion, Wish, nesting_faults

_SOURCE = "arXiv 2410.18745: S from M/7 to M/2, W of 32 or more"


def _faults(settings: Settings) -> Iterator[Fault]:
    return nesting_faults(settings, "shift")


def _suggest(wish: Wish) -> Suggestion:
    shift, window = wish.trained // 3, wish.window(128)
    reach = wish.trained + shift - window
    why = f"S = M/3: distances beyond it come {shift - window} nearer"
    if reach < wish.target:
        why = f"{why}, which reaches {reach} tokens and not {wish.target}"
        return Suggestion("string", None, reach, why, _SOURCE)
    return Suggestion("string", {"shift": shift, "local_window": window}, reach, why, _SOURCE)


METHOD = Method(
    about=(
        "[STRING](https://arxiv.org/abs/2410.18745) leaves distances below its shift exact, and counts those "
        "beyond from a smaller number. "
        "The longest distances, which few training texts had, so become distances that many had."
    ),
    reason="It sharpens what is read inside the trained length and reaches a third beyond it at most.",
    measured=-17.82,
    suggest=_suggest,
    faults=_faults,
    within_trained=True,
    grid=Grid({"shift": (1, 1.5), "local_window": (1, 0.25, 4)}),
)
