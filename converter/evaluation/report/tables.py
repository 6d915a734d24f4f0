"""Reports as tables: preset by length, as Markdown; every number as CSV and JSON."""

from __future__ import annotations

import csv
import io
import json
import math
import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ropext.converter.evaluation.tasks.mixed import TEXT_TOKENS

from .cells import cell, difference
from .drawing import tokens
from .groups import whole
from .lines import TASKS, Origin
from .ranking import best, comparison, headline, left_out, main_metric, ranked, short_names, unlike
from .results import BASE, Experiment
from .short import short_rows
from .statistics import METRICS, Metric, estimate, estimates, pairs, ruler_summary

__all__ = [
    "HOW_TO_READ",
    "Table",
    "as_csv",
    "as_json",
    "as_markdown",
    "markdown_body",
    "markdown_table",
    "notes",
    "plain",
    "settings_line",
    "shortened",
    "summary",
    "tables",
    "title",
]

HOW_TO_READ = (
    "In brackets: 95% intervals, or p of an exact test. Intervals of shares are Wilson's, over questions; those of "
    "differences are Student's, over the n prompts that both models read. Differences of right answers and of scores "
    "are tested by reversing the signs of the prompts' differences in every way; for one question in each prompt this "
    "is McNemar's exact test. “Not resolved”: n prompts are too few to tell the two apart, which does not mean that "
    "they are alike; use more samples. Of one prompt no interval can be formed."
)

_LONGEST_SETTING = 60
_FEW = 3
"""Rows that are shown even if nothing in them is resolved."""


@dataclass(frozen=True)
class Table:
    """One table.

    Attributes:
        caption: what the numbers are.
        header: names of the columns; the first is that of the rows.
        rows: the first cell of each is its name.
        best: row and column of the cells that are the best of their column.
    """

    caption: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    best: Collection[tuple[int, int]] = ()

    def marked(self, before: str, after: str) -> list[list[str]]:
        """The rows, with something around the numbers that are best."""
        return [
            [
                f"{before}{_first(cell)}{after}{cell[len(_first(cell)) :]}" if (row, column) in self.best else cell
                for column, cell in enumerate(cells)
            ]
            for row, cells in enumerate(self.rows)
        ]


def shortened(table: Table, experiment: Experiment) -> Table:
    """A table whose rows have the short names of their models."""
    names = {experiment.name(preset): name for preset, name in short_names(experiment).items()}
    return replace(table, rows=[[names.get(name, name), *cells] for name, *cells in table.rows])


def _first(cell: str) -> str:
    return cell.partition(" ")[0]


def notes(experiment: Experiment) -> list[str]:
    """What a reader should know about an experiment."""
    left_out = _missing(experiment)
    partial = f"Without {', '.join(left_out)}: these averages are not to be held against published ones."
    return [*experiment.notes, *unlike(experiment), *([partial] if left_out else []), *_cut_thoughts(experiment)]


def _cut_thoughts(experiment: Experiment) -> Iterator[str]:
    """Sentences about models whose thoughts did not all end in the tokens that they had."""
    for preset in experiment.presets:
        found = [
            value["thought_ended"]
            for length in experiment.lengths
            for value in experiment.at(preset, length).values()
            if "thought_ended" in value
        ]
        if not all(found):
            told = f"{found.count(False)} of {len(found)} thoughts were cut at the tokens of --thinking"
            yield f"{experiment.name(preset)}: {told}; an answer after such a thought says less."


def _missing(experiment: Experiment) -> Sequence[str]:
    """Parts of a benchmark that some length lacks."""
    first = experiment.presets[0]
    if experiment.task == "ruler":
        return ruler_summary(experiment, first)[0].left_out
    lengths = [length for length in experiment.lengths if experiment.at(first, length)]
    return [part for part in whole(experiment.task) if not all(experiment.at(first, each, part) for each in lengths)]


def title(experiment: Experiment) -> str:
    """What was measured, and on which model."""
    return f"{TASKS[experiment.task]}: {experiment.source}"


def settings_line(experiment: Experiment) -> str:
    """The settings, in one line."""
    texts = [f"{key.replace('_', ' ')} {_setting(value)}" for key, value in experiment.settings.items()]
    return ", ".join(texts)


def _setting(value: Any) -> str:
    if isinstance(value, list):
        return " ".join(map(str, value))
    text = value if isinstance(value, str) else json.dumps(value)
    if re.fullmatch("[0-9a-f]{64}", text):
        return text[:12]
    return text if len(text) <= _LONGEST_SETTING else f"{text[:_LONGEST_SETTING]}…"


def tables(experiment: Experiment) -> list[Table]:
    """What a reader is shown of an experiment."""
    found = [_by_length(metric, experiment) for metric in METRICS[experiment.task]]
    if experiment.task == "ruler":
        found.append(_ruler_summary(experiment))
    if experiment.task == "mixed":
        found += _by_kind(experiment)
    elif any(experiment.subtasks):
        found += _by_subtask(experiment)
    found += [_short(experiment), _quantized(experiment)]
    return [table for table in found if table.rows]


def _by_length(metric: Metric, experiment: Experiment) -> Table:
    rows: list[list[str]] = []
    marked: set[tuple[int, int]] = set()
    tops = [best(metric, experiment, length) for length in experiment.lengths]
    for preset in ranked(experiment):
        cells = [cell(metric, estimate(metric, experiment, preset, length)) for length in experiment.lengths]
        if any(cells):
            marked |= {(len(rows), column) for column, top in enumerate(tops, start=1) if preset in top}
            rows.append([experiment.name(preset), *cells])
    return Table(_title(metric, experiment), _header("preset", experiment), rows, marked)


def _short(experiment: Experiment, *, brief: bool = False) -> Table:
    reference = experiment.short.reference if experiment.short else ""
    name = experiment.name(reference) if reference != BASE else "the base"
    header = ["model" if brief else "preset", "tokens", "perplexity", f"over {name}'s"]
    rows = short_rows(experiment, brief=brief)
    if not any(compared for *_, compared in rows):
        header, rows = header[:-1], [row[:-1] for row in rows]
    return Table("Short prompts: perplexity of prose that fits the window", header, rows)


def _quantized(experiment: Experiment, *, brief: bool = False) -> Table:
    """What keys and values in fewer bits lose: a row for each model, beside the same one without."""
    metric, rows = comparison(experiment), []
    for preset, without in experiment.quantized.items():
        found = [pairs(experiment, preset, length, other=without) for length in experiment.lengths]
        values = [metric.beside(both) if metric.beside and both else None for both in found]
        rows.append([preset, *(difference(metric, each, brief=brief) if each else "" for each in values)])
    title = metric.title.replace("the base's", "the same model's with whole keys and values")
    return Table(title, _header("preset", experiment), rows)


def _title(metric: Metric, experiment: Experiment) -> str:
    """What a metric is called where it compares with something else than a base."""
    return metric.title.replace("base", experiment.name(experiment.reference))


def summary(experiment: Experiment) -> list[Table]:
    """What fits on a screen: the task's number by length, the best marked, and differences to the first row."""
    metric, compared = main_metric(experiment), comparison(experiment)
    numbers = _by_length(metric, experiment)
    header = ["model", *map(tokens, experiment.lengths)]
    rows = [[name, *map(_first, row)] for name, *row in numbers.rows]
    prompts = {count for length in experiment.lengths if (count := _prompts(experiment, length))}
    each = f" ({max(prompts)} prompt{'s' * (prompts != {1})} each)" if len(prompts) == 1 else ""
    found = [Table(f"{numbers.caption}, by length in tokens{each}", header, rows, numbers.best)]
    differences = []
    for preset in ranked(experiment)[1:]:
        values = [estimate(compared, experiment, preset, length) for length in experiment.lengths]
        texts = [difference(compared, value, brief=True) if value else "" for value in values]
        differences.append([experiment.name(preset), *texts])
    found += [Table(_title(compared, experiment), header, differences), _short(experiment, brief=True)]
    found.append(_quantized(experiment, brief=True))
    return [table for table in found if table.rows]


def _prompts(experiment: Experiment, length: int) -> int:
    """How many the reference was asked; kinds of questions are about one."""
    asked = experiment.at(experiment.reference, length)
    return len({seed for seed, _ in asked}) if experiment.task == "mixed" else len(asked)


def _header(first: str, experiment: Experiment) -> list[str]:
    return [first, *map(tokens, experiment.lengths)]


def _ruler_summary(experiment: Experiment) -> Table:
    rows = []
    for preset in ranked(experiment):
        total, effective = ruler_summary(experiment, preset)
        means = (total.average, total.increasing, total.decreasing)
        length = f"{effective:,} tokens" if effective else "none of these"
        rows.append([experiment.name(preset), *(f"{mean:.1f}" for mean in means), length])
    header = ["preset", "average", "weighted to long (inc)", "weighted to short (dec)", "effective length"]
    caption = "RULER's summary, percent; effective: the longest length with an average of 85.6 or more"
    return Table(caption, header, rows)


def _by_subtask(experiment: Experiment) -> Iterator[Table]:
    metric = METRICS[experiment.task][0]
    for preset in ranked(experiment):
        rows = []
        for task in experiment.subtasks:
            found = [estimate(metric, experiment, preset, length, task) for length in experiment.lengths]
            if any(found):
                rows.append([task, *(cell(metric, each) for each in found)])
        of, one = ("Questions", "group") if experiment.task == "longbench2" else ("Tasks", "task")
        yield Table(f"{of} by {experiment.name(preset)}, percent", _header(one, experiment), rows)


def _by_kind(experiment: Experiment) -> Iterator[Table]:
    metric, kinds = METRICS[experiment.task][0], experiment.subtasks
    for length in experiment.lengths:
        rows = []
        for preset in ranked(experiment):
            found = [estimate(metric, experiment, preset, length, kind) for kind in kinds]
            if any(found):
                rows.append([experiment.name(preset), *(cell(metric, each) for each in found)])
        caption = f"Kinds at {length:,} tokens, nats an answer or {TEXT_TOKENS} tokens of text"
        yield Table(caption, ["preset", *kinds], rows)


# Formats


def as_markdown(experiments: Sequence[Experiment]) -> str:
    """A whole report."""
    return "# Results\n\n" + markdown_body(experiments, level=2)


def markdown_body(experiments: Sequence[Experiment], level: int) -> str:
    """The experiments under headings of a level."""
    parts = []
    for experiment in experiments:
        parts.append(f"{'#' * level} {plain(title(experiment))}")
        if experiment.settings:
            parts.append(f"{plain(settings_line(experiment))}.")
        if sentence := headline(experiment, short=True):
            parts.append(f"**{plain(sentence)}**")
        start = left_out(experiment)
        parts.append(plain(f"Columns are lengths in tokens{f'; names are without “{start}”' if start else ''}."))
        parts += [_with_caption(shortened(table, experiment)) for table in tables(experiment)]
        parts += [plain(note) for note in notes(experiment)]
        parts += [_origin(origin) for origin in experiment.origins]
    return "\n\n".join([*parts, HOW_TO_READ]) + "\n"


def _with_caption(table: Table) -> str:
    """A table under what it is of; one sentence in the place of many rows of which none is resolved."""
    cells = [each for _, *row in table.rows for each in row if each]
    if len(table.rows) > _FEW and all(each.startswith("not resolved") for each in cells):
        return f"{plain(table.caption)}: not resolved for any of {len(table.rows)} models at any length."
    return f"{plain(table.caption)}:\n\n{markdown_table(table)}"


def markdown_table(table: Table) -> str:
    """A table in Markdown, the best numbers bold."""
    rule = ["---", *["---:"] * (len(table.header) - 1)]
    rows = replace(table, rows=[list(map(plain, row)) for row in table.rows]).marked("**", "**")
    return "\n".join(f"| {' | '.join(line)} |" for line in (list(map(plain, table.header)), rule, *rows))


def plain(text: str) -> str:
    """Text that Markdown leaves as it is."""
    return re.sub(r"([\\`*\[\]<>|]|(?<![^\W_])_|_(?![^\W_]))", r"\\\1", " ".join(text.split()))


def _origin(origin: Origin) -> str:
    command = origin.command or "(the command was not written down)"
    lines = "\n".join(f"    {line}" for line in command.splitlines())
    about = "; ".join(filter(None, (origin.versions, origin.machine)))
    return f"Made by\n\n{lines}" + (f"\n\nwith {plain(about)}." if about else "")


_COLUMNS = ("source", "task", "subtask", "preset", "length", "metric", "value", "low", "high", "count", "prompts", "p")


def as_csv(experiments: Sequence[Experiment]) -> str:
    """One number a line, with its interval."""
    stream = io.StringIO()
    writer = csv.DictWriter(stream, _COLUMNS, lineterminator="\n")
    writer.writeheader()
    for experiment in experiments:
        for record in _records(experiment):
            line = {"source": experiment.source, "task": experiment.task, **record}
            writer.writerow({key: _no_formula(value) for key, value in line.items()})
    return stream.getvalue()


def _no_formula(value: Any) -> Any:
    """A cell that a spreadsheet takes for text, where it is: what begins like a formula gets an apostrophe."""
    return f"'{value}" if isinstance(value, str) and value.lstrip()[:1] in ("=", "+", "-", "@", "|") else value


def as_json(experiments: Sequence[Experiment]) -> str:
    """All that the tables rest on."""
    found = [_json(experiment) for experiment in experiments]
    return json.dumps({"experiments": found}, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def _json(experiment: Experiment) -> dict[str, Any]:
    summaries = {}
    for preset in experiment.presets if experiment.task == "ruler" else ():
        total, effective = ruler_summary(experiment, preset)
        summaries[preset] = {
            "average": total.average,
            "increasing": total.increasing,
            "decreasing": total.decreasing,
            "effective_length": effective,
            "left_out": list(total.left_out),
        }
    return {
        "source": experiment.source,
        "task": experiment.task,
        "settings": dict(experiment.settings),
        "origins": [vars(origin) for origin in experiment.origins],
        "notes": list(experiment.notes),
        "estimates": list(_records(experiment)),
        **({"summaries": summaries} if summaries else {}),
    }


def _records(experiment: Experiment) -> Iterator[dict[str, Any]]:
    short = [("short_", each) for each in estimates(experiment.short)] if experiment.short else []
    for start, (metric, preset, length, subtask, found) in (*(("", each) for each in estimates(experiment)), *short):
        yield {
            "subtask": subtask or None,
            "preset": preset,
            "length": length,
            "metric": f"{start}{metric.name}",
            **{key: _finite(value) for key, value in vars(found).items()},
        }


def _finite(value: float | None) -> float | None:
    """A number that JSON has; none for the others."""
    return value if value is not None and math.isfinite(value) else None
