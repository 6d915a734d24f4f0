"""The page of all folders of results, and the pictures beside it."""

from __future__ import annotations

from collections.abc import Sequence

from ropext.converter.evaluation.report.drawing import tokens
from ropext.converter.evaluation.report.lines import TASKS
from ropext.converter.evaluation.report.ranking import headline, left_out, short_names, verdict
from ropext.converter.evaluation.report.results import Experiment
from ropext.converter.evaluation.report.tables import markdown_table, plain, shortened, summary

from .drawing import described
from .entries import Entry, times
from .kinds import fresh, trained_share

NAMES = {
    "passkey": "passkeys found",
    "niah": "needles in prose, nats",
    "mixed": "mixed questions, nats",
    "ppl": "perplexity",
    "ruler": "RULER",
    "leval": "L-Eval",
    "longbench2": "LongBench v2",
    "infinitebench": "∞Bench",
    "helmet": "HELMET",
}
"""What tasks are called in a row, with the unit of their numbers; in the order of README's rows."""

COUNTED = ("passkey", "ruler", "leval", "longbench2", "infinitebench", "helmet")
"""Tasks whose right answers are counted over several lengths."""

INTRODUCTION = """# Results

What has been measured: model × method × length. Every number is made of the raw lines beside it, by one command. Each
folder's page has intervals, differences on the same prompts, and the commands that measured them.

**Add yours.** Measure, prepare a folder, make this page again, and send a pull request:

```console
$ ropext eval mixed Qwen/Qwen3-0.6B --preset qwen3-yarn --lengths 64k
$ ropext report results/ --submit docs/results/qwen3-0.6b
$ bash docs/results/make.sh
```

The test suite checks every folder: its index by [a schema](../../schemas/results.schema.json), the digests of its
files, and that its page, this one and README are made of them.

**Check them.** `bash docs/results/make.sh measure` measures all of it again from nothing: models from PyPI, every
command, pages. It takes about {hours:.0f} hours on two cores; `--only TEXT` measures some, `--dry-run` prints the
commands.

## At a glance

The best method of each task beyond the trained length. In brackets what speaks for the difference: p of an exact test,
or a 95 % interval; (n = 1) is one text, which proves little."""

HOW_TO_READ = """## What the numbers mean

| task | number | better |
|---|---|---|
| Passkey | a number hidden in filler: answers right to the last digit, percent | higher |
| Needles | numbers hidden in prose: mean log-probability of the right answer, nats; 0 is certainty, −11.4 a guess | \
higher |
| Mixed questions | the same, mean over needles, pairs, variables, passkeys, and 32 tokens of the prose | higher |
| Perplexity | of prose: e to the mean loss of a token | lower |

The first row of a table or picture is the model as it is, the others stand from the best to the worst; bold is the best
of a column. Pictures of mixed questions spread a number over its five digits: a guess has 10 %. “Inside” is what a
method costs while the text fits the trained length: by how much the perplexity there is above the base's. Orange
methods change frequencies alone, so that [stock configuration keys](../native.md) say all of them; blue ones bring an
attention of their own. Numbers of different models, or of different settings, are not comparable."""


def page(found: Sequence[Entry], hours: float) -> str:
    """The page of all folders, which it takes some hours to measure again."""
    rows = [row for entry in found for row in _glance(entry)]
    head = "| model, tokens and task | as it is | best method |\n|---|---:|---|"
    parts = [part for entry in found for part in _folder(entry)]
    return (
        "\n\n".join([INTRODUCTION.format(hours=max(1.0, hours)), "\n".join([head, *rows]), HOW_TO_READ, *parts]) + "\n"
    )


def best_method(experiment: Experiment) -> tuple[str, str] | None:
    """The base's number, and the best method's with its name and what speaks for it; None without a comparison."""
    found = verdict(experiment)
    if found is None:
        return None
    name, (_, _, why) = short_names(experiment)[found.first], found.ahead.partition("(")
    sure = "not resolved, " if found.ahead.startswith("not resolved") else ""
    behind = "; the base is better" if found.behind else ""
    first, count = fresh(experiment) if experiment.task == "mixed" else (0, 0)
    again = "; the prose repeats itself" if first < count else ""
    its, best = (number.removesuffix(" nats").removesuffix(" right") for number in (found.reference, found.number))
    return plain(its), f"**{plain(best)}** `{name}` ({sure}{why.rstrip(')')}{behind}{again})"


def reach(experiment: Experiment) -> str:
    """The lengths of an experiment, short."""
    return ", ".join(map(tokens, experiment.lengths))


def judged(experiment: Experiment) -> str:
    """The lengths that the best method's number is of: counts are over all beyond the trained one."""
    trained, longest = trained_share(experiment)
    far = [length for length in experiment.lengths if length > trained]
    return ", ".join(map(tokens, far)) if experiment.task in COUNTED and far else tokens(longest)


def _glance(entry: Entry) -> list[str]:
    rows = []
    for each in entry.experiments:
        numbers = best_method(each)
        if numbers:
            name = f"[{plain(each.source)}]({entry.place.name}/README.md) at {judged(each)}: {NAMES[each.task]}"
            rows.append(f"| {name} | {numbers[0]} | {numbers[1]} |")
    return rows


def _repeated(experiment: Experiment) -> list[str]:
    """A warning where the prose is shorter than the text."""
    first, count = fresh(experiment)
    if first == count:
        return []
    begins = tokens(round(experiment.lengths[-1] * first / count))
    return [
        f"**The prose repeats itself** from about {begins} tokens on, where models know it by heart: neither `text` "
        "nor the score, which holds it, says how well they read prose beyond the trained length. The answers do."
    ]


def _folder(entry: Entry) -> list[str]:
    place = entry.place.name
    pictures = {id(each): (shown, file) for each, shown, file in entry.mixed()}
    parts = [f"## {place}\n\n[All numbers]({place}/README.md) · [raw lines]({place})"]
    for each in entry.experiments:
        parts.append(f"### {plain(f'{TASKS[each.task]} at {reach(each)} tokens: {each.source}')}")
        if sentence := headline(each, short=True):
            parts.append(f"**{plain(sentence)}**")
        if id(each) in pictures:
            shown, file = pictures[id(each)]
            alt = f"{each.source} at {times(each)}. {described(each, shown)}"
            parts.append(f"![{plain(alt)}]({place}/{file})")
            parts += _repeated(each)
        if start := left_out(each):
            parts.append(plain(f"Names are without “{start}”."))
        table = shortened(summary(each)[0], each)
        parts.append(f"{plain(table.caption)}:\n\n{markdown_table(table)}")
    return parts
