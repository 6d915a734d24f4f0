"""Reports as tables: preset by length, as Markdown; every number as CSV and JSON."""

from __future__ import annotations

import csv
import io
import json
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ropext.converter.evaluation.tasks.mixed import TEXT_TOKENS

from .results import TASKS, Experiment, Origin
from .statistics import METRICS, Estimate, Metric, estimate, estimates, ruler_summary

__all__ = [
    "HOW_TO_READ",
    "Table",
    "as_csv",
    "as_json",
    "as_markdown",
    "markdown_body",
    "plain",
    "settings_line",
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


@dataclass(frozen=True)
class Table:
    """One table.

    Attributes:
        caption: what the numbers are.
        header: names of the columns; the first is that of the rows.
        rows: the first cell of each is its name.
    """

    caption: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]


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
    return [table for table in found if table.rows]


def _by_length(metric: Metric, experiment: Experiment) -> Table:
    rows = []
    for preset in experiment.presets:
        cells = [_cell(metric, estimate(metric, experiment, preset, length)) for length in experiment.lengths]
        if any(cells):
            rows.append([experiment.name(preset), *cells])
    return Table(metric.title, _header("preset", experiment), rows)


def _header(first: str, experiment: Experiment) -> list[str]:
    return [first, *(f"{length:,} tokens" for length in experiment.lengths)]


def _ruler_summary(experiment: Experiment) -> Table:
    rows = []
    for preset in experiment.presets:
        summary, effective = ruler_summary(experiment, preset)
        means = (summary.average, summary.increasing, summary.decreasing)
        length = f"{effective:,} tokens" if effective else "none of these"
        rows.append([experiment.name(preset), *(f"{mean:.1f}" for mean in means), length])
    header = ["preset", "average", "weighted to long (inc)", "weighted to short (dec)", "effective length"]
    caption = "RULER's summary, percent; effective: the longest length with an average of 85.6 or more"
    left_out = ruler_summary(experiment, experiment.presets[0])[0].left_out
    if left_out:
        caption += f"; without {', '.join(left_out)}, so not to be held against published averages"
    return Table(caption, header, rows)


def _by_subtask(experiment: Experiment) -> Iterator[Table]:
    metric = METRICS[experiment.task][0]
    for preset in experiment.presets:
        rows = []
        for task in experiment.subtasks:
            found = [estimate(metric, experiment, preset, length, task) for length in experiment.lengths]
            if any(found):
                rows.append([task, *(_cell(metric, each) for each in found)])
        yield Table(f"Tasks by {experiment.name(preset)}, percent", _header("task", experiment), rows)


def _by_kind(experiment: Experiment) -> Iterator[Table]:
    metric, kinds = METRICS[experiment.task][0], experiment.subtasks
    for length in experiment.lengths:
        rows = []
        for preset in experiment.presets:
            found = [estimate(metric, experiment, preset, length, kind) for kind in kinds]
            if any(found):
                rows.append([experiment.name(preset), *(_cell(metric, each) for each in found)])
        caption = f"Kinds at {length:,} tokens, nats an answer or {TEXT_TOKENS} tokens of text"
        yield Table(caption, ["preset", *kinds], rows)


# Cells


def _cell(metric: Metric, found: Estimate | None) -> str:
    """A number and its interval; nothing where there is none."""
    if found is None:
        return ""
    write = _WRITERS[metric.name]
    if metric.beside:
        return _difference(metric, found, write)
    if found.low is None or found.high is None:
        return write(found.value)
    return f"{write(found.value)} ({write(found.low)}–{write(found.high)})"


def _difference(metric: Metric, found: Estimate, write: Callable[[float], str]) -> str:
    """A comparison: its number and what speaks for it, or that it is not resolved."""
    if found.p is not None:
        sure = f"p {'< 0.001' if found.p < 0.001 else f'= {found.p:.2g}'}"
    elif found.low is None or found.high is None:
        return f"{write(found.value)} (n = {found.prompts})" if found.prompts else write(found.value)
    elif found.low == found.high == metric.neutral:
        return f"the same (n = {found.prompts})"
    else:
        sure = f"{write(found.low)} to {write(found.high)}"
    if found.differs(metric.neutral):
        return f"{write(found.value)} ({sure})"
    return f"not resolved (n = {found.prompts}; {sure})"


def _number(form: str) -> Callable[[float], str]:
    def write(value: float) -> str:
        if not math.isfinite(value):
            return {math.inf: "∞", -math.inf: "−∞"}.get(value, "undefined")
        text = format(value, form)
        return (text.lstrip("+-") if not float(text) else text).replace("-", "−")

    return write


def _perplexity(value: float) -> str:
    return _number("#.4g" if value < 1000 else ",.0f")(value) if value < 1e7 else _number(".2e")(value)


_WRITERS: Mapping[str, Callable[[float], str]] = {
    "exact": _number(".0f"),
    "exact_difference": _number("+.0f"),
    "log_probability": _number(".2f"),
    "log_probability_difference": _number("+.2f"),
    "balanced": _number(".2f"),
    "balanced_difference": _number("+.2f"),
    "perplexity": _perplexity,
    "perplexity_ratio": _number(".3f"),
    "score": _number(".1f"),
    "score_difference": _number("+.1f"),
    "first_share": _number(".1f"),
    "far_share": _number(".1f"),
    "far_share_ratio": _number(".3f"),
    "seconds_ratio": _number(".2f"),
}


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
        parts += [f"**{plain(table.caption)}**\n\n{_markdown(table)}" for table in tables(experiment)]
        parts += [plain(note) for note in experiment.notes]
        parts += [_origin(origin) for origin in experiment.origins]
    return "\n\n".join([*parts, HOW_TO_READ]) + "\n"


def _markdown(table: Table) -> str:
    rule = ["---", *["---:"] * (len(table.header) - 1)]
    lines = [[plain(cell) for cell in line] for line in (table.header, *table.rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in (lines[0], rule, *lines[1:]))


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
        summary, effective = ruler_summary(experiment, preset)
        summaries[preset] = {
            "average": summary.average,
            "increasing": summary.increasing,
            "decreasing": summary.decreasing,
            "effective_length": effective,
            "left_out": list(summary.left_out),
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
    for metric, preset, length, subtask, found in estimates(experiment):
        yield {
            "subtask": subtask or None,
            "preset": preset,
            "length": length,
            "metric": metric.name,
            **{key: _finite(value) for key, value in vars(found).items()},
        }


def _finite(value: float | None) -> float | None:
    """A number that JSON has; none for the others."""
    return value if value is not None and math.isfinite(value) else None
