"""Files of measurements, read back: what was measured, of which presets, and how."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from ropext.converter.errors import RopextError, UsageError
from ropext.converter.evaluation.tasks.mixed import KINDS, by_kind
from ropext.converter.text import printable

from .attention import wrong_maps

__all__ = ["BASE", "TASKS", "Experiment", "Origin", "read_results"]

BASE = "base"
"""What the model as it is goes by in reports."""

TASKS = {
    "passkey": "Passkey",
    "niah": "Needles",
    "mixed": "Mixed questions",
    "ppl": "Perplexity",
    "attention": "Attention",
    "ruler": "RULER",
    "leval": "L-Eval",
}
"""The tasks that can be reported, by their titles."""

_ORIGIN = ("command", "versions", "machine")
_ANSWER: dict[str, Any] = {"depth": (int, float), "log_probability": (int, float), "exact": bool}
_NUMBERS: dict[str, Any] = {"length": int, "tokens": int, "seed": int, "seconds": (int, float)}
_OF_TASK: dict[str, dict[str, Any]] = {
    "passkey": {"answers": list},
    "niah": {"answers": list},
    "mixed": {"answers": list, "losses": list},
    "ppl": {"nll": (int, float), "counted": int},
    "attention": {"logits": list, "weights": list, "distances": dict, "first": (int, float)},
    "ruler": {"task": str, "score": (int, float)},
    "leval": {"task": str, "score": (int, float), "document": int},
}

_MOST = 2**53
"""A number of tokens, questions, seconds or bits; what is larger was not measured."""

_LEAST = {"length": 1, "tokens": 1, "seconds": 0, "counted": 1, "nll": 0, "score": 0, "document": 0}

Value = Mapping[str, Any]
"""One measurement, as its line has it."""


@dataclass(frozen=True)
class Origin:
    """How measurements were made.

    Attributes:
        command: that was typed; empty where it was not written down.
        versions: of the packages at work, by their names.
        machine: in words.
    """

    command: str
    versions: str
    machine: str


@dataclass(frozen=True)
class Experiment:
    """All measurements of one task on one model, under the same settings.

    Attributes:
        task: its name in `TASKS`.
        source: the model.
        settings: what the measurements depend on, beside preset, length and seed.
        origins: how they were made.
        values: by preset (`BASE` for the model as it is), length, seed, and RULER's or L-Eval's task or the kind of
            mixed questions (else empty).
        notes: what the reader should know.
    """

    task: str
    source: str
    settings: Mapping[str, Any]
    origins: tuple[Origin, ...]
    values: Mapping[tuple[str, int, int, str], Value]
    notes: tuple[str, ...] = ()

    @property
    def presets(self) -> list[str]:
        """As they were measured, the base first."""
        found = dict.fromkeys(preset for preset, *_ in self.values)
        return sorted(found, key=lambda preset: preset != BASE)

    @property
    def lengths(self) -> list[int]:
        """In tokens, from short to long."""
        return sorted({length for _, length, *_ in self.values})

    @property
    def subtasks(self) -> list[str]:
        """RULER's or L-Eval's tasks or the kinds of mixed questions; for other tasks one without a name."""
        return list(dict.fromkeys(subtask for *_, subtask in self.values))

    def at(self, preset: str, length: int, subtask: str | None = None) -> dict[tuple[int, str], Value]:
        """Measurements of a preset at a length, by seed and subtask; of one of these alone, or of all."""
        return {
            (seed, task): value
            for (name, tokens, seed, task), value in self.values.items()
            if (name, tokens) == (preset, length) and subtask in (None, task)
        }

    def name(self, preset: str) -> str:
        """What a preset is called: the base, where nothing else was measured, by the model's name."""
        return self.source if self.presets == [BASE] else preset

    def only(self, presets: Iterable[str]) -> Experiment:
        """The same, of the base and some presets."""
        kept = {BASE, *presets}
        values = {key: value for key, value in self.values.items() if key[0] in kept}
        return Experiment(self.task, self.source, self.settings, self.origins, values, self.notes)


def read_results(paths: Sequence[Path]) -> tuple[list[Experiment], list[str]]:
    """Read files of measurements, those in folders too.

    Args:
        paths: files, or folders to look for `*.jsonl` in.

    Returns:
        One experiment for each task, base model and set of settings, by model and in the order of `TASKS`; and what was
        left out, in words. A converted model stands beside its base, by its preset's name, where that was measured too.

    Raises:
        UsageError: there is nothing there to report.
        RopextError: a file is none of measurements, or damaged.
    """
    runs, left_out = _runs(paths)
    read: dict[str, _Gathered] = {}
    bases = {_asked(run.same): run.same for run in runs if not run.converted}
    for run in sorted(runs, key=lambda run: bool(run.converted)):
        base = bases.get(_asked({**run.same, "source": run.converted.get("base")})) if run.converted else None
        same = run.same if base is None else base
        gathered = read.setdefault(json.dumps(same, sort_keys=True), _Gathered(same))
        gathered.add(run, BASE if base is None else gathered.unused(run.converted.get("preset"), run.same["source"]))
    found = [gathered.experiment() for gathered in read.values()]
    if not any(each.values for each in found):
        raise UsageError(f"{', '.join(map(str, paths))}: no results here; `ropext eval` makes them")
    order = list(TASKS)
    models = list(dict.fromkeys(each.source for each in found))
    found.sort(key=lambda each: (models.index(each.source), order.index(each.task)))
    return [each for each in found if each.values], left_out


@dataclass(frozen=True)
class _Run:
    """A file of measurements.

    Attributes:
        file: where it is.
        settings: its first line.
        lines: the lines after it, with their numbers.
    """

    file: Path
    settings: Mapping[str, Any]
    lines: Sequence[tuple[int, Mapping[str, Any]]]

    @property
    def same(self) -> dict[str, Any]:
        """What other files of the same experiment say too."""
        return {key: value for key, value in self.settings.items() if key not in (*_ORIGIN, "converted")}

    @property
    def converted(self) -> Mapping[str, Any]:
        """The base and the preset of a converted model; empty for a base."""
        said = self.settings.get("converted")
        return said if isinstance(said, dict) else {}


def _runs(paths: Sequence[Path]) -> tuple[list[_Run], list[str]]:
    """Return the files of measurements, and what was left out, in words."""
    runs: list[_Run] = []
    left_out: list[str] = []
    for file, named in _files(paths):
        settings, lines = _read(file)
        if isinstance(settings.get("task"), str) and settings["task"] in TASKS:
            runs.append(_Run(file, settings, lines))
        elif named:
            raise RopextError(f"{file}: holds no results of {', '.join(TASKS)}, as `ropext eval` writes them")
        else:
            left_out.append(f"{file}: holds no results of {', '.join(TASKS)}; left out")
    return runs, left_out


def _asked(same: Mapping[str, Any]) -> str:
    """Return what a base and what it was converted to have in common if they were asked the same."""
    return json.dumps({key: value for key, value in same.items() if key != "trained_length"}, sort_keys=True)


def _files(paths: Sequence[Path]) -> list[tuple[Path, bool]]:
    """Each file once, and whether it was named itself."""
    found: dict[Path, tuple[Path, bool]] = {}
    for path in paths:
        if path.is_dir():
            for file in sorted(path.rglob("*.jsonl")):
                if file.stat().st_size:  # else several processes are at it, and what they have is in its parts
                    found.setdefault(file.resolve(), (file, False))
        elif path.exists():
            found[path.resolve()] = (path, True)
        else:
            raise UsageError(f"{path}: there is no such file or folder")
    return list(found.values())


def _read(file: Path) -> tuple[dict[str, Any], list[tuple[int, dict[str, Any]]]]:
    """The settings, and the lines after them with their numbers."""
    lines: list[tuple[int, dict[str, Any]]] = []
    texts = file.read_bytes().split(b"\n")
    for number, text in enumerate(texts, start=1):
        if not text.strip():
            continue
        try:
            line = fit_to_show(json.loads(text))
            if not isinstance(line, dict):
                raise TypeError
        except (ValueError, TypeError, RecursionError):
            if not any(rest.strip() for rest in texts[number:]):
                break  # the line that was being written when the run was killed
            raise RopextError(f"{file}:{number}: is no line of measurements, as `ropext eval` writes them") from None
        lines.append((number, line))
    settings = lines[0][1].get("settings") if lines else None
    if lines and not isinstance(settings, dict):
        raise RopextError(f"{file}: its first line does not say under which settings it was measured")
    return settings or {}, lines[1:]


def fit_to_show(value: Any) -> Any:
    """Spell out, in every text of a JSON value, what is not to reach a terminal or a file.

    Raises:
        RecursionError: it is too deep.
    """
    if isinstance(value, str):
        return printable(value)
    if isinstance(value, list):
        return [fit_to_show(each) for each in value]
    if isinstance(value, dict):
        return {printable(key): fit_to_show(each) for key, each in value.items()}
    return value


class _Gathered:
    """The files of one experiment, put together."""

    def __init__(self, settings: Mapping[str, Any]) -> None:
        self._settings = settings
        self._origins: dict[Origin, None] = {}
        self._values: dict[tuple[str, int, int, str], tuple[object, Value]] = {}
        self._twice: dict[str, None] = {}

    def unused(self, *names: object) -> str:
        """Return the first of some names that no preset has yet."""
        taken = {preset for preset, *_ in self._values}
        free = [name for name in names if isinstance(name, str) and name not in (*taken, BASE)]
        return free[0] if free else f"{names[-1]} (converted)"

    def add(self, run: _Run, unnamed: str) -> None:
        """Add a file, whose measurements without a preset are of the name given."""
        versions = run.settings.get("versions")
        named = versions.items() if isinstance(versions, dict) else ()
        origin = Origin(
            str(run.settings.get("command") or ""),
            ", ".join(f"{name} {version}" for name, version in named),
            str(run.settings.get("machine") or ""),
        )
        self._origins[origin] = None
        for number, line in run.lines:
            value = line.get("value")
            wrong = _wrong(value, self._settings["task"])
            if wrong or not isinstance(value, dict):
                raise RopextError(f"{run.file}:{number}: is no measurement of {self._settings['task']}: {wrong}")
            preset = value["preset"] or unnamed
            for subtask, part in _parts(value, self._settings["task"]):
                where = (preset, value["length"], value["seed"], subtask)
                if where in self._values and self._values[where][0] != line.get("key"):
                    self._twice[preset] = None
                self._values[where] = line.get("key"), part

    def experiment(self) -> Experiment:
        note = "{} was measured more than once, by different parameters under one name; the last counts."
        return Experiment(
            task=self._settings["task"],
            source=str(self._settings.get("source") or "a model without a name"),
            settings={key: value for key, value in self._settings.items() if key not in ("task", "source")},
            origins=tuple(self._origins),
            values={where: value for where, (_, value) in self._values.items()},
            notes=tuple(note.format(preset) for preset in self._twice),
        )


def _parts(value: Value, task: str) -> Iterator[tuple[str, Value]]:
    """A measurement by what it is of: the task of RULER or L-Eval, the kinds of mixed questions, or nothing."""
    if task != "mixed":
        yield value["task"] if "task" in _OF_TASK[task] else "", value
        return
    for kind, scores in by_kind(value).items():
        right = [answer["exact"] for answer in value["answers"] if answer["kind"] == kind]
        yield kind, {**value, "task": kind, "score": fmean(scores), "right": right}


def _is_in_range(key: str, number: float) -> bool:
    """Whether a number can have been measured; a perplexity can be infinite."""
    return _LEAST.get(key, -_MOST) <= number <= _MOST or (key == "nll" and number == float("inf"))


def _is_loss(loss: Any) -> bool:
    return isinstance(loss, int | float) and not isinstance(loss, bool) and _is_in_range("nll", loss)


def _wrong(value: Any, task: str) -> str:
    """What keeps a value from being a measurement of a task; empty where nothing does."""
    if not isinstance(value, dict):
        return "it has no value"
    if "preset" not in value or not isinstance(value["preset"], str | None):
        return "`preset` has to be a name, or null"
    for key, kind in {**_NUMBERS, **_OF_TASK[task]}.items():
        if not isinstance(value.get(key), kind) or isinstance(value[key], bool):
            return f"`{key}` is missing, or of the wrong kind"
        if isinstance(value[key], int | float) and not _is_in_range(key, value[key]):
            return f"`{key}` is out of range"
    for answer in value.get("answers", ()) if "answers" in _OF_TASK[task] else ():
        if not isinstance(answer, dict) or not all(isinstance(answer.get(key), kind) for key, kind in _ANSWER.items()):
            return "an answer lacks `depth`, `log_probability` or `exact`"
        if task == "mixed" and answer.get("kind") not in KINDS[:-1]:
            return "an answer is of no known `kind`"
        if not 0 <= answer["depth"] <= 100 or not answer["log_probability"] <= _MOST:
            return "`depth` or `log_probability` of an answer is out of range"
    if task == "attention":
        return wrong_maps(value)
    if task == "mixed" and not (value["losses"] and all(map(_is_loss, value["losses"]))):
        return "`losses` are no list of numbers"
    return "`answers` is empty" if value.get("answers") == [] and "answers" in _OF_TASK[task] else ""
