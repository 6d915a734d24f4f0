"""The methods there are, and what their presets may say: both are read from `schemas/`.

A method exists when `schemas/method_<name>.schema.json` does.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from importlib import resources
from typing import Any

__all__ = ["METHODS", "fill_defaults", "preset_schema", "schema_for"]

_STEM, _SUFFIX = "method_", ".schema.json"


def _method_names() -> tuple[str, ...]:
    files = (entry.name for entry in resources.files("ropext.schemas").iterdir())
    stems = (name for name in files if name.startswith(_STEM) and name.endswith(_SUFFIX))
    return tuple(sorted(name.removeprefix(_STEM).removesuffix(_SUFFIX) for name in stems))


METHODS: tuple[str, ...] = _method_names()
"""Names of all methods, sorted."""


def schema_for(method: str) -> dict[str, Any]:
    """The JSON Schema (draft-07) of a method's `parameters`.

    Raises:
        KeyError: when there is no such method.
    """
    if method not in METHODS:
        raise KeyError(method)
    schema = _read(f"{_STEM}{method}{_SUFFIX}")
    if "by_layer" in schema["properties"]:
        schema["properties"]["by_layer"] = _by_layer(schema["properties"])
    return schema


def preset_schema() -> dict[str, Any]:
    """The JSON Schema of a whole preset, in one piece.

    `preset.schema.json` knows no method. Joined to it here: their names, a branch for each, which says what its
    `parameters` may hold, and what the branches point to.
    """
    schema = _read("preset.schema.json")
    schema["properties"]["method"]["enum"] = list(METHODS)
    schema["allOf"] = [_branch(method) for method in METHODS]
    schema["definitions"] = {f"{_STEM}{method}": _without_dialect(schema_for(method)) for method in METHODS}
    return schema


def fill_defaults(schema: Mapping[str, Any], value: Any) -> Any:
    """A copy of `value` in which every key that was left out has its default from `schema`, if it has one."""
    if not isinstance(value, Mapping) or "properties" not in schema:
        return value
    properties: Mapping[str, Any] = schema["properties"]
    defaults = {key: each["default"] for key, each in properties.items() if "default" in each}
    return {key: fill_defaults(properties.get(key, {}), each) for key, each in {**defaults, **value}.items()}


@cache
def _text(name: str) -> str:
    return resources.files("ropext.schemas").joinpath(name).read_text(encoding="utf-8")


def _read(name: str) -> dict[str, Any]:
    schema: dict[str, Any] = json.loads(_text(name))
    return schema


def _by_layer(properties: Mapping[str, Any]) -> dict[str, Any]:
    """What layers may have of their own: every parameter but those that come with a file; numbers as curves too."""
    schema = _without_dialect(_read("by_layer.schema.json"))
    for key, value in properties.items():
        if key not in ("by_layer", "top_k", "dimension_scores"):
            schema["items"]["properties"][key] = _without_defaults(_or_curve(value))
    return schema


def _or_curve(schema: Mapping[str, Any]) -> dict[str, Any]:
    if schema.get("type") not in ("integer", "number") or "if" in schema:
        return dict(schema)
    return {**schema, "type": [schema["type"], "array"], "minItems": 2, "maxItems": 4, "items": dict(schema)}


def _without_defaults(schema: Mapping[str, Any]) -> dict[str, Any]:
    inner = {key: _without_defaults(each) for key, each in schema.get("properties", {}).items()}
    kept = {key: value for key, value in schema.items() if key != "default"}
    return {**kept, "properties": inner} if inner else kept


def _without_dialect(schema: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in schema.items() if key != "$schema"}


def _branch(method: str) -> dict[str, Any]:
    return {
        "if": {"properties": {"method": {"const": method}}, "required": ["method"]},
        "then": {"properties": {"parameters": {"$ref": f"#/definitions/{_STEM}{method}"}}},
    }
