"""Presets as they may be published: they name no folder of this machine."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from ropext.converter.files.yaml_document import dump, load, parse
from ropext.converter.hub.client import is_hub_id
from ropext.converter.methods import registry
from ropext.converter.preset import Preset

__all__ = ["folder_name", "portable"]

Renaming = Callable[[str], str]


def folder_name(folder: Path) -> str:
    """Return how a preset names a folder whose place is nobody's business: by its last part, as no Hub id."""
    return f"./{Path(os.path.abspath(folder)).name}"


def portable(preset: Preset) -> Preset:
    """Return a preset that names the folder of its base, and files with numbers, by their last part.

    A preset that names a Hub id, and no file elsewhere, is returned as it is. Of another, the text is written anew:
    it keeps the values, and loses comments.
    """
    data = load(preset.text.encode(), preset.path).data
    rename = _renaming(preset, (data.get("base_model"), preset.base_model))
    files = frozenset(registry.method(preset.method).file_parameters)
    renamed = _renamed(data, rename, files)
    return replace(
        preset,
        base_model=rename(preset.base_model),
        parameters=_renamed(preset.parameters, rename, files),
        references=tuple(map(rename, preset.references)),
        text=preset.text if renamed == data else dump(renamed),
        overrides=tuple(_override(each, rename, files) for each in preset.overrides),
    )


def _renaming(preset: Preset, bases: tuple[object, ...]) -> Renaming:
    """Return what puts the name of a base's folder in the place of its path."""
    names = {
        base: folder_name(preset.directory / base)
        for base in bases
        if isinstance(base, str) and _is_folder(base, preset.directory)
    }

    def rename(text: str) -> str:
        for base, name in names.items():
            if text == base:
                return name
            if os.path.isabs(base):
                text = text.replace(base, name)
        return text

    return rename


def _is_folder(base: str, directory: Path) -> bool:
    """Whether more than a name is said of a folder; `organisation/name` is one only where there is such a folder."""
    return "/" in base and ((directory / base).is_dir() or not is_hub_id(base))


def _renamed(value: Any, rename: Renaming, files: frozenset[str], key: str = "") -> Any:
    if isinstance(value, Mapping):
        return {name: _renamed(each, rename, files, name) for name, each in value.items()}
    if isinstance(value, list):
        return [_renamed(each, rename, files) for each in value]
    if not isinstance(value, str):
        return value
    return Path(value).name if key in files and os.path.isabs(value) else rename(value)


def _override(text: str, rename: Renaming, files: frozenset[str]) -> str:
    """Return a `KEY=VALUE`, as it was written unless its value names a place."""
    key, _, written = text.partition("=")
    value = parse(written, key).data
    renamed = _renamed(value, rename, files, key.strip().rpartition(".")[2])
    return text if renamed == value else f"{key}={json.dumps(renamed)}"
