"""A model, prompts for it and what was measured on them: what a calibration works with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

from ropext.converter.evaluation.run.judge import Judge
from ropext.converter.evaluation.run.origin import versions
from ropext.converter.evaluation.tasks.mixed import by_kind, mixed_sample, weighed
from ropext.converter.preset import Preset
from ropext.converter.presets.load import make_preset

if TYPE_CHECKING:
    from ropext.converter.evaluation.run.judge import Tell
    from ropext.converter.evaluation.run.records import Records
    from ropext.converter.evaluation.run.transformers_model import SwitchableModel
    from ropext.converter.evaluation.tasks.texts import Text

__all__ = ["Questions", "Study"]

_HELD_OUT = 2_000_000
"""Seeds from here on are of texts that are held out."""


@dataclass(frozen=True)
class Questions:
    """What is asked.

    Attributes:
        text: the prose. One half of it is asked about, the other is held out.
        lengths: of the texts, tokens.
        samples: of each length.
        questions: of each kind about each sample.
        purpose: what the model is for, one of `PURPOSES`: it says what each kind weighs.
        seed: of everything that is drawn.
    """

    text: Text
    lengths: tuple[int, ...]
    samples: int
    questions: int
    purpose: str
    seed: int

    def describe(self) -> dict[str, Any]:
        """Return the settings as records and presets name them."""
        return {
            "text": self.text.name,
            "text_sha256": self.text.half(0).sha256,
            "lengths": list(self.lengths),
            "samples": self.samples,
            "questions": self.questions,
            "seed": self.seed,
        }


class Study:
    """Scores of settings of one method for one model.

    A setting is what it changes in a preset: `parameters`, and `initial_window` where it is another.

    Attributes:
        judge: asks the model.
        held_out: asks it about texts that nothing is chosen by, one of each length.
        tried: the settings that were scored, in order.
    """

    def __init__(
        self,
        model: SwitchableModel,
        questions: Questions,
        records: Records,
        preset: Mapping[str, Any],
        directory: Path,
        tell: Tell,
    ) -> None:
        """Make the prompts.

        Args:
            model: to be asked.
            questions: what to ask.
            records: of measurements.
            preset: keys of every preset, that a setting adds to.
            directory: where files named by presets lie.
            tell: hears of every prompt.
        """
        self._questions = questions
        self.tried: list[Mapping[str, Any]] = []
        self._preset = preset
        self._directory = directory
        searched, kept = questions.text.half(0), questions.text.half(1)
        samples = [
            mixed_sample(model.tokenizer, searched, length, questions.questions, 1000 * questions.seed + sample)
            for sample in range(questions.samples)
            for length in questions.lengths
        ]
        self.judge = Judge(model, samples, records, tell, self._weighed)
        held_out = [
            mixed_sample(model.tokenizer, kept, length, questions.questions, _HELD_OUT + questions.seed)
            for length in questions.lengths
        ]
        self.held_out = Judge(model, held_out, records, tell, self._weighed)

    def _weighed(self, result: Mapping[str, Any]) -> list[float]:
        return weighed(result, self._questions.purpose)

    def preset(self, setting: Mapping[str, Any]) -> Preset:
        """The preset of a setting."""
        return make_preset({**self._preset, **setting}, self._directory)

    def scores(self, setting: Mapping[str, Any], sample: int) -> list[float]:
        """What the answers to one sample count, of each length."""
        if setting not in self.tried:
            self.tried.append(setting)
        count, preset = len(self._questions.lengths), self.preset(setting)
        prompts = range(sample * count, (sample + 1) * count)
        return [score for prompt in prompts for score in self.judge.scores(preset, prompt)]

    def check(self, setting: Mapping[str, Any]) -> dict[str, Any]:
        """How a setting does on the texts that are held out, and against the first that was tried."""
        preset, first, scores = self.preset(setting), self.preset(self.tried[0]), dict[str, list[float]]()
        for item in range(len(self.held_out.items)):
            self.held_out.result(first, item)
            for kind, found in by_kind(self.held_out.result(preset, item)).items():
                scores.setdefault(kind, []).extend(found)
        verdict = self.held_out.verdict(preset, first)
        checked = {
            "asked": verdict.questions,
            "score": round(verdict.score, 3),
            "exact": round(verdict.exact, 3),
            "kinds": {kind: round(fmean(found), 3) for kind, found in scores.items()},
        }
        if setting == self.tried[0] or verdict.error is None:
            return checked
        return checked | {"ahead_of_the_first": round(verdict.ahead, 3), "standard_error": round(verdict.error, 3)}

    def describe(self, setting: Mapping[str, Any]) -> dict[str, Any]:
        """How a setting was found and how it does on other texts, as a preset's `calibration` tells it."""
        verdict = self.judge.verdict(self.preset(setting))
        return {
            **self._questions.describe(),
            "for": self._questions.purpose,
            "asked": verdict.questions,
            "score": round(verdict.score, 3),
            "exact": round(verdict.exact, 3),
            "held_out": self.check(setting),
            "versions": versions(),
        }
