"""What a profile's numbers are searched on: named shapes first, then their numbers, then groups of frequency pairs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, replace
from functools import partial
from typing import Any

from ropext.converter.methods.yarn import usual_attention_factor

from .search import Scores, ascend, blocks, race

__all__ = ["Profile", "Search"]

SHAPES = ("uniform", "tail", "progressive", "yarn")
"""That a search begins with."""

_STEPS = {"scaling_factor": 1.5, "beta_fast": 2.0, "beta_slow": 2.0, "attention_factor": 1.05, "local_window": 2.0}
"""What a number is multiplied or divided by, to go one step."""

_GROUP_STEP = 1.25
"""What the divisors of a group are multiplied or divided by."""


@dataclass(frozen=True)
class Profile:
    """Parameters of `profile`, or of `local_profile` where there is a local window.

    Attributes:
        shape: its name; `list` where there are `divisors`.
        scaling_factor: S.
        beta_fast: turns.
        beta_slow: turns.
        attention_factor: on queries and keys.
        local_window: tokens.
        divisors: of each frequency pair.
    """

    shape: str
    scaling_factor: float | None = None
    beta_fast: float | None = None
    beta_slow: float | None = None
    attention_factor: float = 1.0
    local_window: int | None = None
    divisors: tuple[float, ...] | None = None

    def parameters(self) -> dict[str, Any]:
        """The parameters, as a preset has them."""
        found = {field.name: getattr(self, field.name) for field in fields(self)}
        found["divisors"] = None if self.divisors is None else list(self.divisors)
        return {name: value for name, value in found.items() if value is not None}


@dataclass(frozen=True)
class Search:
    """What a search asks, and of what.

    Attributes:
        factor: how many times longer than trained, S.
        window: local window to begin with, tokens; None: the method has none.
        groups: of frequency pairs that are moved in the end; 0: the shape is kept.
        scores: asks.
        samples: how many there are.
        divisors: what a profile's shape divides each pair's frequency by.
        fits: whether a profile makes a valid preset.
    """

    factor: float
    window: int | None
    groups: int
    scores: Scores[Profile]
    samples: int
    divisors: Callable[[Profile], tuple[float, ...]]
    fits: Callable[[Profile], bool]

    def expected(self) -> int:
        """About how many profiles are tried at most: three rounds of steps, and a third move of each block."""
        numbers = len(_STEPS) - (self.window is None)
        moves = sum(1 for _ in blocks(self.groups)) if self.groups else 0
        return len(self.starts()) + 3 * 2 * numbers + 3 * moves

    def starts(self) -> list[Profile]:
        """Every named shape as published; attention beyond a local window as trained."""
        attention = 1.0 if self.window else round(usual_attention_factor(self.factor), 4)
        return [Profile(shape, self.factor, 32.0, 1.0, attention, self.window) for shape in SHAPES]

    def find(self) -> Profile:
        """The best profile that is found."""
        best = race(self.starts(), self.scores, self.samples)[0].candidate
        best = ascend(best, self._stepped, self.scores, self.samples)
        if not self.groups:
            return best
        best = Profile(
            "list",
            attention_factor=best.attention_factor,
            local_window=best.local_window,
            divisors=self.divisors(best),
        )
        for block in blocks(self.groups):
            best = ascend(best, partial(self._moved, block=block), self.scores, self.samples)
        return best

    def _stepped(self, profile: Profile) -> Iterator[Profile]:
        """A profile with one of its numbers a step up or down, where that is valid."""
        for name, step in _STEPS.items():
            value = getattr(profile, name)
            for stepped in (value * step, value / step) if value is not None else ():
                number = round(stepped) if name == "local_window" else round(stepped, 4)
                if self.fits(moved := replace(profile, **{name: number})):
                    yield moved

    def _moved(self, profile: Profile, block: range) -> Iterator[Profile]:
        """A profile with the divisors of some groups a step up or down, none under 1."""
        assert profile.divisors is not None
        pairs = len(profile.divisors)
        moved = range(round(pairs * block.start / self.groups), round(pairs * block.stop / self.groups))
        for step in (_GROUP_STEP, 1 / _GROUP_STEP):
            divisors = list(profile.divisors)
            for pair in moved:
                divisors[pair] = max(1.0, round(divisors[pair] * step, 4))
            if tuple(divisors) != profile.divisors:
                yield replace(profile, divisors=tuple(divisors))
