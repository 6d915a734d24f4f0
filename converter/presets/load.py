"""Presets: found by name or file, made of keys, written, and checked."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ropext.converter.errors import Fault, InvalidPreset, UsageError, dotted
from ropext.converter.files.yaml_document import MAX_BYTES, dump, load
from ropext.converter.methods import registry
from ropext.converter.methods.schemas import METHODS, fill_defaults, preset_schema, schema_for
from ropext.converter.preset import Places, Preset
from ropext.converter.text import did_you_mean

from .fit import preset_faults
from .overrides import with_overrides

if TYPE_CHECKING:
    from ropext.converter.checkpoint.facts import ModelFacts

__all__ = [
    "LONGEST_NAME",
    "found_preset",
    "list_presets",
    "load_preset",
    "make_preset",
    "names_a_file",
    "override_texts",
    "write_preset",
]

_SUFFIXES = (".yaml", ".yml", ".json")
LONGEST_NAME = 96
"""Characters of a preset's name, as its schema has it: a folder is named by it, and hidden ones beside that."""


def load_preset(name_or_file: str | Path, overrides: Sequence[str] | Mapping[str, object] = ()) -> Preset:
    """Load a shipped preset by its name, or any preset from its file.

    Args:
        name_or_file: a file if it ends in .yaml, .yml or .json, names a folder, or exists; else a name.
        overrides: `KEY=VALUE` each: a key of the preset or of its method's parameters, dotted where it is
            inside another; VALUE is YAML, lengths may be written as 64k. Or a mapping of keys to values.

    Raises:
        InvalidPreset: with every problem of the preset and the overrides.
        UsageError: when there is no such preset or file, or an override names no key.
    """
    name, texts = str(name_or_file), override_texts(overrides)
    if isinstance(name_or_file, Path) or _is_file(name):
        path = Path(name_or_file)
        return _load(_read(path), str(path), path.parent, texts)
    shipped = _shipped()
    if name in METHODS:
        raise UsageError(_is_a_method(name))
    if name not in shipped:
        near = did_you_mean(name, shipped)
        raise UsageError(f"unknown preset {name!r}{near or '.'} `ropext presets list` shows all of them")
    path = shipped[name]
    return _load(path.read_bytes(), f"ropext/presets/{path.name}", path.parent, texts)


def override_texts(overrides: Sequence[str] | Mapping[str, object]) -> tuple[str, ...]:
    """Return overrides as the command line has them, `KEY=VALUE` each."""
    if isinstance(overrides, Mapping):
        return tuple(f"{key}={json.dumps(value)}" for key, value in overrides.items())
    return tuple(overrides)


def make_preset(data: Mapping[str, Any], directory: Path = Path(), overrides: Sequence[str] = ()) -> Preset:
    """Make a preset of its keys, as a file in `directory` would hold them.

    Raises:
        InvalidPreset: with every problem of it and the overrides.
        UsageError: an override names no key.
    """
    return _load(dump(data).encode(), str(data.get("name", "preset")), directory, overrides)


def names_a_file(content: bytes, overrides: Sequence[str]) -> bool:
    """Whether a preset, with its overrides, names a file that would be read for its numbers.

    Raises:
        UsageError: an override names no key.
    """
    data, _, _ = with_overrides(load(content, "preset").data, overrides)
    parameters = data.get("parameters") if isinstance(data, Mapping) else None
    files = {key for method in METHODS for key in registry.method(method).file_parameters}
    return isinstance(parameters, Mapping) and not files.isdisjoint(parameters)


def write_preset(file: Path, data: Mapping[str, Any]) -> Preset:
    """Write a preset, valid as any other, into a new file.

    Raises:
        InvalidPreset: with every problem that it has; nothing is written then.
        FileExistsError: the file is there already.
    """
    text = dump(data)
    preset = _load(text.encode(), str(file), file.parent, ())
    with file.open("x", encoding="utf-8") as stream:
        stream.write(text)
    return preset


def found_preset(file: Path, facts: ModelFacts, initial_window: int, target_window: int, method: str) -> dict[str, Any]:
    """The keys of a preset for one model that say what it is for; what was found for it goes beside them.

    A folder is named in full: a preset is used from anywhere, and a relative path could read as a Hub id.
    """
    folder = Path(facts.source).expanduser()
    return {
        "name": re.sub(r"[^A-Za-z0-9_-]+", "-", file.stem).strip("-_")[:LONGEST_NAME] or method,
        "description": f"{folder.absolute().name} to {target_window} tokens by {method}",
        "base_model": str(folder.absolute()) if folder.is_dir() else facts.source,
        "initial_window": initial_window,
        "target_window": target_window,
        "method": method,
        "requires": {key: getattr(facts, key) for key in ("model_type", "head_dim", "rope_theta", "rope_type")},
    }


def list_presets() -> list[Preset]:
    """Every shipped preset, by name."""
    return [load_preset(name) for name in _shipped()]


# Finding


def _is_a_method(method: str) -> str:
    """Say that a method is no preset, and what to do."""
    named = [name for name, path in _shipped().items() if f"method: {method}\n" in path.read_text(encoding="utf-8")]
    have = f"presets with it: {', '.join(named)}; " if named else ""
    return (
        f"{method} is a method, not a preset; {have}"
        f"for any model: ropext convert SOURCE --method {method} --target 128k"
    )


def _is_file(name: str) -> bool:
    path = Path(name)
    return path.suffix.lower() in _SUFFIXES or path.name != name or path.is_file()


def _read(path: Path) -> bytes:
    if not path.exists():
        raise UsageError(f"there is no preset file {path}; `ropext presets list` shows the shipped ones")
    if path.is_dir():
        raise UsageError(f"{path} is a folder; name the preset file in it")
    with path.open("rb") as stream:
        return stream.read(MAX_BYTES + 1)  # more is refused, and how much more does not matter


@cache
def _shipped() -> Mapping[str, Path]:
    files = (Path(str(entry)) for entry in resources.files("ropext.preset_files").iterdir())
    return dict(sorted((path.stem, path) for path in files if path.suffix == ".yaml"))


# Building


def _load(content: bytes, file: str, directory: Path, overrides: Sequence[str]) -> Preset:
    document = load(content, file)
    data, read, texts = with_overrides(document.data, overrides)
    places = Places(file, document, tuple(read))
    _refuse_faults(preset_faults(data, directory), places)
    return _preset(data, content.decode("utf-8-sig"), directory, tuple(texts), places)


def _refuse_faults(faults: Iterable[Fault], places: Places) -> None:
    broken = places.document.problems
    seen = {problem.key for problem in broken}
    problems = [places.problem(fault) for fault in faults if dotted(fault.path) not in seen]
    if broken or problems:
        raise InvalidPreset([*broken, *problems])


def _preset(data: Mapping[str, Any], text: str, directory: Path, overrides: tuple[str, ...], places: Places) -> Preset:
    filled = fill_defaults(preset_schema(), data)
    return Preset(
        name=filled["name"],
        description=filled["description"],
        base_model=filled["base_model"],
        initial_window=filled["initial_window"],
        target_window=filled["target_window"],
        method=filled["method"],
        parameters=fill_defaults(schema_for(filled["method"]), filled["parameters"]),
        requires=filled["requires"],
        references=tuple(filled["references"]),
        calibration=filled["calibration"],
        path=places.file,
        directory=directory,
        text=text,
        overrides=overrides,
        places=places,
    )
