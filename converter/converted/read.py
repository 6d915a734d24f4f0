"""A converted checkpoint, read back: its record, its base's configuration, and what a conversion gives today."""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from ropext.converter.checkpoint.description import base_inv_freq
from ropext.converter.checkpoint.facts import ModelFacts, extended_class, facts_of
from ropext.converter.checkpoint.roles import inside
from ropext.converter.convert.config import extended_config
from ropext.converter.convert.native import native_config
from ropext.converter.convert.record import Record, read_record
from ropext.converter.errors import InvalidPreset, RopextError, UsageError
from ropext.converter.files.json_object import parse_object, read_bounded
from ropext.converter.methods.base import Baked
from ropext.converter.methods.registry import bake
from ropext.converter.names import CONFIG, PROVENANCE
from ropext.converter.preset import Preset
from ropext.converter.presets.fit import check_fit
from ropext.converter.presets.load import load_preset, names_a_file
from ropext.converter.text import printable

__all__ = ["Converted", "Rebuilt", "differences", "parse_converted", "read_converted", "rebuild"]


_WRITTEN = ("auto_map", "rope_ext", "model_file", "dual_chunk_attention_config")
"""Keys that no base has: the preset gives them, or nobody."""


@dataclass(frozen=True)
class Converted:
    """What `config.json` and `ropext.json` say.

    Attributes:
        name: of the folder or repository, for messages.
        config: the whole `config.json`.
        record: what `ropext.json` says.
    """

    name: str
    config: Mapping[str, Any]
    record: Record

    @property
    def block(self) -> Mapping[str, Any]:
        """The `rope_ext` block."""
        block: Mapping[str, Any] = self.config["rope_ext"]
        return block

    @property
    def native(self) -> bool:
        """Whether stock classes load it."""
        return self.record.native

    @property
    def family(self) -> str:
        """The `model_type`."""
        return str(self.config.get("model_type"))

    @property
    def base_config(self) -> dict[str, Any]:
        """The base's `config.json`, as far as the conversion kept it: the windows of its layers are gone."""
        base = dict(self.block["base"])
        place, architectures = base.pop("place", None), base.pop("architectures")
        config = {key: value for key, value in self.config.items() if key not in _WRITTEN}
        config["architectures"] = architectures
        if place is None:
            return _with_base_keys(config, base)
        if not isinstance(config.get(place), dict):
            raise RopextError(f"{self.name}: {CONFIG}: {place}: is not there; convert again.")
        return config | {place: _with_base_keys(config[place], base)}


def _with_base_keys(config: Mapping[str, Any], base: Mapping[str, Any]) -> dict[str, Any]:
    """Put the base's values back in the place of the guards."""
    hidden = ("rope_parameters", "rope_scaling", *base)
    kept = {key: value for key, value in config.items() if key not in hidden}
    return kept | {key: value for key, value in base.items() if value is not None}


@dataclass(frozen=True)
class Rebuilt:
    """What the recorded preset gives for the base, by this ropext.

    Attributes:
        preset: as it was given.
        facts: of the base.
        baked: the numbers.
        config: the `config.json` that would be written.
    """

    preset: Preset
    facts: ModelFacts
    baked: Baked
    config: Mapping[str, Any]


def read_converted(folder: Path, config: str = CONFIG) -> Converted:
    """Read a folder that `ropext convert` wrote.

    Args:
        folder: where it is.
        config: the name of its `config.json`.

    Raises:
        UsageError: it is no such folder.
        RopextError: a file is missing or damaged.
    """
    record = read_record(folder)
    return parse_converted(str(folder), read_bounded(inside(folder, config), str(folder / config)), record)


def parse_converted(name: str, config: bytes, record: Record) -> Converted:
    """Make sense of `config.json`, beside what `ropext.json` says.

    Args:
        name: of the folder or repository, for messages.
        config: the file.
        record: what `ropext.json` says.

    Raises:
        RopextError: it is damaged, or no converted checkpoint's.
    """
    converted = Converted(name, parse_object(config, f"{name}: {CONFIG}"), record)
    block = converted.config.get("rope_ext")
    if not isinstance(block, dict) or not isinstance(block.get("base"), dict):
        raise RopextError(f"{name}: {CONFIG}: rope_ext: is not there, or not as ropext writes it; convert again.")
    return converted


def rebuild(converted: Converted) -> Rebuilt:
    """Convert once more, on paper: from the recorded preset and the base's configuration.

    Measured scores of dimensions are not kept. In their place stands the selection that was made of them, so that
    one of another size than `top_k` comes out differently. A file that the recorded preset names is never opened.

    Raises:
        RopextError: the record does not give a configuration.
    """
    base = converted.base_config
    source, recorded = converted.record.source, converted.record.preset
    facts = facts_of(base, source.repo_id or source.folder.name)
    extended_class(facts)  # or it cannot be converted
    text, overrides = recorded.text, list(recorded.overrides)
    with TemporaryDirectory(prefix="ropext-") as scratch:
        file = Path(scratch) / ("preset.json" if text.lstrip().startswith("{") else "preset.yaml")
        file.write_bytes(text.encode())
        scores = _scores_in_place(converted, Path(scratch))
        try:
            if not scores and names_a_file(text.encode(), overrides):
                raise UsageError("it takes scores of dimensions, and no selection that was made of them is there")
            preset = load_preset(str(file), [*overrides, *scores])
            problems = check_fit(preset, facts)
            if problems:
                raise InvalidPreset(problems)
            baked = bake(preset, facts, base_inv_freq(base))
        except (InvalidPreset, UsageError) as error:
            first = error.problems[0] if isinstance(error, InvalidPreset) else None
            fault = f"{first.key}: {first.message}" if first else str(error)
            raise RopextError(f"{converted.name}: {PROVENANCE}: its preset does not fit {CONFIG}: {fault}") from None
    preset = replace(preset, overrides=tuple(overrides), path=PROVENANCE, directory=Path(), places=None)
    make_config = native_config if converted.native else extended_config
    return Rebuilt(preset, facts, baked, make_config(base, facts, preset, baked))


def _scores_in_place(converted: Converted, folder: Path) -> list[str]:
    """Write the selected pairs as scores, and return the override that names the file."""
    tables = converted.block.get("tables")
    if not isinstance(tables, dict) or "selected_pairs" not in tables:
        return []
    import numpy as np
    from safetensors.numpy import save_file

    try:
        table = tables["selected_pairs"]
        packed = np.frombuffer(base64.b64decode(table["bits"], validate=True), dtype=np.uint8)
        shape = [int(size) for size in table["shape"]]
        count = math.prod(shape)
        if min(shape) < 1 or len(packed) != -(-count // 8):
            raise ValueError
        selected = np.unpackbits(packed, count=count, bitorder="little").reshape(shape)
        if np.packbits(selected, bitorder="little").tobytes() != packed.tobytes():
            raise ValueError
    except (KeyError, TypeError, ValueError):
        raise RopextError(f"{converted.name}: {CONFIG}: rope_ext: tables: selected_pairs is damaged.") from None
    file = folder / "scores.safetensors"
    save_file({"scores": selected.astype(np.float32)}, file)
    return [f"dimension_scores={json.dumps(str(file))}"]


def differences(found: Any, expected: Any, path: str = "") -> Iterator[str]:
    """Name where two JSON values differ, numbers to nine digits; a key without a value is as good as none."""
    if isinstance(found, Mapping) and isinstance(expected, Mapping):
        for key in sorted({**found, **expected}):
            yield from differences(found.get(key), expected.get(key), f"{path}.{key}" if path else str(key))
    elif isinstance(found, list) and isinstance(expected, list) and len(found) == len(expected):
        for i, (one, other) in enumerate(zip(found, expected, strict=True)):
            yield from differences(one, other, f"{path}[{i}]")
    elif not _equal(found, expected):
        yield f"{path}: is {_short(found)}, and the preset gives {_short(expected)}"


def _equal(found: Any, expected: Any) -> bool:
    if type(found) is float and type(expected) is float:
        return math.isclose(found, expected, rel_tol=1e-9)
    return type(found) is type(expected) and bool(found == expected)


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return printable(text if len(text) <= 60 else f"{text[:40]} … ({len(text):,} characters)")
