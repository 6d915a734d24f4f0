"""Mixed questions by kind, in numbers that need no explanation of nats: what the pictures and README show."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from statistics import fmean, median

from ropext.converter.evaluation.report.ranking import ranked, short_names
from ropext.converter.evaluation.report.results import Experiment
from ropext.converter.evaluation.report.statistics import METRICS, estimate
from ropext.converter.methods.registry import FREQUENCY_METHODS
from ropext.converter.presets.load import list_presets

from .methods import Methods

DIGITS = 5
"""Of a number that is asked for."""
GUESS = 10.0
"""Percent that a digit gets which nothing is known of."""
_BY_HEART = 0.4
"""A loss below this share of the usual one is that of a text that was there before."""
TEXT = "text"
"""The kind that is prose and no question."""


@dataclass(frozen=True)
class Row:
    """One model in a picture.

    Attributes:
        name: the preset's short name; `base` for the model as it is.
        family: `base`, `stock` for what stock configuration keys can say, or `own` for an attention of its own.
        known: by kind, the probability of a digit of the right answer: percent, geometric mean.
        beyond: perplexity of the prose beyond the trained length; None where there is none that does not repeat itself.
        inside: perplexity of the prose before it; None where the trained length is unknown.
        cost: how much higher than the base's that is, percent.
        shipped: a preset of ropext has this name.
    """

    name: str
    family: str
    known: dict[str, float]
    beyond: float | None
    inside: float | None
    cost: float | None
    shipped: bool


@cache
def shipped() -> frozenset[str]:
    """The names of ropext's presets."""
    return frozenset(preset.name for preset in list_presets())


def rows(experiment: Experiment, methods: Methods) -> list[Row]:
    """The base and all methods at the longest length, from the best to the worst."""
    length, names, its = experiment.lengths[-1], short_names(experiment), experiment.reference
    start, _ = _losses(experiment, its, length)
    found = []
    for preset in ranked(experiment):
        if not experiment.at(preset, length):
            continue
        inside, beyond = _losses(experiment, preset, length)
        cost = None if inside is None or start is None else 100 * math.expm1(inside - start)
        before, after = (None if each is None else math.exp(each) for each in (inside, beyond))
        known = {kind: _known(experiment, preset, length, kind) for kind in experiment.subtasks if kind != TEXT}
        found.append(Row(names[preset], _family(preset, its, methods), known, after, before, cost, preset in shipped()))
    return found


def to_be_had(found: Sequence[Row]) -> list[Row]:
    """The base and what a visitor can have at once, by a preset of ropext; all rows where there is none."""
    named = [each for each in found if each.family == "base" or each.shipped]
    return named if any(each.shipped for each in named) else list(found)


def few(found: Sequence[Row]) -> list[Row]:
    """The rows for one glance: the base, YaRN, the best by stock keys, the two best with an attention of their own."""
    stock = [each for each in found if each.family == "stock"]
    own = [each for each in found if each.family == "own"]
    kept = [*found[:1], *(each for each in stock if each.name == "yarn"), *stock[:1], *own[:2]]
    return [each for each in found if each in kept]


def trained_share(experiment: Experiment) -> tuple[int, int]:
    """The trained length and the longest one asked about, tokens."""
    return int(experiment.settings.get("trained_length") or 0), experiment.lengths[-1]


def _family(preset: str, reference: str, methods: Methods) -> str:
    if preset == reference:
        return "base"
    return "stock" if methods.get(preset) in FREQUENCY_METHODS else "own"


def _known(experiment: Experiment, preset: str, length: int, kind: str) -> float:
    found = estimate(METRICS["mixed"][0], experiment, preset, length, kind)
    return 100 * math.exp(found.value / DIGITS) if found else 0.0


def fresh(experiment: Experiment) -> tuple[int, int]:
    """How many pieces of the prose come before it repeats itself, and how many there are.

    Prose that is shorter than the text begins again, and is then known by heart: the best model's loss falls to a part
    of what it was. The piece before that may hold some of it, too.
    """
    length = experiment.lengths[-1]
    found = [value["losses"] for preset in experiment.presets for value in experiment.at(preset, length, TEXT).values()]
    least = [min(column) for column in zip(*found, strict=False)]
    usual = median(least[: max(1, len(least) // 4)]) if least else 0.0
    again = [place for place, loss in enumerate(least) if loss < _BY_HEART * usual]
    return (max(0, again[0] - 1) if again else len(least)), len(least)


def _losses(experiment: Experiment, preset: str, length: int) -> tuple[float | None, float | None]:
    """The mean losses of a token of the prose, nats: of the pieces inside the trained length, and of those beyond."""
    trained, _ = trained_share(experiment)
    first, _ = fresh(experiment)
    inside: list[float] = []
    beyond: list[float] = []
    for value in experiment.at(preset, length, TEXT).values():
        losses = value["losses"]
        border = min(len(losses), len(losses) * trained // length)
        inside += losses[: min(border, first)]
        beyond += losses[border:first]
    return (fmean(inside) if inside else None), (fmean(beyond) if beyond else None)
