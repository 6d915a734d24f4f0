"""What a reader wants to know first: which model does best, how surely, and what was not asked alike."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile

from .cells import difference, number
from .drawing import tokens
from .results import Experiment
from .statistics import METRICS, Estimate, Metric, estimate, pairs

__all__ = [
    "Verdict",
    "best",
    "comparison",
    "headline",
    "left_out",
    "main_metric",
    "ranked",
    "short_names",
    "unlike",
    "verdict",
]

_MAIN = {"niah": "log_probability", "attention": "far_share"}
"""The number that tells models apart soonest, where it is not the first of a task's."""
_UNRANKED = ("attention",)
"""Tasks whose numbers are neither good nor bad."""
_UNITS = {"exact": "% right", "log_probability": "nats", "balanced": "nats", "score": "%"}
_ENDS = "-_/. "
_LONGEST = 48
"""Letters of a name that a picture has room for."""
_SHORTEST = 4
"""Letters of a start of names that is worth leaving out."""


def main_metric(experiment: Experiment) -> Metric:
    """The number that a task is judged by."""
    metrics = METRICS[experiment.task]
    return next((each for each in metrics if each.name == _MAIN.get(experiment.task)), metrics[0])


def comparison(experiment: Experiment) -> Metric:
    """The metric that compares by it."""
    metrics = list(METRICS[experiment.task])
    return metrics[metrics.index(main_metric(experiment)) + 1]


def ranked(experiment: Experiment) -> list[str]:
    """The reference, then the others from the best to the worst beyond the trained length."""
    finer = [each for each in METRICS[experiment.task] if each.name == "log_probability"]

    def place(preset: str) -> tuple[float, ...]:
        return tuple(_badness(each, experiment, preset) for each in (main_metric(experiment), *finer))

    first, *others = experiment.presets
    if experiment.task in _UNRANKED:
        return [first, *others]
    return [first, *sorted(others, key=place)]


def best(metric: Metric, experiment: Experiment, length: int) -> set[str]:
    """Who has the best number at a length, of those who were asked the same; nobody where all have the same."""
    found = {preset: estimate(metric, experiment, preset, length) for preset in experiment.presets}
    values = {
        preset: each.value
        for preset, each in found.items()
        if each and not _asked_otherwise(experiment, preset, length)
    }
    if len(set(values.values())) < 2 or not metric.of or experiment.task in _UNRANKED:
        return set()
    top = min(values.values()) if metric.least else max(values.values())
    return {preset for preset, value in values.items() if value == top}


@dataclass(frozen=True)
class Verdict:
    """Who is best beyond the trained length.

    Attributes:
        where: at which lengths.
        first: the best preset.
        number: its number, with a unit.
        reference: that of what it is compared with.
        ahead: by how much it is ahead, and what speaks for that.
        rivals: how many presets were asked the same.
        behind: the reference is better all the same.
    """

    where: str
    first: str
    number: str
    reference: str
    ahead: str
    rivals: int
    behind: bool


def verdict(experiment: Experiment) -> Verdict | None:
    """Who is best; None where there is nobody to compare with."""
    metric, compared, lengths = main_metric(experiment), comparison(experiment), _judged(experiment)
    its, *others = ranked(experiment)
    found = {preset: _over(metric, experiment, preset, lengths) for preset in (its, *others[:1])}
    ahead = _over(compared, experiment, others[0], lengths) if others else None
    if ahead is None or None in found.values() or experiment.task in _UNRANKED:
        return None
    bad = {preset: _badness(metric, experiment, preset) for preset in (its, *others)}
    return Verdict(
        where=_where(experiment, lengths),
        first=others[0],
        number=_with_unit(metric, found[others[0]]),
        reference=_with_unit(metric, found[its]),
        ahead=difference(compared, ahead),
        rivals=sum(math.isfinite(bad[preset]) for preset in others),
        behind=bad[its] < bad[others[0]],
    )


def headline(experiment: Experiment, *, short: bool = False) -> str:
    """One sentence: who is best beyond the trained length; nothing where there is nobody to compare with.

    Args:
        experiment: what was measured.
        short: call presets by their short names, as pages and pictures do.
    """
    found = verdict(experiment)
    if found is None:
        return ""
    name = experiment.name(experiment.reference)
    called = short_names(experiment)[found.first] if short else found.first
    best_of = f" does best of {found.rivals}{f', behind {name}' if found.behind else ''}" if found.rivals > 1 else ""
    kind = "ratio" if comparison(experiment).neutral else "difference"
    return f"{found.where}, {called}{best_of}: {found.number}; {name}: {found.reference}; {kind}: {found.ahead}."


def unlike(experiment: Experiment) -> list[str]:
    """Sentences about models that were not asked what the reference was."""
    found = []
    for preset in experiment.presets[1:]:
        lengths = [length for length in experiment.lengths if experiment.at(preset, length)]
        alone = [length for length in lengths if not experiment.at(experiment.reference, length)]
        other = [length for length in lengths if length not in alone and not pairs(experiment, preset, length)]
        its = experiment.name(experiment.reference)
        if other:
            found.append(f"{preset} was not asked what {its} was, at {_list(other)}: they are not compared there.")
        if alone:
            found.append(f"{its} was not measured at {_list(alone)}, where {preset} was.")
    return found


def left_out(experiment: Experiment) -> str:
    """What short names leave out: what most presets' names begin with and names the model, or what all begin with."""
    names = [preset for preset in experiment.presets if preset != experiment.reference]
    starts = Counter(filter(None, (_model_start(name, experiment.source) for name in names)))
    return starts.most_common(1)[0][0] if starts else _shared_start(names)


def short_names(experiment: Experiment) -> dict[str, str]:
    """The models' names for readers, without what `left_out` says, and cut to a picture's room."""
    start = left_out(experiment)
    names = {preset: experiment.name(preset) for preset in experiment.presets}
    short = {preset: name.removeprefix(start) for preset, name in names.items()}
    if len(set(short.values())) < len(names):
        short = names
    return {preset: name if len(name) <= _LONGEST else f"{name[: _LONGEST - 1]}…" for preset, name in short.items()}


def _model_start(name: str, source: str) -> str:
    """The start of a preset's name that spells the model's, up to a hyphen or the like: `smollm2-135m-`."""
    model = _letters(source)
    ends = [place for place, letter in enumerate(name[:-1], start=1) if letter in _ENDS]
    found = [name[:end] for end in ends if model.startswith(_letters(name[:end]))]
    return max((each for each in found if len(each) >= _SHORTEST), key=len, default="")


def _letters(name: str) -> str:
    return "".join(letter for letter in name.lower() if letter.isalnum())


def _shared_start(names: Sequence[str]) -> str:
    """What names begin with, up to a hyphen or the like; nothing for fewer than two."""
    alike = takewhile(lambda letters: len(set(letters)) == 1, zip(*names, strict=False)) if len(names) > 1 else ()
    start = "".join(letters[0] for letters in alike)
    end = max(start.rfind(each) for each in _ENDS) + 1
    return start[:end] if end >= _SHORTEST else ""


# Over several lengths


def _judged(experiment: Experiment) -> list[int]:
    """The lengths that models are ordered by.

    Right answers are counted over all lengths beyond the trained one, as each question is a test of its own. Other
    numbers depend on the length, so that only the longest one counts.
    """
    if main_metric(experiment).name not in ("exact", "score"):
        return experiment.lengths[-1:]
    trained = experiment.settings.get("trained_length")
    far = [length for length in experiment.lengths if isinstance(trained, int) and length > trained]
    return far or experiment.lengths


def _where(experiment: Experiment, lengths: Sequence[int]) -> str:
    if len(lengths) == 1:
        return f"At {tokens(lengths[0])} tokens"
    if lengths[0] > experiment.lengths[0]:
        return f"Beyond {tokens(experiment.settings['trained_length'])} tokens"
    return f"From {tokens(lengths[0])} to {tokens(lengths[-1])} tokens"


def _over(metric: Metric, experiment: Experiment, preset: str, lengths: Sequence[int]) -> Estimate | None:
    """A metric over all prompts of several lengths; None where one was not measured."""
    if metric.of:
        found = [list(experiment.at(preset, length).values()) for length in lengths]
        return metric.of([value for each in found for value in each]) if all(found) else None
    both = [pairs(experiment, preset, length) for length in lengths]
    return metric.beside([pair for each in both for pair in each]) if metric.beside and all(both) else None


def _badness(metric: Metric, experiment: Experiment, preset: str) -> float:
    """A number that is low for the best; infinite for who was not asked all, or something else."""
    lengths = _judged(experiment)
    found = _over(metric, experiment, preset, lengths)
    if found is None or any(_asked_otherwise(experiment, preset, length) for length in lengths):
        return math.inf
    return found.value if metric.least else -found.value


def _asked_otherwise(experiment: Experiment, preset: str, length: int) -> bool:
    its = experiment.at(experiment.reference, length)
    return bool(its) and preset != experiment.reference and not pairs(experiment, preset, length)


def _with_unit(metric: Metric, found: Estimate | None) -> str:
    if found is None:
        return "nothing"
    return f"{number(metric, found.value)} {_UNITS.get(metric.name, '')}".strip()


def _list(lengths: Sequence[int]) -> str:
    return f"{', '.join(map(tokens, lengths))} tokens"
