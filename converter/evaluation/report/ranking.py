"""What a reader wants to know first: which model does best, how surely, and what was not asked alike."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import takewhile

from .cells import difference, number
from .drawing import tokens
from .results import Experiment
from .statistics import METRICS, Estimate, Metric, estimate, pairs

__all__ = ["best", "common_start", "comparison", "headline", "main_metric", "ranked", "short_names", "unlike"]

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


def headline(experiment: Experiment, *, short: bool = False) -> str:
    """One sentence: who is best beyond the trained length; nothing where there is nobody to compare with.

    Args:
        experiment: what was measured.
        short: call presets by their short names, as pictures do.
    """
    metric, compared, lengths = main_metric(experiment), comparison(experiment), _judged(experiment)
    its, *others = ranked(experiment)
    found = {preset: _over(metric, experiment, preset, lengths) for preset in (its, *others[:1])}
    ahead = _over(compared, experiment, others[0], lengths) if others else None
    if ahead is None or None in found.values() or experiment.task in _UNRANKED:
        return ""
    first, name = others[0], experiment.name(its)
    called = short_names(experiment)[first] if short else first
    values = {preset: _with_unit(metric, each) for preset, each in found.items() if each}
    rivals = sum(math.isfinite(_badness(metric, experiment, preset)) for preset in others)
    worse = _badness(metric, experiment, its) < _badness(metric, experiment, first)
    best_of = f" does best of {rivals}{', behind ' + name if worse else ''}" if rivals > 1 else ""
    kind = "ratio" if compared.neutral else "difference"
    return (
        f"{_where(experiment, lengths)}, {called}{best_of}: {values[first]}; {name}: {values[its]}; "
        f"{kind}: {difference(compared, ahead)}."
    )


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


def common_start(experiment: Experiment) -> str:
    """What the names of all presets begin with, up to a hyphen or the like; nothing for fewer than two."""
    names = [preset for preset in experiment.presets if preset != experiment.reference]
    alike = takewhile(lambda letters: len(set(letters)) == 1, zip(*names, strict=False)) if len(names) > 1 else ()
    start = "".join(letters[0] for letters in alike)
    end = max(start.rfind(each) for each in _ENDS) + 1
    return start[:end] if end >= _SHORTEST else ""


def short_names(experiment: Experiment) -> dict[str, str]:
    """The models' names for pictures, without what the presets' all begin with."""
    start = common_start(experiment)
    names = {preset: experiment.name(preset).removeprefix(start) for preset in experiment.presets}
    return {preset: name if len(name) <= _LONGEST else f"{name[: _LONGEST - 1]}…" for preset, name in names.items()}


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
