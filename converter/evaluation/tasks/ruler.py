"""RULER: thirteen tasks, at any length, for a model's own tokenizer, and what their answers are worth.

Hsieh et al., "RULER: What's the Real Context Size of Your Long-Context Language Models?" (arXiv 2404.06654). Prompts,
parameters and metrics are those of the published code, which made the published numbers; where it and the paper differ
(the paper draws frequent words from a distribution, the code takes the expected counts), the code is followed. With the
same words, text, seed and tokenizer the prompts are its prompts: `docs/ruler.md` says how this was compared, and where
they are not.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Literal

from ropext.converter.errors import UsageError
from ropext.converter.text import did_you_mean

from .ruler_fitting import Draft, NoRoom, Setting
from .ruler_needles import Needles, needles
from .ruler_questions import DOWNLOADS, Questions, questions
from .ruler_variables import Variables, variables
from .ruler_words import HOW_TO_INSTALL, CommonWords, FrequentWords, common_words, frequent_words, installed
from .texts import load_text

__all__ = [
    "LENGTHS",
    "TASKS",
    "Example",
    "Summary",
    "Task",
    "effective_length",
    "generate",
    "match",
    "missing",
    "score",
    "string_match_all",
    "string_match_part",
    "summarize",
]

LENGTHS = (4096, 8192, 16384, 32768, 65536, 131072)
"""Those of the publication (tokens)."""

THRESHOLD = 85.6
"""What Llama-2-7B (chat) has at 4k, percent: less is not counted as using a length."""


@dataclass(frozen=True)
class Task:
    """One of the thirteen.

    Attributes:
        parameters: as published.
        new_tokens: that an answer may have.
        metric: `all` counts the part of the answers that are found, `part` whether any is.
    """

    parameters: Needles | Variables | CommonWords | FrequentWords | Questions
    new_tokens: int = 128
    metric: Literal["all", "part"] = "all"


TASKS: Mapping[str, Task] = {
    "niah_single_1": Task(Needles("noise")),
    "niah_single_2": Task(Needles("essay")),
    "niah_single_3": Task(Needles("essay", value="uuids")),
    "niah_multikey_1": Task(Needles("essay", keys=4)),
    "niah_multikey_2": Task(Needles("needle")),
    "niah_multikey_3": Task(Needles("needle", key="uuids", value="uuids")),
    "niah_multivalue": Task(Needles("essay", values=4)),
    "niah_multiquery": Task(Needles("essay", queries=4)),
    "vt": Task(Variables(chains=1, hops=4), new_tokens=30),
    "cwe": Task(CommonWords(common_repeats=30, other_repeats=3, common=10), new_tokens=120),
    "fwe": Task(FrequentWords(letters=6), new_tokens=50),
    "qa_1": Task(Questions("squad"), new_tokens=32, metric="part"),
    "qa_2": Task(Questions("hotpotqa"), new_tokens=32, metric="part"),
}


@dataclass(frozen=True)
class Example:
    """One prompt.

    Attributes:
        task: its name in `TASKS`, which says how long the answer may be.
        prompt: text for the model to continue: it ends with the beginning of the answer.
        answers: what the continuation should contain.
        tokens: of the prompt, without those that the tokenizer puts at its beginning and end.
    """

    task: str
    prompt: str
    answers: tuple[str, ...]
    tokens: int


def generate(
    task: str,
    tokenizer: Any,
    length: int,
    samples: int,
    seed: int = 42,
    *,
    text: str | None = None,
    squad: Path | None = None,
    hotpotqa: Path | None = None,
    template: str = "{task}",
) -> list[Example]:
    """Make a task's first examples.

    Args:
        task: its name in `TASKS`.
        tokenizer: of the model to be asked.
        length: of prompt and answer together (tokens), met to within a step of the published search.
        samples: how many; 500 in the publication.
        seed: the same one gives the same examples on every machine; 42 in the publication.
        text: prose to hide needles in; what Python ships about itself by default, which each version of Python words
            a little differently.
        squad: dev-v2.0.json, for `qa_1`.
        hotpotqa: hotpot_dev_distractor_v1.json, for `qa_2`.
        template: what the model wants around a task, with `{task}` in it: its chat template, say.

    Raises:
        UsageError: there is no such task, it needs something that is `missing`, its file cannot be read or has too few
            questions, or the length leaves no room for it.
    """
    if task not in TASKS:
        raise UsageError(f"{task} is none of RULER's tasks, {', '.join(TASKS)}{did_you_mean(task, TASKS)}")
    if why := missing(task, squad=squad, hotpotqa=hotpotqa):
        raise UsageError(f"{task}: {why}")
    if "{task}" not in template:
        raise UsageError("the template around a task has no {task} in it")
    setting = Setting(tokenizer, length, TASKS[task].new_tokens, seed, template)
    try:
        drafts = list(islice(_drafts(TASKS[task], setting, text, squad, hotpotqa), samples))
    except NoRoom:
        raise UsageError(f"{task}: {length} tokens are too few; choose a longer length") from None
    if len(drafts) < samples:
        raise UsageError(f"{task}: its file has {len(drafts)} questions; ask for no more samples than that")
    return [Example(task, draft.prompt, draft.answers, setting.count(draft.prompt)) for draft in drafts]


def _drafts(
    task: Task, setting: Setting, text: str | None, squad: Path | None, hotpotqa: Path | None
) -> Iterator[Draft]:
    parameters = task.parameters
    if isinstance(parameters, Needles):
        if parameters.haystack == "essay" and text is None:
            text = " ".join(load_text().sentences)
        return needles(parameters, setting, text or "")
    if isinstance(parameters, Variables):
        return variables(parameters, setting)
    if isinstance(parameters, CommonWords):
        return common_words(parameters, setting)
    if isinstance(parameters, FrequentWords):
        return frequent_words(parameters, setting)
    file = squad if parameters.dataset == "squad" else hotpotqa
    assert file is not None
    return questions(parameters, setting, file)


def missing(task: str, *, squad: Path | None = None, hotpotqa: Path | None = None) -> str | None:
    """What a task needs that is not here, to leave it out by name; None where it can be made."""
    parameters = TASKS[task].parameters
    if isinstance(parameters, Questions) and {"squad": squad, "hotpotqa": hotpotqa}[parameters.dataset] is None:
        return f"needs a file that is not here: {DOWNLOADS[parameters.dataset]}"
    words = isinstance(parameters, CommonWords) or (isinstance(parameters, Needles) and parameters.words)
    return f"needs words of a package that is not installed: {HOW_TO_INSTALL}" if words and not installed() else None


def score(task: str, predictions: Sequence[str], references: Sequence[Sequence[str]]) -> float:
    """A task's score by its published metric, percent, to two digits.

    Args:
        task: its name in `TASKS`.
        predictions: what the model said, without the prompt.
        references: the answers of each example.
    """
    metric = string_match_all if TASKS[task].metric == "all" else string_match_part
    return metric([_readable(prediction) for prediction in predictions], references)


def match(task: str, prediction: str, answers: Sequence[str]) -> float:
    """One prediction's part of the score, from 0 to 1."""
    found = _found(_readable(prediction), answers)
    return sum(found) / len(found) if TASKS[task].metric == "all" else float(any(found))


def string_match_all(predictions: Sequence[str], references: Sequence[Sequence[str]]) -> float:
    """How many of the answers are in the prediction, whatever their case: mean over the examples, percent."""
    return _percent([sum(found) / len(found) for found in map(_found, predictions, _same(predictions, references))])


def string_match_part(predictions: Sequence[str], references: Sequence[Sequence[str]]) -> float:
    """Whether any of the answers is in the prediction, whatever its case: mean over the examples, percent."""
    return _percent([float(any(found)) for found in map(_found, predictions, _same(predictions, references))])


def _found(prediction: str, answers: Sequence[str]) -> list[bool]:
    return [answer.lower() in prediction.lower() for answer in answers]


def _same(predictions: Sequence[str], references: Sequence[Sequence[str]]) -> Sequence[Sequence[str]]:
    if not predictions or len(predictions) != len(references):
        raise ValueError(f"{len(predictions)} predictions and {len(references)} references; give as many of each")
    return references


def _percent(scores: Sequence[float]) -> float:
    return round(sum(scores) / len(scores) * 100, 2)


def _readable(prediction: str) -> str:
    """The prediction as the published scorer reads it: control characters are line ends."""
    return re.sub(r"[\x00-\x1f]", "\n", prediction.strip()).strip()


@dataclass(frozen=True)
class Summary:
    """A model's row in RULER's table, percent.

    Attributes:
        averages: over the tasks, for each length.
        average: of those.
        increasing: their average with weights 1, 2, 3, … from the shortest length to the longest (`wAvg. (inc)`).
        decreasing: with weights from the longest to the shortest (`wAvg. (dec)`).
        left_out: tasks that some length lacks: without them the numbers are not those of the publication.
    """

    averages: Mapping[int, float]
    average: float
    increasing: float
    decreasing: float
    left_out: tuple[str, ...]


def summarize(scores: Mapping[int, Mapping[str, float]]) -> Summary:
    """Put the scores of tasks together.

    Args:
        scores: of each task, for each length in tokens; for the publication's numbers all of `LENGTHS`.
    """
    averages = {length: sum(scores[length].values()) / len(scores[length]) for length in sorted(scores)}
    ordered = list(averages.values())
    weights = list(range(1, len(ordered) + 1))

    def weighted(weights: Sequence[int]) -> float:
        return sum(weight * each for weight, each in zip(weights, ordered, strict=True)) / sum(weights)

    left_out = tuple(task for task in TASKS if any(task not in tasks for tasks in scores.values()))
    return Summary(averages, sum(ordered) / len(ordered), weighted(weights), weighted(weights[::-1]), left_out)


def effective_length(summary: Summary) -> int | None:
    """The longest length whose average is at least Llama-2-7B's at 4k; None where none is."""
    return max((length for length, average in summary.averages.items() if average >= THRESHOLD), default=None)
