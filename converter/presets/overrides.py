"""`--set KEY=VALUE`: single values of a preset, changed before it is checked."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeGuard

from ropext.converter.errors import InvalidPreset, KeyPath, UsageError
from ropext.converter.files.yaml_document import parse
from ropext.converter.lengths import tokens
from ropext.converter.methods import registry
from ropext.converter.methods.schemas import METHODS, preset_schema, schema_for
from ropext.converter.preset import Override
from ropext.converter.text import did_you_mean

__all__ = ["with_overrides"]

_WINDOWS = (("initial_window",), ("target_window",))
_LENGTHS = (
    "initial_window",
    "target_window",
    "local_window",
    "window",
    "chunk_size",
    "shift",
    "activate_beyond",
    "mapping_length",
)
"""Keys whose values are numbers of tokens."""


def with_overrides(data: Any, texts: Sequence[str]) -> tuple[Any, list[Override], list[str]]:
    """Change the values of a parsed preset, and those that follow from them by a published rule.

    Args:
        data: the parsed preset, of any type.
        texts: `KEY=VALUE` each.

    Returns:
        A changed copy; the overrides, those that follow last; and all of them as texts.

    Raises:
        UsageError: one of them names no key, or has no value.
    """
    if not isinstance(data, Mapping):
        return data, [], list(texts)
    read: list[Override] = []
    for text in texts:
        read.append(_read(text, data.get("method")))
        data = _with_value(data, read[-1], read[-1].path)
    following = list(_following(data, read))
    for override in following:
        data = _with_value(data, override, override.path)
    return data, [*read, *following], [*texts, *(f"{each.key}={each.value}" for each in following)]


def _read(text: str, method: object) -> Override:
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
    return _located(_measured(Override(key, _resolve(key, method), document.data)), method)


def _resolve(key: str, method: object) -> KeyPath:
    """The path that an override's key stands for."""
    path = tuple(key.split("."))
    top = preset_schema()["properties"]
    known = schema_for(method)["properties"] if _is_known(method) else {}
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


def _located(override: Override, method: object) -> Override:
    """A file named on the command line is looked for from where the command runs, not beside the preset."""
    files = registry.method(method).file_parameters if _is_known(method) else ()
    if override.path[-1] in files and isinstance(override.value, str):
        return replace(override, value=str(Path.cwd() / override.value))
    return override


def _with_value(data: Any, override: Override, path: KeyPath) -> dict[str, Any]:
    """A copy of `data` with the override's value at `path`; groups on the way are made where missing."""
    if not isinstance(data, Mapping | None):
        raise UsageError(f"--set {override.key}: nothing can be set inside {data!r}; set the whole value")
    head, *rest = path
    inner = (data or {}).get(head)
    return {**(data or {}), str(head): _with_value(inner, override, tuple(rest)) if rest else override.value}


def _following(data: Mapping[str, Any], overrides: Sequence[Override]) -> Iterator[Override]:
    """What follows from a target window that was set, by the published rule, and was not set beside it."""
    paths = [override.path for override in overrides]
    method, parameters = data.get("method"), data.get("parameters")
    if ("target_window",) not in paths or ("parameters",) in paths:
        return
    rule = registry.method(method).following if _is_known(method) else None
    initial, target = data.get("initial_window"), data["target_window"]
    if rule is None or not isinstance(parameters, Mapping) or type(initial) is not int or type(target) is not int:
        return
    for key, value in rule(parameters, initial, target).items():
        if ("parameters", key) not in paths:
            yield Override(key, ("parameters", key), value)


def _is_known(method: object) -> TypeGuard[str]:
    return isinstance(method, str) and method in METHODS
