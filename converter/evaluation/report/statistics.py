"""What measurements come to: shares, means and differences to the base, each with its 95% interval.

Shares have Wilson's interval. Differences are taken on the same prompts: prompt by prompt, so that what makes a prompt
hard for all falls out (questions about one text are not independent). Those of log-probabilities have Student's
interval over prompts, which is wide for few. Those of right answers and of scores have an exact test, since a few
answers that all agree would give an interval of no width.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean, median

from ropext.converter.evaluation.tasks import ruler

from .attention import FAR, far_share
from .exact import flipped
from .intervals import student, wilson
from .lines import Value
from .results import Experiment

__all__ = [
    "METRICS",
    "Estimate",
    "Metric",
    "estimate",
    "estimates",
    "pairs",
    "ruler_summary",
]

_LEVEL = 0.05

Pairs = Sequence[tuple[Value, Value]]
Values = Sequence[Value]


@dataclass(frozen=True)
class Estimate:
    """A number and its 95% interval.

    Attributes:
        value: the number.
        low: lower end of the interval; None where there is too little for one.
        high: upper end.
        count: questions, tokens or prompts that it rests on.
        prompts: of a comparison: texts that both read, which are independent of each other.
        p: of a comparison of counts: the exact test's; None where the interval decides.
    """

    value: float
    low: float | None = None
    high: float | None = None
    count: int = 0
    prompts: int = 0
    p: float | None = None

    def differs(self, neutral: float) -> bool:
        """Whether a comparison is resolved: the test, or else the interval, excludes that both are alike."""
        if self.p is not None:
            return self.p < _LEVEL
        return self.low is not None and self.high is not None and not self.low <= neutral <= self.high

    def transformed(self, function: Callable[[float], float]) -> Estimate:
        """Apply a monotonic function to the value and its interval."""
        low, high = (None if end is None else function(end) for end in (self.low, self.high))
        return replace(self, value=function(self.value), low=low, high=high)


@dataclass(frozen=True)
class Metric:
    """Something that measurements say.

    Attributes:
        name: for files.
        title: for readers, with its unit.
        of: its estimate from a preset's measurements; None for a metric that compares.
        beside: its estimate from measurements of preset and reference on the same prompts.
        neutral: of a comparison: its value where both are alike.
        least: the lowest number is the best.
    """

    name: str
    title: str
    of: Callable[[Values], Estimate | None] | None = None
    beside: Callable[[Pairs], Estimate | None] | None = None
    neutral: float = 0.0
    least: bool = False


def estimate(
    metric: Metric, experiment: Experiment, preset: str, length: int, subtask: str | None = None
) -> Estimate | None:
    """A metric of a preset at a length, for one of the subtasks or over all; None where it was not measured."""
    mine = experiment.at(preset, length, subtask)
    if metric.of:
        return metric.of(list(mine.values())) if mine else None
    if preset == experiment.reference or not metric.beside:
        return None
    both = pairs(experiment, preset, length, subtask)
    return metric.beside(both) if both else None


def pairs(
    experiment: Experiment, preset: str, length: int, subtask: str | None = None, other: str = ""
) -> list[tuple[Value, Value]]:
    """Measurements of a preset beside those of another, by default of the reference, on the same prompts."""
    mine, its = (experiment.at(each, length, subtask) for each in (preset, other or experiment.reference))
    return [(mine[key], its[key]) for key in mine if key in its and _same(mine[key], its[key])]


def estimates(experiment: Experiment) -> Iterator[tuple[Metric, str, int, str, Estimate]]:
    """Every estimate there is: metric, preset, length, subtask or kind (empty over all of them)."""
    subtasks = [None, *(each for each in experiment.subtasks if each)]
    for metric in METRICS[experiment.task]:
        for preset in experiment.presets:
            for length in experiment.lengths:
                for subtask in subtasks:
                    found = estimate(metric, experiment, preset, length, subtask)
                    if found:
                        yield metric, preset, length, subtask or "", found


def _same(mine: Value, its: Value) -> bool:
    """Whether two measurements are of the same prompt: by its digest, or by what older results say of it."""
    if "asked" in mine and "asked" in its:
        return bool(mine["asked"] == its["asked"])
    asked = [
        [answer["depth"] for answer in each.get("answers", ()) if isinstance(answer, dict)] for each in (mine, its)
    ]
    return mine["tokens"] == its["tokens"] and asked[0] == asked[1] and mine.get("counted") == its.get("counted")


# Means of prompts


def _mean_of(parts: Sequence[tuple[float, int]], count: int) -> Estimate:
    """The mean of sums over items, one sum for each prompt; the interval is over prompts."""
    mean, error = _mean_and_error(parts)
    if error is None:
        return Estimate(mean, count=count, prompts=len(parts))
    margin = student(len(parts) - 1) * error
    return Estimate(mean, mean - margin, mean + margin, count, len(parts))


def _mean_and_error(parts: Sequence[tuple[float, int]]) -> tuple[float, float | None]:
    """The weighted mean and its standard error over prompts; no error for fewer than two."""
    items = sum(weight for _, weight in parts)
    mean = sum(each for each, _ in parts) / items
    prompts = len(parts)
    if prompts < 2 or not math.isfinite(mean):
        return mean, None
    square = sum((each - mean * weight) ** 2 for each, weight in parts)
    return mean, math.sqrt(square * prompts / (prompts - 1)) / items


# Needles and passkeys


def _exact(values: Values) -> Estimate:
    return _share([answer["exact"] for value in values for answer in value["answers"]])


def _share(right: Sequence[bool]) -> Estimate:
    low, high = wilson(fmean(right), len(right))
    return Estimate(100 * fmean(right), 100 * low, 100 * high, len(right))


def _log_probability(values: Values) -> Estimate:
    known = [answer["log_probability"] for value in values for answer in value["answers"]]
    return Estimate(fmean(known), count=len(known))


def _log_probability_difference(pairs: Pairs) -> Estimate:
    parts = []
    for values in pairs:
        mine, its = ([answer["log_probability"] for answer in value["answers"]] for value in values)
        parts.append((math.fsum(a - b for a, b in zip(mine, its, strict=True)), len(mine)))
    return _mean_of(parts, sum(weight for _, weight in parts))


def _exact_difference(pairs: Pairs) -> Estimate:
    parts = []
    for values in pairs:
        mine, its = ([answer["exact"] for answer in value["answers"]] for value in values)
        parts.append((float(sum(mine) - sum(its)), len(mine)))
    found = _mean_of(parts, sum(weight for _, weight in parts)).transformed(_times_100)
    return _tested(found, [each for each, _ in parts])


def _tested(found: Estimate, differences: Sequence[float]) -> Estimate:
    """An estimate with the exact test's p in the place of the interval, where there is one."""
    p = flipped(differences)
    return found if p is None else replace(found, low=None, high=None, p=p)


# Perplexity


def _perplexity(values: Values) -> Estimate:
    counted = sum(value["counted"] for value in values)
    return Estimate(_exp(math.fsum(value["nll"] for value in values) / counted), count=counted)


def _perplexity_ratio(pairs: Pairs) -> Estimate:
    parts = [(mine["nll"] - its["nll"], mine["counted"]) for mine, its in pairs]
    return _mean_of(parts, sum(weight for _, weight in parts)).transformed(_exp)


def _exp(value: float) -> float:
    try:
        return math.exp(value)
    except OverflowError:
        return math.inf


# Attention


def _first_share(values: Values) -> Estimate:
    return Estimate(100 * fmean(value["first"] for value in values), count=len(values))


def _far_share(values: Values) -> Estimate | None:
    shares = [share for share in map(far_share, values) if share is not None]
    return Estimate(100 * fmean(shares), count=len(shares)) if shares else None


def _far_share_ratio(pairs: Pairs) -> Estimate | None:
    shares = [(far_share(mine), far_share(its)) for mine, its in pairs]
    parts = [(math.log(mine / its), 1) for mine, its in shares if mine and its]
    return _mean_of(parts, len(parts)).transformed(_exp) if parts else None


# Tasks of several parts: RULER, L-Eval, mixed questions


def _score(values: Values) -> Estimate:
    """The mean of the parts' means."""
    scores: dict[str, list[float]] = {}
    for value in values:
        scores.setdefault(value["task"], []).append(value["score"])
    return Estimate(fmean(map(fmean, scores.values())), count=len(values))


Texts = Mapping[str, Mapping[int, Sequence[float]]]


def _texts(pairs: Pairs) -> Texts:
    """Differences of scores by part and text.

    A text is a prompt of RULER's, or a document of L-Eval's with all its questions.
    """
    parts: dict[str, dict[int, list[float]]] = {}
    for mine, its in pairs:
        texts = parts.setdefault(mine["task"], {})
        texts.setdefault(mine.get("document", mine["seed"]), []).append(mine["score"] - its["score"])
    return parts


def _mean_difference(parts: Texts) -> Estimate:
    """The mean of the parts' mean differences; the interval takes the parts as given and their texts as drawn."""
    found = [_mean_and_error([(math.fsum(each), len(each)) for each in texts.values()]) for texts in parts.values()]
    mean = fmean(each for each, _ in found)
    squares = [error**2 for _, error in found if error is not None]
    count = sum(len(each) for texts in parts.values() for each in texts.values())
    prompts = sum(map(len, parts.values()))
    if len(squares) < len(found):
        return Estimate(mean, count=count, prompts=prompts)
    margin = student(prompts - len(parts)) * math.sqrt(sum(squares)) / len(parts)
    return Estimate(mean, mean - margin, mean + margin, count, prompts)


def _balanced_difference(pairs: Pairs) -> Estimate:
    """The mean over samples, each of which has all kinds: what makes a sample hard makes it so for several of them."""
    samples: dict[int, list[float]] = {}
    for mine, its in pairs:
        samples.setdefault(mine["seed"], []).append(mine["score"] - its["score"])
    return _mean_of([(fmean(kinds), 1) for kinds in samples.values()], len(samples))


def _percent(values: Values) -> Estimate:
    return _score(values).transformed(_times_100)


def _accuracy(values: Values) -> Estimate:
    return _share([value["score"] == 1 for value in values])


def _percent_difference(pairs: Pairs) -> Estimate:
    parts = _texts(pairs)
    shares = [math.fsum(each) / sum(map(len, texts.values())) for texts in parts.values() for each in texts.values()]
    return _tested(_mean_difference(parts).transformed(_times_100), shares)


def _times_100(value: float) -> float:
    return 100 * value


def _right(values: Values) -> Estimate | None:
    right = [exact for value in values for exact in value["right"]]
    return _share(right) if right else None


def ruler_summary(experiment: Experiment, preset: str) -> tuple[ruler.Summary, int | None]:
    """A preset's row in RULER's table, and its effective length."""
    scores: dict[int, dict[str, float]] = {}
    for length in experiment.lengths:
        for subtask in experiment.subtasks:
            values = experiment.at(preset, length, subtask)
            if values:
                scores.setdefault(length, {})[subtask] = _percent(list(values.values())).value
    summary = ruler.summarize(scores)
    return summary, ruler.effective_length(summary)


# All


def _slowdown(pairs: Pairs) -> Estimate | None:
    ratios = [mine["seconds"] / its["seconds"] for mine, its in pairs if its["seconds"] > 0]
    return Estimate(median(ratios), count=len(ratios)) if ratios else None


_TIME = Metric("seconds_ratio", "Time, as multiples of the base's on the same prompts (median)", beside=_slowdown)
_QUESTIONS = (
    Metric("exact", "Exact match, percent of the questions", _exact),
    Metric(
        "exact_difference", "Exact match less the base's, same questions, percentage points", beside=_exact_difference
    ),
    Metric("log_probability", "Log-probability of the right answer, mean, nats", _log_probability),
    Metric(
        "log_probability_difference",
        "Log-probability less the base's, same questions, nats",
        beside=_log_probability_difference,
    ),
    _TIME,
)

_TASKS = (
    Metric("score", "Average over the tasks, percent", _percent),
    Metric("score_difference", "Average less the base's, same prompts, percentage points", beside=_percent_difference),
    _TIME,
)

_CHOICES = (
    Metric("score", "Accuracy, percent of the questions", _accuracy),
    Metric(
        "score_difference", "Accuracy less the base's, same questions, percentage points", beside=_percent_difference
    ),
    _TIME,
)

_KINDS = (
    Metric("balanced", "Balanced score: the mean over the kinds, nats an answer or 32 tokens of text", _score),
    Metric("balanced_difference", "Balanced score less the base's, same questions, nats", beside=_balanced_difference),
    Metric("exact", "Exact match, percent of the questions", _right),
    _TIME,
)

METRICS: Mapping[str, Sequence[Metric]] = {
    "passkey": _QUESTIONS,
    "niah": _QUESTIONS,
    "mixed": _KINDS,
    "ppl": (
        Metric("perplexity", "Perplexity", _perplexity, least=True),
        Metric("perplexity_ratio", "Perplexity over the base's, same texts", beside=_perplexity_ratio, neutral=1.0),
        _TIME,
    ),
    "attention": (
        Metric("first_share", "Attention to the first token, percent", _first_share),
        Metric("far_share", f"Attention to other tokens at least {FAR:,} tokens away, percent", _far_share),
        Metric("far_share_ratio", "The same over the base's, same texts", beside=_far_share_ratio, neutral=1.0),
        _TIME,
    ),
    "ruler": _TASKS,
    "leval": _TASKS,
    "longbench2": _CHOICES,
    "infinitebench": _TASKS,
    "helmet": _TASKS,
}
"""What is reported of each task."""
