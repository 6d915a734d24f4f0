"""All that is asked of a model, in rounds: short prompts by every preset, then the task."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ropext.converter.preset import Preset

    from .judge import Judge
    from .shares import Share

__all__ = ["Asking", "ask_all"]

Asking = Callable[[str, int, int], None]
"""Called with what is being done, how much of it is done, and how much there is (0: unknown)."""


def ask_all(
    judge: Judge, presets: Sequence[Preset | None], rounds: Mapping[str, range], share: Share, told: Asking
) -> list[str]:
    """Ask what falls to this process.

    Args:
        judge: asks.
        presets: by which the model reads, one after the other in each round.
        rounds: indices of the judge's items, by what is said while they are asked.
        share: which of several processes this is.
        told: called as the work goes on.

    Returns:
        Keys of all results, also of those that fall to other processes.
    """
    keys = []
    for doing, items in rounds.items():
        work = [(preset, item) for preset in presets for item in items]
        mine = share.of(work)
        for done, (preset, item) in enumerate(mine):
            told(doing, done, len(mine))
            judge.result(preset, item)
        if work:
            told(doing, len(mine), len(mine))
        keys += [judge.key(preset, item) for preset, item in work]
    return keys
