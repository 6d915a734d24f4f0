"""README's picture, sentence and table: what a visitor sees of the gallery."""

from __future__ import annotations

from collections.abc import Sequence
from textwrap import fill

from ropext.converter.evaluation.report.drawing import tokens
from ropext.converter.evaluation.report.results import Experiment
from ropext.converter.evaluation.report.tables import plain

from .drawing import described, number, perplexity
from .entries import Entry, times
from .kinds import GUESS, Row, few, to_be_had, trained_share
from .pages import NAMES, best_method, judged

BEGIN, END = "<!-- gallery: begin, made by python -m tools.gallery -->", "<!-- gallery: end -->"
PICTURE = "headline.svg"
"""The picture's file, in the folder of results."""
_NOTE = (
    "Log-probabilities are in nats; 0 is certainty. In brackets: p of an exact test, or a 95 % interval; (n = 1) is "
    "one text, which proves little. These rows show that the conversion works, not how far your model will read. "
    "[All results, with raw lines](docs/results/README.md) · [SmolLM2](docs/smollm2.md) · [Gemma 3](docs/gemma3.md)."
)


def shown(found: Sequence[Entry]) -> tuple[Experiment, list[Row]]:
    """The experiment of the picture, and its rows: mixed questions that most methods were asked, about most tokens."""
    every = [(each, to_be_had(rows)) for entry in found for each, rows, _ in entry.mixed()]
    return max(every, key=lambda pair: (len(pair[1]), pair[0].lengths[-1]))


def with_block(text: str, found: Sequence[Entry]) -> str:
    """README with its part of the gallery made anew.

    Raises:
        ValueError: the text lacks the two comments between which that stands.
    """
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"README lacks {BEGIN} … {END}")
    return f"{before}{BEGIN}\n{block(found)}\n{END}{after}"


def block(found: Sequence[Entry]) -> str:
    """Sentence, picture, how to read it, and a table of all models and tasks."""
    experiment, every = shown(found)
    alt = f"{experiment.source} at {times(experiment)}. {described(experiment, few(every))}"
    head = "| model, tokens and task | as it is | best method |\n|---|---:|---|"
    parts = [
        _filled(f"**{sentence(experiment, every)}**"),
        f"![{plain(alt)}](docs/results/{PICTURE})",
        _filled(legend(experiment, every)),
        "\n".join([head, *_rows(found)]),
        _filled(_NOTE),
    ]
    return "\n\n".join(parts)


def _filled(text: str) -> str:
    return fill(text, 120, break_long_words=False, break_on_hyphens=False)


def sentence(experiment: Experiment, found: Sequence[Row]) -> str:
    """What the picture says."""
    base, best = found[0], found[1]
    trained, _ = trained_share(experiment)
    kind = next(iter(base.known))
    prose = (
        f"its perplexity beyond {tokens(trained)} is {perplexity(best.beyond)} instead of "
        f"{perplexity(base.beyond)}, and "
        if base.beyond and best.beyond
        else ""
    )
    return (
        f"{experiment.source} at {times(experiment)}: converted by `{best.name}`, {prose}it gives each digit of a "
        f"number hidden in prose ({kind}) a probability of {number(best.known[kind])} % instead of "
        f"{number(base.known[kind])} %."
    )


def legend(experiment: Experiment, found: Sequence[Row]) -> str:
    """How to read the picture, and what it does not show."""
    stock = [each.name for each in found if each.family == "stock"]
    own = [each.name for each in found if each.family == "own"]
    near = [kind for kind in found[0].known if max(each.known[kind] for each in found) < 1.5 * GUESS]
    length = experiment.lengths[-1]
    texts = len({seed for seed, _ in experiment.at(experiment.reference, length)})
    about = f"{'one text' if texts == 1 else f'each of {texts} texts'} of {length:,} tokens"
    parts = [
        f"{experiment.settings.get('questions')} questions of each kind about {about}; a guess gives each digit "
        f"{GUESS:.0f} %.",
        f"{_listed(near)} stay near that: the model is small." if near else "",
        f"`{stock[0]}` is the best of {len(stock)} presets in stock keys." if len(stock) > 1 else "",
        f"{' and '.join(f'`{name}`' for name in own[:2])} lead the {len(own)} with an attention of their own."
        if len(own) > 1
        else "",
        "Neighbours differ by little. “Inside” is what a method costs while the text fits the trained length.",
    ]
    return " ".join(filter(None, parts))


def _listed(names: Sequence[str]) -> str:
    text = " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))
    return text[0].upper() + text[1:]


def _rows(found: Sequence[Entry]) -> list[str]:
    """One row for each model and task: the longest texts, and of those the most models."""
    chosen: dict[tuple[str, str], Experiment] = {}
    for each in (experiment for entry in found for experiment in entry.experiments):
        trained, longest = trained_share(each)
        key, other = (each.source, each.task), chosen.get((each.source, each.task))
        if longest > trained and best_method(each) and (other is None or _rank(each) > _rank(other)):
            chosen[key] = each
    rows = []
    for (source, task), each in sorted(chosen.items(), key=lambda item: (item[0][0].lower(), _order(item[0][1]))):
        numbers = best_method(each)
        if numbers:
            rows.append(f"| {plain(source)} at {judged(each)}: {NAMES[task]} | {numbers[0]} | {numbers[1]} |")
    return rows


def _rank(experiment: Experiment) -> tuple[int, int]:
    return experiment.lengths[-1], len(experiment.presets)


def _order(task: str) -> int:
    return list(NAMES).index(task)
