"""Presets: found by name or file, changed by `--set`, checked, and held against a model."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ropext.converter.errors import Fault, InvalidPreset, KeyPath, Problem, UsageError, dotted
from ropext.converter.files.yaml_document import MAX_BYTES, load, parse
from ropext.converter.lengths import tokens
from ropext.converter.methods.rules import base_faults, preset_faults, size_faults
from ropext.converter.methods.schemas import METHODS, fill_defaults, preset_schema, schema_for
from ropext.converter.preset import Override, Places, Preset
from ropext.converter.text import did_you_mean

if TYPE_CHECKING:
    from ropext.converter.checkpoint.facts import ModelFacts

__all__ = [
    "check_fit",
    "found_preset",
    "list_presets",
    "load_preset",
    "make_preset",
    "names_a_file",
    "override_texts",
    "write_preset",
]

_SUFFIXES = (".yaml", ".yml", ".json")
_FILE_PARAMETERS = ("dimension_scores",)
_GROUP_SIZE = ("parameters", "group_size")
_WINDOWS = (("initial_window",), ("target_window",))
_LENGTHS = ("initial_window", "target_window", "local_window", "window", "chunk_size", "shift", "activate_beyond")
"""Keys whose values are numbers of tokens."""


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
    return _load(_as_yaml(data).encode(), str(data.get("name", "preset")), directory, overrides)


def names_a_file(content: bytes, overrides: Sequence[str]) -> bool:
    """Whether a preset, with its overrides, names a file that would be read for its numbers.

    Raises:
        UsageError: an override names no key.
    """
    data = load(content, "preset").data
    for text in overrides if isinstance(data, Mapping) else ():
        override = _read_override(text, data.get("method"))
        data = _with_value(data, override, override.path)
    parameters = data.get("parameters") if isinstance(data, Mapping) else None
    return isinstance(parameters, Mapping) and any(key in parameters for key in _FILE_PARAMETERS)


def write_preset(file: Path, data: Mapping[str, Any]) -> Preset:
    """Write a preset, valid as any other, into a new file.

    Raises:
        InvalidPreset: with every problem that it has; nothing is written then.
        FileExistsError: the file is there already.
    """
    text = _as_yaml(data)
    preset = _load(text.encode(), str(file), file.parent, ())
    with file.open("x", encoding="utf-8") as stream:
        stream.write(text)
    return preset


def _as_yaml(data: Mapping[str, Any]) -> str:
    import yaml

    text: str = yaml.safe_dump(dict(data), sort_keys=False, allow_unicode=True, width=120)
    return text


def found_preset(file: Path, facts: ModelFacts, initial_window: int, target_window: int, method: str) -> dict[str, Any]:
    """The keys of a preset for one model that say what it is for; what was found for it goes beside them.

    A folder is named in full: a preset is used from anywhere, and a relative path could read as a Hub id.
    """
    folder = Path(facts.source).expanduser()
    return {
        "name": re.sub(r"[^A-Za-z0-9_-]+", "-", file.stem).strip("-_") or method,
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


def check_fit(preset: Preset, facts: ModelFacts) -> list[Problem]:
    """What the preset demands that the model is not; empty when it fits."""
    unmet = [key for key, wanted in preset.requires.items() if not _equal(wanted, getattr(facts, key))]
    problems = [preset.problem(_unmet(preset, facts, key), "requires", key) for key in unmet]
    if preset.initial_window > facts.longest_length:
        message = f"is {preset.initial_window}, but {facts.source} was trained to {facts.longest_length} tokens"
        problems.append(preset.problem(f"{message}; set it to at most that", "initial_window"))
    faults = list(base_faults(preset.method, facts.rope_type)) if "rope_type" not in unmet else []
    if "head_dim" not in unmet:
        faults += size_faults(preset.method, preset.parameters, facts.head_dim, facts.rotary_dim)
    problems += [preset.problem(fault.message, *map(str, fault.path)) for fault in faults]
    if not problems and "dimension_scores" in preset.parameters:
        from ropext.converter.methods.baking import scores_problem

        problems += filter(None, [scores_problem(preset, facts)])
    return problems


def _unmet(preset: Preset, facts: ModelFacts, key: str) -> str:
    found = f"is {preset.requires[key]}, but {facts.source} has {getattr(facts, key)}"
    return f"{found}; `ropext inspect {facts.source}` lists the presets that fit"


def _equal(wanted: object, found: object) -> bool:
    if isinstance(wanted, (int, float)) and isinstance(found, (int, float)):
        return math.isclose(wanted, found, rel_tol=1e-9)
    return wanted == found


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


# Overriding


def _read_override(text: str, method: object) -> Override:
    key, equals, value = text.partition("=")
    key = key.strip()
    if not key or not equals:
        raise UsageError(f"--set {text}: write it as KEY=VALUE, such as --set target_window=16384")
    try:
        document = parse(value, f"--set {key}")
    except InvalidPreset as error:
        raise UsageError(str(error)) from None
    if document.problems:
        raise UsageError("\n".join(map(str, document.problems)))
    return _located(_measured(Override(key, _resolve(key, method), document.data)))


def _resolve(key: str, method: object) -> KeyPath:
    """The path that an override's key stands for."""
    path = tuple(key.split("."))
    top = preset_schema()["properties"]
    known = schema_for(method)["properties"] if isinstance(method, str) and method in METHODS else {}
    if path[0] in top:
        return path
    if path[0] in known:
        return ("parameters", *path)
    near = did_you_mean(path[0], [*top, *known])
    raise UsageError(f"--set {key}: unknown key{near or '.'} The keys here: {', '.join([*top, *known])}")


def _measured(override: Override) -> Override:
    """Numbers of tokens may be written as everywhere on the command line: 64k."""
    whole = override.path in _WINDOWS and isinstance(override.value, int)
    if whole or (override.path[-1] in _LENGTHS and isinstance(override.value, str)):
        return replace(override, value=tokens(override.value, f"--set {override.key}"))
    return override


def _located(override: Override) -> Override:
    """A file named on the command line is looked for from where the command runs, not beside the preset."""
    if override.path[-1] in _FILE_PARAMETERS and isinstance(override.value, str):
        return replace(override, value=str(Path.cwd() / override.value))
    return override


def _with_value(data: Any, override: Override, path: KeyPath) -> dict[str, Any]:
    """A copy of `data` with the override's value at `path`; groups on the way are made where missing."""
    if not isinstance(data, Mapping | None):
        raise UsageError(f"--set {override.key}: nothing can be set inside {data!r}; set the whole value")
    head, *rest = path
    inner = (data or {}).get(head)
    return {**(data or {}), str(head): _with_value(inner, override, tuple(rest)) if rest else override.value}


# Building


def _load(content: bytes, file: str, directory: Path, overrides: Sequence[str]) -> Preset:
    document = load(content, file)
    data = document.data
    read: list[Override] = []
    for text in overrides if isinstance(data, Mapping) else ():
        override = _read_override(text, data.get("method"))
        data = _with_value(data, override, override.path)
        read.append(override)
    for override in _followers(data, read):
        data = _with_value(data, override, override.path)
        read.append(override)
        overrides = [*overrides, f"{override.key}={override.value}"]
    places = Places(file, document, tuple(read))
    _refuse_faults(preset_faults(data, directory), places)
    return _preset(data, content.decode("utf-8-sig"), directory, tuple(overrides), places)


def _followers(data: Any, overrides: Sequence[Override]) -> list[Override]:
    """What follows from a target window that was set, by the published rule, and was not set beside it."""
    paths = [override.path for override in overrides]
    if ("target_window",) not in paths or not {("parameters",), _GROUP_SIZE}.isdisjoint(paths):
        return []
    parameters = data.get("parameters")
    if data.get("method") != "self_extend" or not isinstance(parameters, Mapping):
        return []
    wanted = (parameters.get("local_window"), data.get("initial_window"), data["target_window"])
    lengths = [each for each in wanted if type(each) is int]
    if len(lengths) < 3 or lengths[0] < 1 or lengths != sorted(set(lengths)):
        return []  # and what is wrong is said when the preset is checked
    from ropext.converter.methods.rules import group_size

    window, initial, target = lengths
    return [Override("group_size", _GROUP_SIZE, group_size(initial, target, window))]


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
