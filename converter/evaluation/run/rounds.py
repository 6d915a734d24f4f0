"""All that is asked of a model, in rounds: short prompts by every preset, then the task."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from statistics import median
from typing import TYPE_CHECKING

from ropext.converter.text import duration_text

if TYPE_CHECKING:
    from ropext.converter.preset import Preset

    from .judge import Judge
    from .shares import Share

__all__ = ["Asking", "ask_all"]

Asking = Callable[[str, int, int], None]
"""Called with what is being done, how much of it is done, and how much there is (0: unknown)."""


def ask_all(
    judge: Judge,
    presets: Sequence[Preset | None],
    rounds: Mapping[str, range],
    share: Share,
    told: Asking,
    say: Callable[[str], None] | None = None,
) -> list[str]:
    """Ask what falls to this process.

    Args:
        judge: asks.
        presets: by which the model reads, one after the other in each round.
        rounds: indices of the judge's items, by what is said while they are asked.
        share: which of several processes this is.
        told: called as the work goes on.
        say: called with what each round but the first, which is cheap, will cost, before it begins.

    Returns:
        Keys of all results, also of those that fall to other processes.
    """
    keys, speeds = list[str](), dict[int, list[float]]()
    for doing, items in rounds.items():
        work = [(preset, item) for preset in presets for item in items]
        mine = share.of(work)
        if say and share.rank == 0 and doing != next(iter(rounds)):
            say(f"{doing}: {_cost(judge, mine, speeds)}")
        for done, (preset, item) in enumerate(mine):
            told(doing, done, len(mine))
            seconds = judge.result(preset, item)["seconds"]
            speeds.setdefault(id(preset), []).append(seconds / judge.items[item].size)
        if work:
            told(doing, len(mine), len(mine))
        keys += [judge.key(preset, item) for preset, item in work]
    return keys


def _cost(judge: Judge, work: Sequence[tuple[Preset | None, int]], speeds: Mapping[int, Sequence[float]]) -> str:
    """How much is to be read, and how long that takes at the speed of short prompts (seconds a token, by id)."""
    left = [(preset, judge.items[item].size) for preset, item in work if not judge.has(preset, item)]
    if not left:
        return "all was measured before"
    seconds = sum(median(speeds.get(id(preset), [0.0])) * size for preset, size in left)
    time = f" in {duration_text(seconds)} or more" if seconds else ""
    return f"{len(left)} texts, {sum(size for _, size in left):,} tokens{time}; fewer by --lengths and --samples"
