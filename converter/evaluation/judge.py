"""Presets asked the same prompts, each prompt once, whatever comes between."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import TYPE_CHECKING

from .answers import Answer

if TYPE_CHECKING:
    from ropext.converter.presets import Preset

    from .models import SwitchableModel
    from .needles import Prompt
    from .records import Records

__all__ = ["Judge", "Tell", "Verdict"]

Tell = Callable[["Preset | None", Sequence[Answer]], None]
"""Hears of a prompt that was asked, now or before: by which preset, and how the answers came out."""


@dataclass(frozen=True)
class Verdict:
    """How a preset did.

    Attributes:
        score: mean log-probability of the right answers.
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


class Judge:
    """Asks, writes down, and asks nothing twice.

    Attributes:
        prompts: what there is to ask.
        runs: prompts read; those that were measured before are none.
    """

    def __init__(
        self,
        model: SwitchableModel,
        prompts: Sequence[Prompt],
        records: Records,
        tell: Tell = lambda preset, answers: None,
    ) -> None:
        """Prepare.

        Args:
            model: to be asked.
            prompts: what to ask.
            records: of measurements.
            tell: hears of every prompt, measured now or before.
        """
        self.prompts = prompts
        self.runs = 0
        self._model = model
        self._records = records
        self._tell = tell
        self._in_use: str | None = None

    def answers(self, preset: Preset | None, prompt: int) -> list[Answer]:
        """How well the answers to the prompt of an index are known by a preset; by None, as the base does.

        Raises:
            InvalidPreset: the preset does not fit the model.
        """
        name = _name(preset)
        key = f"{name} {prompt}"
        measured = self._records.get(key)
        if measured is None:
            if self._in_use != name:
                self._model.use(preset)
                self._in_use = name
            begin = time.perf_counter()
            answers = self._model.answers(self.prompts[prompt])
            seconds = round(time.perf_counter() - begin, 3)
            measured = {"answers": [[each.log_probability, each.exact] for each in answers], "seconds": seconds}
            self._records.put(key, measured)
            self.runs += 1
        found = [Answer(*each) for each in measured["answers"]]
        self._tell(preset, found)
        return found

    def verdict(self, preset: Preset | None, against: Preset | None = None) -> Verdict:
        """Sum up what was measured of a preset, and compare it with another."""
        measured = self._measured(preset)
        answers = [answer for prompt, _ in measured.values() for answer in prompt]
        other = self._measured(against)
        pairs = [zip(measured[prompt][0], other[prompt][0], strict=True) for prompt in measured if prompt in other]
        ahead = [mine.log_probability - its.log_probability for pair in pairs for mine, its in pair]
        return Verdict(
            score=fmean(each.log_probability for each in answers),
            exact=fmean(each.exact for each in answers),
            questions=len(answers),
            prompts=len(measured),
            seconds=sum(seconds for _, seconds in measured.values()),
            ahead=fmean(ahead) if ahead else 0.0,
            error=stdev(ahead) / len(ahead) ** 0.5 if len(ahead) > 1 else None,
        )

    def _measured(self, preset: Preset | None) -> dict[int, tuple[list[Answer], float]]:
        """Answers and seconds by prompt."""
        found = {prompt: self._records.get(f"{_name(preset)} {prompt}") for prompt in range(len(self.prompts))}
        return {
            prompt: ([Answer(*each) for each in one["answers"]], one["seconds"]) for prompt, one in found.items() if one
        }


def _name(preset: Preset | None) -> str:
    if preset is None:
        return "base"
    return json.dumps([preset.method, preset.initial_window, preset.target_window, preset.parameters], sort_keys=True)
