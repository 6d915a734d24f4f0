"""Searching among candidates that are costly to score, by as few scores as settle it.

A score is how well the right answers to one prompt's questions are known. All candidates are asked the same prompts;
one that is clearly behind is asked no more.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from statistics import fmean, stdev
from typing import Generic, TypeVar

__all__ = [
    "Factors",
    "Scores",
    "Standing",
    "ascend",
    "blocks",
    "clearly_behind",
    "climb",
    "expected_climb",
    "first_as_good",
    "one_group_at_a_time",
    "race",
]

K = TypeVar("K", bound=Hashable)

Scores = Callable[[K, int], Sequence[float]]
"""The scores of a candidate for the questions of the prompt of an index."""

SETTLED = 2.0
"""A difference of this many standard errors settles it."""


@dataclass(frozen=True)
class Standing(Generic[K]):
    """How a candidate came out of a race.

    Attributes:
        candidate: which.
        scores: one for each question that it was asked.
    """

    candidate: K
    scores: tuple[float, ...]

    @property
    def mean(self) -> float:
        """The mean of its scores."""
        return fmean(self.scores)


def race(candidates: Sequence[K], scores: Scores[K], prompts: int) -> list[Standing[K]]:
    """Ask candidates prompt after prompt until one is left, or the prompts are used up.

    Args:
        candidates: of equal ones the first wins.
        scores: asks.
        prompts: how many there are.

    Returns:
        The best first; then those still in the race, then those that fell out, the last to do so first.
    """
    running = {candidate: list[float]() for candidate in candidates}
    out: list[Standing[K]] = []
    for prompt in range(prompts):
        for candidate, found in running.items():
            found.extend(scores(candidate, prompt))
        best = max(running.values(), key=fmean)
        behind = [candidate for candidate, found in running.items() if clearly_behind(found, best)]
        behind.sort(key=lambda candidate: fmean(running[candidate]))
        out += [Standing(each, tuple(running.pop(each))) for each in behind]
        if len(running) == 1:
            break
    rest = sorted((Standing(c, tuple(found)) for c, found in running.items()), key=lambda each: -each.mean)
    return [*rest, *reversed(out)]


def clearly_behind(found: Sequence[float], best: Sequence[float]) -> bool:
    """Whether scores are lower than those of the best for the same questions, and not by chance."""
    return _behind(found, best, SETTLED)


def first_as_good(standings: Sequence[Standing[K]], candidates: Sequence[K]) -> K:
    """The first of the candidates that is within one standard error of the best.

    As Breiman et al., "Classification and Regression Trees" (1984), choose a tree: what comes first, a suggestion or
    what is near it, is left only for what is better by more than chance would have it.

    Args:
        standings: of a race, the best first.
        candidates: in the order of preference.
    """
    best, *others = standings
    behind = {each.candidate for each in others if _behind(each.scores, best.scores[: len(each.scores)], 1)}
    return next(each for each in candidates if each not in behind)


def _behind(found: Sequence[float], best: Sequence[float], errors: float) -> bool:
    """Whether it is behind by more than `errors` standard errors of the mean difference; false for a single score."""
    lost = [b - f for f, b in zip(found, best, strict=True)]
    if len(lost) < 2:
        return False
    return fmean(lost) > errors * stdev(lost) / math.sqrt(len(lost))


def ascend(start: K, neighbours: Callable[[K], Iterable[K]], scores: Scores[K], prompts: int) -> K:
    """Go from a candidate to the best of its neighbours as long as that is better.

    Args:
        start: where to begin.
        neighbours: of a candidate.
        scores: asks.
        prompts: how many there are.
    """
    best, tried = start, {start}
    while near := [each for each in neighbours(best) if each not in tried]:
        winner = race([best, *near], scores, prompts)[0].candidate
        if winner == best:
            break
        tried.update(near)
        best = winner
    return best


Factors = tuple[int, ...]
"""A scale factor for each group of frequency pairs, from high to low frequency."""


def climb(starts: Sequence[Factors], scales: Sequence[int], scores: Scores[Factors], prompts: int) -> Factors:
    """The best scale factors found from the best of the starts: first many groups together, in the end each alone.

    Blocks of groups go one step up or down the scales as long as that is better.

    Args:
        starts: factors to begin with, [groups] each.
        scales: the factors there are, rising.
        scores: asks.
        prompts: how many there are.
    """
    best = race(starts, scores, prompts)[0].candidate
    for block in blocks(len(best)):
        best = ascend(best, partial(_neighbours, block=block, scales=scales), scores, prompts)
    return best


def expected_climb(groups: int) -> int:
    """About how many factors `climb` tries, the starts left out: three for each block."""
    return 3 * sum(1 for _ in blocks(groups))


def blocks(groups: int) -> Iterator[range]:
    """Blocks of groups, half as wide each time, from low to high frequency."""
    width = groups
    while width > 1:
        width = (width + 1) // 2
        for start in reversed(range(0, groups, width)):
            yield range(start, min(start + width, groups))


def _neighbours(factors: Factors, block: range, scales: Sequence[int]) -> Iterator[Factors]:
    """The factors with those of a block one step up, and one step down; the ends of the scales hold."""
    for step in (1, -1):
        moved = list(factors)
        for group in block:
            moved[group] = _step(factors[group], scales, step)
        if tuple(moved) != factors:
            yield tuple(moved)


def _step(factor: int, scales: Sequence[int], step: int) -> int:
    beyond = [scale for scale in scales if (scale - factor) * step > 0]
    if not beyond:
        return factor
    return min(beyond) if step > 0 else max(beyond)


def one_group_at_a_time(start: Factors, scales: Sequence[int], scores: Scores[Factors], prompts: int) -> Factors:
    """The publication's way: each group's best scale with all others as at the start; all of them together at last."""
    best = list(start)
    for group in range(len(start)):
        varied = [(*start[:group], scale, *start[group + 1 :]) for scale in scales]
        best[group] = race(varied, scores, prompts)[0].candidate[group]
    return tuple(best)
