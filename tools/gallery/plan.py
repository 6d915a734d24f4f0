"""What would measure the gallery's raw lines again: one command for each file, and the presets that it takes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from re import sub
from typing import Any

from ropext.converter.errors import RopextError
from ropext.converter.evaluation.report.lines import Run, read_runs
from ropext.converter.presets.load import load_preset

from .methods import setting

_NOT_ASKED = ("task", "source", "model", "converted", "trained_length", "text", "text_sha256", "data_sha256")
_NOT_ASKED += ("command", "versions", "machine")
"""Settings that are no option: they follow from the model, from its text or from files."""
_OWN_TEXT = "pydoc_data.topics"
"""Python's documentation, which tasks read without `--text`."""

_OF_FILES = ("leval", "longbench2", "infinitebench", "helmet")
"""Tasks that have as many questions as their files. Who measures them again adds `--data`."""


_IN_A_KEY = 4
"""What the key of a line says of a preset: method, initial and target window, parameters."""


@dataclass(frozen=True)
class Job:
    """A file of raw lines, and how to measure it again.

    Attributes:
        place: the file, inside the folder of all results.
        source: the model's name.
        words: what follows `ropext eval`, but for the model and the folder of results.
        presets: names or files that are handed on, or what has to be written into a file first.
        made_of: the base and the preset that the model is converted of; empty where it is none that was converted.
        text: the name of the prose, where it is not what a task reads without `--text`.
        hours: what it takes, by the seconds that its lines record.
    """

    place: Path
    source: str
    words: Sequence[str]
    presets: Sequence[str | Mapping[str, Any]]
    hours: float
    made_of: tuple[str, ...] = ()
    text: str = ""

    def command(self, model: Path, output: Path, named: Sequence[str]) -> list[str]:
        """The whole command; `named` are the presets, those in files by these. The text lies beside the model."""
        presets = [word for name in named for word in ("--preset", name)]
        task, *options = self.words
        if self.text:
            options += ["--text", str(model.parent / self.text)]
        return ["eval", task, str(model), *presets, *options, "--output", str(output), "--resume"]


def plan(folder: Path, only: str = "", lengths: Sequence[int] = ()) -> list[Job]:
    """The jobs for all files that the indexes of a folder's folders list.

    Args:
        folder: of all results.
        only: a part of the names of those that are wanted.
        lengths: in the place of those that were measured, to try a job at small size.
    """
    places = sorted(each.parent for each in folder.glob("*/index.json"))
    runs = [run for place in places for run in read_runs([place])[0]]
    jobs = [_job(run, folder, lengths) for run in runs]
    return [job for job in jobs if only in job.place.as_posix()]


def slug(name: str) -> str:
    """A name as presets may have it."""
    return sub(r"[^A-Za-z0-9_-]+", "-", name).strip("-")


def _job(run: Run, folder: Path, lengths: Sequence[int]) -> Job:
    measured = [(setting(key), value) for key, value in run.measurements()]
    settings = {str(value["preset"]): found for found, value in measured if value["preset"]}
    asked = lengths or sorted({value["length"] for _, value in measured})
    each = _of_one(run, [value for _, value in measured])
    per_line = sum(value["seconds"] for _, value in measured) / len(measured)
    lines = each * len(asked) * (len(settings) + 1) * _parts(run, [value for _, value in measured])
    words = [str(run.settings["task"]), "--lengths", ",".join(map(str, asked)), *_options(run.settings)]
    words += [] if any(run.measurements(short=True)) or run.settings["task"] == "attention" else ["--no-short"]
    return Job(
        place=run.file.resolve().relative_to(folder.resolve()),
        source=run.source,
        words=words if run.settings["task"] in _OF_FILES else [*words, "--samples", str(each)],
        presets=[_preset(name, found, run) for name, found in settings.items()],
        hours=per_line * lines / 3600,
        made_of=tuple(map(str, (run.settings.get("converted") or {}).values())),
        text=_text(str(run.settings.get("text", ""))),
    )


def _parts(run: Run, values: Sequence[Mapping[str, Any]]) -> int:
    """Lines that one sample makes: a passkey's depths, RULER's tasks."""
    return int(run.settings.get("depths") or 0) or len({value.get("task") for value in values})


def _of_one(run: Run, values: Sequence[Mapping[str, Any]]) -> int:
    """Samples of each length, as many as the model that read most was given."""
    counts = Counter((value["preset"], value["length"]) for value in values)
    return max(1, max(counts.values()) // _parts(run, values))


def _text(name: str) -> str:
    return "" if name.startswith(_OWN_TEXT) else name


def _options(settings: Mapping[str, Any]) -> Iterator[str]:
    for key, value in settings.items():
        if key == "chat" and value is False:
            yield "--no-chat"
        elif key not in _NOT_ASKED and value not in (None, "auto", 0):
            yield f"--{key.replace('_', '-')}"
            if value is not True:
                yield ",".join(map(str, value)) if isinstance(value, list) else str(value)


def _preset(name: str, found: Sequence[Any], run: Run) -> str | Mapping[str, Any]:
    """A shipped preset by its name, if it still says what was measured; else what a file of it holds."""
    try:
        known = load_preset(name)
    except RopextError:
        known = None
    if known and [known.method, known.initial_window, known.target_window, dict(known.parameters)] == list(found):
        return name
    if len(found) != _IN_A_KEY:
        return name
    method, initial, target, parameters = found
    return {
        "name": slug(name),
        "description": f"{name}, as it was measured",
        "base_model": run.source,
        "initial_window": initial,
        "target_window": target,
        "method": method,
        "parameters": parameters,
    }
