"""Lines of measurements as `ropext eval` writes them, read back and checked."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from ropext.converter.errors import RopextError, UsageError
from ropext.converter.evaluation.tasks.mixed import KINDS, by_kind
from ropext.converter.text import printable

from .attention import wrong_maps
from .groups import joined

__all__ = ["OF_TASK", "TASKS", "Origin", "Run", "Value", "parts", "read_runs"]

TASKS = {
    "passkey": "Passkey",
    "niah": "Needles",
    "mixed": "Mixed questions",
    "ppl": "Perplexity",
    "attention": "Attention",
    "ruler": "RULER",
    "leval": "L-Eval",
    "longbench2": "LongBench v2",
    "infinitebench": "∞Bench",
    "helmet": "HELMET",
}
"""The tasks that can be reported, by their titles."""

_ORIGIN = ("command", "versions", "machine")
_ANSWER: dict[str, Any] = {"depth": (int, float), "log_probability": (int, float), "exact": bool}
_NUMBERS: dict[str, Any] = {"length": int, "tokens": int, "seed": int, "seconds": (int, float)}
OF_TASK: dict[str, dict[str, Any]] = {
    "passkey": {"answers": list},
    "niah": {"answers": list},
    "mixed": {"answers": list, "losses": list},
    "ppl": {"nll": (int, float), "counted": int},
    "attention": {"logits": list, "weights": list, "distances": dict, "first": (int, float)},
    "ruler": {"task": str, "score": (int, float)},
    "leval": {"task": str, "score": (int, float), "document": int},
    "infinitebench": {"task": str, "score": (int, float), "document": int},
    "helmet": {"task": str, "score": (int, float), "document": int, "groups": list},
    "longbench2": {"task": str, "score": (int, float), "document": int, "groups": list},
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
class Run:
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
    def source(self) -> str:
        """The model that was measured."""
        return str(self.settings.get("source") or "a model without a name")

    @property
    def origin(self) -> Origin:
        """How it was made."""
        versions = self.settings.get("versions")
        named = versions.items() if isinstance(versions, dict) else ()
        return Origin(
            str(self.settings.get("command") or ""),
            ", ".join(f"{name} {version}" for name, version in named),
            str(self.settings.get("machine") or ""),
        )

    @property
    def same(self) -> dict[str, Any]:
        """What other files of the same experiment say too; null is as good as nothing."""
        own = (*_ORIGIN, "converted", "model")
        return {key: value for key, value in self.settings.items() if key not in own and value is not None}

    @property
    def converted(self) -> Mapping[str, Any]:
        """The base and the preset of a converted model; empty for a base."""
        said = self.settings.get("converted")
        return said if isinstance(said, dict) else {}

    def measurements(self, *, short: bool = False) -> Iterator[tuple[object, Value]]:
        """Each measurement and the key that its line has.

        Args:
            short: those of short prompts, not those of the task.

        Raises:
            RopextError: a line holds none of the run's task.
        """
        task = "ppl" if short else self.settings["task"]
        for number, line in self.lines:
            value = line.get("value")
            if short != (isinstance(value, dict) and value.get("short") is True):
                continue
            wrong = _wrong(value, task)
            if wrong or not isinstance(value, dict):
                raise RopextError(f"{self.file}:{number}: is no measurement of {task}: {wrong}")
            yield line.get("key"), value


def read_runs(paths: Sequence[Path]) -> tuple[list[Run], list[str]]:
    """Return the files of measurements, and what was left out, in words."""
    runs: list[Run] = []
    left_out: list[str] = []
    for file, named in _files(paths):
        settings, lines = _read(file)
        if isinstance(settings.get("task"), str) and settings["task"] in TASKS:
            runs.append(Run(file, settings, lines))
        elif named:
            raise RopextError(f"{file}: holds no results of {', '.join(TASKS)}, as `ropext eval` writes them")
        else:
            left_out.append(f"{file}: holds no results of {', '.join(TASKS)}; left out")
    return runs, left_out


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
            line = _fit_to_show(json.loads(text))
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


def _fit_to_show(value: Any) -> Any:
    """Spell out, in every text of a JSON value, what is not to reach a terminal or a file.

    Raises:
        RecursionError: it is too deep.
    """
    if isinstance(value, str):
        return printable(value)
    if isinstance(value, list):
        return [_fit_to_show(each) for each in value]
    if isinstance(value, dict):
        return {printable(key): _fit_to_show(each) for key, each in value.items()}
    return value


def parts(value: Value, task: str) -> Iterator[tuple[str, Value]]:
    """A measurement by what it is of: a task of several, its groups, the kinds of mixed questions, or nothing."""
    if task != "mixed":
        known = OF_TASK[task]
        yield joined(value["groups"]) if "groups" in known else value["task"] if "task" in known else "", value
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
    for key, kind in {**_NUMBERS, **OF_TASK[task]}.items():
        if not isinstance(value.get(key), kind) or isinstance(value[key], bool):
            return f"`{key}` is missing, or of the wrong kind"
        if isinstance(value[key], int | float) and not _is_in_range(key, value[key]):
            return f"`{key}` is out of range"
    for answer in value.get("answers", ()) if "answers" in OF_TASK[task] else ():
        if not isinstance(answer, dict) or not all(isinstance(answer.get(key), kind) for key, kind in _ANSWER.items()):
            return "an answer lacks `depth`, `log_probability` or `exact`"
        if task == "mixed" and answer.get("kind") not in KINDS[:-1]:
            return "an answer is of no known `kind`"
        if not 0 <= answer["depth"] <= 100 or not answer["log_probability"] <= _MOST:
            return "`depth` or `log_probability` of an answer is out of range"
    if "groups" in OF_TASK[task] and not (value["groups"] and all(isinstance(each, str) for each in value["groups"])):
        return "`groups` are no list of names"
    if task == "attention":
        return wrong_maps(value)
    if task == "mixed" and not (value["losses"] and all(map(_is_loss, value["losses"]))):
        return "`losses` are no list of numbers"
    return "`answers` is empty" if value.get("answers") == [] and "answers" in OF_TASK[task] else ""
