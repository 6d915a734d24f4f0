"""What a folder holds: a converted checkpoint's method and numbers, or a base's facts and its presets."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from ropext.converter import model_code
from ropext.converter.checkpoint.facts import extended_class, facts_of, read_config
from ropext.converter.checkpoint.wanted import trusted_length
from ropext.converter.convert.record import Record, read_record
from ropext.converter.errors import Problem, RopextError
from ropext.converter.files.json_object import read_bounded
from ropext.converter.hub import client as hub
from ropext.converter.memory.api import cache_at
from ropext.converter.methods.schemas import METHODS
from ropext.converter.names import PROVENANCE
from ropext.converter.preset import Preset
from ropext.converter.presets.fit import check_fit
from ropext.converter.presets.load import list_presets
from ropext.converter.text import printable, size_text

__all__ = ["inspect_source", "render"]


def inspect_source(source: str, initial_window: int | None = None) -> dict[str, Any]:
    """Describe a model folder or, by its configuration, a Hub repository.

    Args:
        source: a folder or a Hub id.
        initial_window: the length of a base to trust, tokens; by default its trained length.

    Returns:
        JSON values. `kind` says which of the two it is: `converted` or `base`.

    Raises:
        RopextError: there is no such model, or it is neither.
    """
    folder = hub.resolve(source, only=("config.json", PROVENANCE, "*.py")).folder
    config, _ = read_config(folder)
    if "rope_ext" not in config:
        return _base(config, source, initial_window)
    try:
        return _converted(config["rope_ext"], folder, source, native="auto_map" not in config)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise RopextError(f"{source}: config.json: rope_ext: not as ropext writes it ({error!r}).") from None


def render(report: Mapping[str, Any]) -> str:
    """Lay a report out for a reader, one fact a line."""
    return printable("\n".join(_lines(_shown(report), "")))


_INNER = ("stretched_length", "rope_scaling")
"""Facts that are not reported."""


def _base(config: Mapping[str, Any], source: str, initial_window: int | None) -> dict[str, Any]:
    why = _why_not(config)
    if why:
        return _refused(config, source, why)
    facts = facts_of(config, source)
    trained = trusted_length(config, facts, initial_window)
    trusted = replace(facts, trained_length=initial_window, stretched_length=None) if initial_window else facts
    fitting, others = [], {}
    for preset in list_presets():
        problems = check_fit(preset, trusted)
        if not problems:
            fitting.append(preset.name)
        elif preset.requires.get("model_type", facts.model_type) == facts.model_type:
            others[preset.name] = [_need(preset, problem) for problem in problems]
    return {
        "kind": "base",
        **{key: value for key, value in asdict(facts).items() if key not in _INNER},
        "trained": trained._asdict(),
        "rotary_width": facts.rotary_dim,
        "layers": "all" if facts.layers is None else list(facts.layers),
        "dtype": config.get("dtype") or config.get("torch_dtype"),
        "kv_cache": cache_at(config, trained.tokens),
        "supported": True,
        "presets_that_fit": fitting,
        "presets_that_do_not": others,
    }


def _refused(config: Mapping[str, Any], source: str, why: str) -> dict[str, Any]:
    return {
        "kind": "base",
        "source": source,
        "model_type": config.get("model_type"),
        "supported": False,
        "why": why,
        "presets_that_fit": [],
        "presets_that_do_not": {},
    }


def _why_not(config: Mapping[str, Any]) -> str:
    """Say why a base cannot be converted, as `convert` would; empty where it can."""
    try:
        extended_class(facts_of(config, ""))
    except RopextError as error:
        return str(error).removeprefix(": ").removeprefix("config.json: ")
    return ""


def _need(preset: Preset, problem: Problem) -> str:
    """Say in a few words what a preset asks for and the model is not."""
    top, _, key = problem.key.partition(".")
    if top == "requires":
        return f"needs {key} {preset.requires[key]}"
    if top == "initial_window":
        return f"needs trained_length {preset.initial_window}"
    return f"{problem.key} {problem.message}"


def _converted(block: Mapping[str, Any], folder: Path, source: str, *, native: bool) -> dict[str, Any]:
    record = read_record(folder) if (folder / PROVENANCE).exists() else None
    recorded, shipped = record.code if record else {}, _shipped_digests(read_config(folder)[0])
    return {
        "kind": "converted",
        "source": source,
        "native": native,
        "method": block["method"],
        "preset": block["preset"],
        "ropext_version": block["ropext_version"],
        "initial_window": block["initial_window"],
        "target_window": block["target_window"],
        "parameters": block["parameters"],
        "base": {**(_source(record) if record else {}), **block["base"]},
        "inv_freq": len(block["inv_freq"]),
        "tables": {name: _table(table) for name, table in block["tables"].items()},
        "code": {file.name: _code(file, recorded, shipped) for file in sorted(folder.glob("*.py"))},
    }


def _table(table: Mapping[str, Any]) -> dict[str, Any]:
    return {"shape": table["shape"], "bytes": len(base64.b64decode(table["bits"], validate=True))}


def _source(record: Record) -> dict[str, Any]:
    source = record.source
    folder = None if source.repo_id else source.folder.name
    return {"repo_id": source.repo_id, "revision": source.revision, "folder": folder}


def _shipped_digests(config: Mapping[str, Any]) -> dict[str, str]:
    """Return the digests of the code that this ropext would write; empty where it would write none."""
    family, block = config.get("model_type"), config.get("rope_ext")
    method = block.get("method") if isinstance(block, dict) else None
    if not isinstance(family, str) or method not in METHODS:
        return {}
    try:
        return {name: model_code.sha256(data) for name, data in model_code.code(family, method).items()}
    except RopextError:
        return {}


def _code(file: Path, recorded_digests: Mapping[str, str | None], shipped_digests: Mapping[str, str]) -> dict[str, Any]:
    """Hold a file of code against what the conversion recorded and against what this ropext would write."""
    digest = model_code.sha256(read_bounded(file, str(file)))
    recorded = recorded_digests.get(file.name)
    return {
        "sha256": digest,
        "as_recorded": digest == recorded if recorded else None,
        "as_in_this_ropext": digest == shipped_digests.get(file.name),
    }


def _lines(values: Mapping[str, Any], indent: str) -> Iterator[str]:
    width = max((len(key) for key in values), default=0)
    for key, value in values.items():
        if isinstance(value, Mapping) and value and not _is_short(value):
            yield f"{indent}{key}"
            yield from _lines(value, indent + "  ")
        else:
            yield f"{indent}{key:<{width}}  {_text(value)}"


def _is_short(value: Mapping[str, Any]) -> bool:
    return not any(isinstance(entry, Mapping | list) for entry in value.values()) and len(json.dumps(value)) < 160


def _shown(report: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a report with the size of the cache as people say it."""
    if "kv_cache" not in report:
        return report
    tokens = report["trained"]["tokens"]
    return {**report, "kv_cache": f"{size_text(report['kv_cache'])} for {tokens:,} tokens in 16 bits"}


def _text(value: Any) -> str:
    if value is None or value == [] or value == {}:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_text(entry)}" for key, entry in value.items())
    if isinstance(value, list):
        return ", ".join(map(_text, value))
    return str(value)
