"""Files of measurements, read back: what was measured, of which presets, and how."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ropext.converter.errors import UsageError

from .groups import ordered, split
from .kept import with_kv_dtype, without_kv_dtype
from .lines import TASKS, Origin, Run, Value, parts, read_runs

__all__ = ["BASE", "Experiment", "read_results"]

BASE = "base"
"""What the model as it is goes by in reports."""


@dataclass(frozen=True)
class Experiment:
    """All measurements of one task on one model, under the same settings.

    Attributes:
        task: its name in `TASKS`.
        source: the model.
        settings: what the measurements depend on, beside preset, length and seed.
        origins: how they were made.
        values: by preset (`BASE` for the model as it is), length, seed, and a task of several, the groups of a question
            or the kind of mixed questions (else empty).
        notes: what the reader should know.
        short: perplexities of prose that fits the window, of the same models; None where they were not measured.
    """

    task: str
    source: str
    settings: Mapping[str, Any]
    origins: tuple[Origin, ...]
    values: Mapping[tuple[str, int, int, str], Value]
    notes: tuple[str, ...] = ()
    short: Experiment | None = None

    @property
    def quantized(self) -> dict[str, str]:
        """Models that kept keys and values in fewer bits, and the same without."""
        names = dict.fromkeys(preset for preset, *_ in self.values)
        return {name: without for name in names if (without := without_kv_dtype(name)) and without in names}

    @property
    def presets(self) -> list[str]:
        """The presets in the order of their measurement, the base first."""
        found = dict.fromkeys(preset for preset, *_ in self.values)
        return sorted(found, key=lambda preset: preset != BASE)

    @property
    def reference(self) -> str:
        """What the others are compared with: the base, or what was measured first."""
        return self.presets[0]

    @property
    def lengths(self) -> list[int]:
        """The lengths in tokens, from short to long."""
        return sorted({length for _, length, *_ in self.values})

    @property
    def subtasks(self) -> list[str]:
        """Tasks of several, groups of questions, kinds of mixed questions; for other tasks one without a name."""
        return ordered(self.task, (subtask for *_, subtask in self.values))

    def at(self, preset: str, length: int, subtask: str | None = None) -> dict[tuple[int, str], Value]:
        """Measurements of a preset at a length, by seed and subtask; of one of these alone, or of all."""
        return {
            (seed, task): value
            for (name, tokens, seed, task), value in self.values.items()
            if (name, tokens) == (preset, length) and (subtask is None or subtask in split(task))
        }

    def name(self, preset: str) -> str:
        """What a preset is called: the base, where nothing else was measured, by the model's name."""
        return self.source if self.presets == [BASE] else preset

    def only(self, presets: Iterable[str]) -> Experiment:
        """A copy with the base and some presets alone."""
        kept = {BASE, *presets}
        kept |= {name for name, without in self.quantized.items() if without in kept}
        values = {key: value for key, value in self.values.items() if key[0] in kept}
        return replace(self, values=values, short=self.short and self.short.only(presets))


def read_results(paths: Sequence[Path], *, together: bool = False) -> tuple[list[Experiment], list[str]]:
    """Read files of measurements, those in folders too.

    Args:
        paths: files, or folders to look for `*.jsonl` in.
        together: put models of one task and the same settings side by side, whatever they were made from.

    Returns:
        One experiment for each task, base model and set of settings, by model and in the order of `TASKS`; and what was
        left out, in words. A converted model stands beside its base, by its preset's name, where that was measured too,
        and beside others that were made from the same base.

    Raises:
        UsageError: there is nothing there to report.
        RopextError: a file is none of measurements, or damaged.
    """
    runs, left_out = read_runs(paths)
    found = [_experiment(group) for group in _groups(runs, together)]
    if not any(each.values for each in found):
        if any(each.short for each in found):
            raise UsageError(f"{', '.join(map(str, paths))}: short prompts alone were measured so far; use --resume")
        raise UsageError(f"{', '.join(map(str, paths))}: no results here; `ropext eval` makes them")
    order = list(TASKS)
    models = list(dict.fromkeys(each.source for each in found))
    found.sort(key=lambda each: (models.index(each.source), order.index(each.task)))
    return [each for each in found if each.values], left_out


# Which files belong together


def _groups(runs: Sequence[Run], together: bool) -> Iterator[list[Run]]:
    """Runs that are compared: a base's, and those of what was converted from it, asked the same; the base's first."""
    families: dict[str, list[Run]] = {}
    for run in runs:
        families.setdefault(_family(run, together), []).append(run)
    for family in families.values():
        bases: dict[str, list[Run]] = {}
        for run in family:
            if not run.converted:
                bases.setdefault("" if together else json.dumps(run.same, sort_keys=True), []).append(run)
        converted = [run for run in family if run.converted]
        *others, last = bases.values() or [[]]
        yield from others
        yield [*last, *converted]


def _family(run: Run, together: bool) -> str:
    """What a base and what was converted to have in common if they were asked the same."""
    asked = {key: value for key, value in run.same.items() if key not in ("trained_length", "source")}
    base = run.converted.get("base")
    known = isinstance(base, str) if run.converted else True
    made_from = (base if run.converted and known else run.source, known)
    return json.dumps([asked, None if together else made_from], sort_keys=True)


def _experiment(runs: Sequence[Run]) -> Experiment:
    """Put a group together, under the settings of its first run."""
    first = runs[0]
    sources = list(dict.fromkeys(run.source for run in runs))
    made_from = {run.converted.get("base") for run in runs}
    source = str(next(iter(made_from))) if first.converted and len(sources) > 1 == len(made_from) else first.source
    names = {} if first.converted and len(sources) > 1 else {first.source: BASE}
    values: dict[tuple[str, int, int, str], tuple[object, Value]] = {}
    short: dict[tuple[str, int, int, str], Value] = {}
    twice: dict[str, None] = {}
    for run in runs:
        unnamed = names.get(run.source) or _unused(values, run)
        names[run.source] = unnamed
        short |= {
            (_called(value, run, unnamed), value["length"], value["seed"], ""): value
            for _, value in run.measurements(short=True)
        }
        for key, value in run.measurements():
            preset = _called(value, run, unnamed)
            for subtask, part in parts(value, first.settings["task"]):
                where = (preset, value["length"], value["seed"], subtask)
                if where in values and values[where][0] != key:
                    twice[preset] = None
                values[where] = key, part
    note = "{} was measured more than once, by different parameters under one name; the last counts."
    settings = {key: value for key, value in first.same.items() if key not in ("task", "source")}
    origins = tuple(dict.fromkeys(run.origin for run in runs))
    return Experiment(
        task=first.settings["task"],
        source=source,
        settings=settings,
        origins=origins,
        values={where: value for where, (_, value) in values.items()},
        notes=tuple(note.format(preset) for preset in twice),
        short=Experiment("ppl", source, settings, origins, short) if short else None,
    )


def _called(value: Value, run: Run, unnamed: str) -> str:
    """What the model of a measurement goes by; `unnamed` is the name of the run's model as it is."""
    name: str = value["preset"] or unnamed
    if value["preset"] and unnamed != BASE and not run.converted:  # of another base
        name = f"{run.source} {name}"
    return with_kv_dtype(name, value["kv_dtype"]) if isinstance(value.get("kv_dtype"), str) else name


def _unused(values: Mapping[tuple[str, int, int, str], object], run: Run) -> str:
    """A name for a model that nothing has yet: its preset's, or its own."""
    taken = {BASE, *(preset for preset, *_ in values)}
    names = [name for name in (run.converted.get("preset"), run.source) if isinstance(name, str)]
    free = [name for name in names if name not in taken]
    return free[0] if free else f"{names[-1]} (converted)"
