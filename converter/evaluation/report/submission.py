"""A folder of results that others can check: raw lines, an index with digests, and the page made of them."""

from __future__ import annotations

import hashlib
import json
import shlex
from collections.abc import Collection, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from jsonschema import Draft7Validator

from ropext.converter.errors import RopextError, UsageError
from ropext.converter.files.json_object import read_object
from ropext.converter.files.replace import replace_file

from .lines import Run, read_runs
from .results import Experiment, read_results
from .tables import as_markdown

__all__ = ["INDEX", "PAGE", "check_submission", "write_submission"]

INDEX, PAGE = "index.json", "README.md"
_FORMAT = 1


def write_submission(results: Sequence[Path], folder: Path) -> list[Path]:
    """Copy results into a folder, with an index and a page; results that lie there already stay as they are.

    Args:
        results: files of `ropext eval`, or folders of such.
        folder: made where it is missing.

    Returns:
        The files that were written.

    Raises:
        UsageError: there are no results, two would have one name, or the folder holds others.
        RopextError: a file is damaged, or cannot be written.
    """
    runs, _ = read_runs(results)
    places: dict[str, Run] = {}
    for run in runs:
        place = _place(run.file, results, folder)
        if place in places:
            raise UsageError(f"{run.file}: would be {place}, as {places[place].file}; rename one")
        places[place] = run
    if not places:
        raise UsageError(f"{', '.join(map(str, results))}: no results here; `ropext eval` makes them")
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for place, run in places.items():
        if (folder / place).resolve() != run.file.resolve():
            (folder / place).parent.mkdir(parents=True, exist_ok=True)
            replace_file(folder / place, _without_paths(run.file))
            written.append(folder / place)
    _refuse_others(folder, places)
    index = {"format": _FORMAT, "files": _index(folder, sorted(places))}
    replace_file(folder / INDEX, (json.dumps(index, indent=2, ensure_ascii=False) + "\n").encode())
    replace_file(folder / PAGE, _page(folder, sorted(places)).encode())
    return [*written, folder / INDEX, folder / PAGE]


def check_submission(folder: Path) -> list[Experiment]:
    """Read a submitted folder, if all of it is as its index says.

    Raises:
        RopextError: the index breaks its schema, a file is missing, changed, damaged or not listed, or the page is not
            the one that this version makes of the files.
    """
    index = read_object(folder / INDEX, str(folder / INDEX))
    faults = sorted(Draft7Validator(_schema()).iter_errors(index), key=lambda fault: list(map(str, fault.path)))
    if faults:
        where = "/".join(map(str, faults[0].path))
        raise RopextError(f"{folder / INDEX}: {where}: {faults[0].message}")
    listed = list(index["files"])
    missing = [place for place in listed if not (folder / place).is_file()]
    if missing:
        raise RopextError(f"{folder / missing[0]}: is listed in {INDEX} and missing")
    _refuse_others(folder, listed)
    for place, found in _index(folder, listed).items():
        other = [key for key, value in found.items() if index["files"][place][key] != value]
        if other:
            raise RopextError(f"{folder / place}: is not as {INDEX} says: {', '.join(other)}")
    page = folder / PAGE
    if not page.is_file() or page.read_text(encoding="utf-8") != _page(folder, sorted(listed)):
        raise RopextError(f"{page}: is not the page of these results: ropext report {folder} --submit {folder}")
    return read_results([folder / place for place in listed])[0]


def _schema() -> Any:
    return json.loads(resources.files("ropext.schemas").joinpath("results.schema.json").read_text(encoding="utf-8"))


def _place(file: Path, results: Sequence[Path], folder: Path) -> str:
    """Where a file goes: as it lies in the folder that was named, or by its model's folder and its name."""
    for root in (folder, *(each for each in results if each.is_dir())):
        if file.resolve().is_relative_to(root.resolve()):
            return file.resolve().relative_to(root.resolve()).as_posix()
    return f"{file.resolve().parent.name}/{file.name}"


def _refuse_others(folder: Path, places: Collection[str]) -> None:
    """Refuse results that the index does not list."""
    inside, _ = read_runs([folder])
    for run in inside:
        place = run.file.resolve().relative_to(folder.resolve()).as_posix()
        if place not in places:
            raise RopextError(f"{run.file}: is not listed in {INDEX}: run ropext report {folder} --submit {folder}")


def _index(folder: Path, places: Sequence[str]) -> dict[str, dict[str, Any]]:
    """What the index says of each file."""
    found = {}
    for place in places:
        (run,), _ = read_runs([folder / place])
        values = [value for _, value in run.measurements()]
        data = (folder / place).read_bytes()
        found[place] = {
            "model": run.source,
            "task": run.settings["task"],
            "lengths": sorted({value["length"] for value in values}),
            "measurements": len(values),
            "bytes": len(data),
            "sha256": hashlib.sha256(data).hexdigest(),
        }
    return found


def _page(folder: Path, places: Sequence[str]) -> str:
    experiments, _ = read_results([folder / place for place in places])
    files = "\n".join(f"- [{place}]({place})" for place in places)
    return f"{as_markdown(experiments)}\n## Raw results\n\n{files}\n"


def _without_paths(file: Path) -> bytes:
    """The lines of a file, with the last parts alone of absolute paths in its command."""
    first, rest = file.read_bytes().split(b"\n", 1)
    line = json.loads(first)
    settings = line["settings"]
    if isinstance(settings.get("command"), str):
        words = [Path(word).name if word.startswith("/") else word for word in shlex.split(settings["command"])]
        settings["command"] = shlex.join(words)
    return json.dumps(line, ensure_ascii=False).encode() + b"\n" + rest
