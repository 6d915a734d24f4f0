"""Presets asked the same things, each once, whatever comes between."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import TYPE_CHECKING, Any

from ropext.converter.evaluation.asking import Item, Model

if TYPE_CHECKING:
    from ropext.converter.preset import Preset

    from .records import Records

__all__ = ["Judge", "Tell", "Verdict", "log_probabilities"]

Result = Mapping[str, Any]

Tell = Callable[["Preset | None", Result], None]
"""Hears what came out, now or before, and by which preset."""


@dataclass(frozen=True)
class Verdict:
    """How a preset did.

    Attributes:
        score: the mean of the scores, such as the log-probabilities of the right answers.
        exact: share of the questions that it answered right, token by token.
        questions: how many it was asked.
        prompts: how many texts it read for that.
        seconds: how long that took.
        ahead: its score less that of the preset it was compared with, on the questions that both were asked.
        error: standard error of `ahead`; None for fewer than two questions.
    """

    score: float
    exact: float
    questions: int
    prompts: int
    seconds: float
    ahead: float
    error: float | None


def log_probabilities(result: Result) -> list[float]:
    """The log-probabilities of the right answers."""
    return [answer["log_probability"] for answer in result["answers"]]


class Judge:
    """Asks, writes down, and asks nothing twice.

    Attributes:
        items: what there is to ask.
    """

    def __init__(
        self,
        model: Model,
        items: Sequence[Item],
        records: Records,
        tell: Tell = lambda preset, result: None,
        scores: Callable[[Result], list[float]] = log_probabilities,
    ) -> None:
        """Prepare.

        Args:
            model: to be asked.
            items: what to ask.
            records: of measurements.
            tell: hears of every result, measured now or before.
            scores: what a result counts; as many numbers for every result of an item.
        """
        self.items = items
        self._model = model
        self._records = records
        self._tell = tell
        self._scores = scores
        self._in_use: str | None = None

    def result(self, preset: Preset | None, item: int) -> dict[str, Any]:
        """What comes out of the item of an index by a preset; by None, with the model as it is.

        Raises:
            InvalidPreset: the preset does not fit the model.
            UsageError: the records have it from another text.
        """
        name, key = _name(preset), self.key(preset, item)
        result: dict[str, Any] | None = self._records.get(key)
        if result is not None:
            self._records.check(result, self.items[item].asked)
        else:
            if self._in_use != name:
                self._model.use(preset)
                self._in_use = name
            begin = time.perf_counter()
            measured = self.items[item].measure(self._model)
            seconds = round(time.perf_counter() - begin, 3)
            result = {"preset": preset.name if preset else None, "seconds": seconds, **measured}
            self._records.put(key, result)
        self._tell(preset, result)
        return result

    def scores(self, preset: Preset | None, item: int) -> list[float]:
        """What the result of an item counts."""
        return self._scores(self.result(preset, item))

    def has(self, preset: Preset | None, item: int) -> bool:
        """Whether the item of an index was measured by a preset."""
        return self._records.get(self.key(preset, item)) is not None

    def key(self, preset: Preset | None, item: int) -> str:
        """What the records know a result by."""
        return f"{_name(preset)} {self.items[item].key}"

    def verdict(self, preset: Preset | None, against: Preset | None = None) -> Verdict:
        """Sum up what was measured of a preset, and compare it with another."""
        mine, its = self._measured(preset), self._measured(against)
        scores = [score for result in mine.values() for score in self._scores(result)]
        right = [answer["exact"] for result in mine.values() for answer in result["answers"]]
        pairs = [zip(self._scores(mine[item]), self._scores(its[item]), strict=True) for item in mine if item in its]
        ahead = [score - other for pair in pairs for score, other in pair]
        return Verdict(
            score=fmean(scores),
            exact=fmean(right),
            questions=len(right),
            prompts=len(mine),
            seconds=sum(result["seconds"] for result in mine.values()),
            ahead=fmean(ahead) if ahead else 0.0,
            error=stdev(ahead) / len(ahead) ** 0.5 if len(ahead) > 1 else None,
        )

    def _measured(self, preset: Preset | None) -> dict[int, Result]:
        """Results by item."""
        found = {item: self._records.get(self.key(preset, item)) for item in range(len(self.items))}
        return {item: result for item, result in found.items() if result}


def _name(preset: Preset | None) -> str:
    if preset is None:
        return "base"
    return json.dumps([preset.method, preset.initial_window, preset.target_window, preset.parameters], sort_keys=True)
