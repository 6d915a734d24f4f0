"""What a conversion will do, decided before anything is written."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ropext.converter import model_code
from ropext.converter.files.json_object import parse_object
from ropext.converter.hub.types import LocalSource
from ropext.converter.names import CARD, CODE_LICENSE, CONFIG, PROVENANCE
from ropext.converter.presets.portable import portable
from ropext.converter.text import printable

from .card import kept_of_base, make_card
from .config import changes, dump_json, extended_config
from .native import native_config, native_notes, require_remote
from .record import Record, WrittenFile
from .tokenizer import FILE as TOKENIZER_CONFIG
from .tokenizer import GENERATION, adapt_tokenizer_config, keys_of_elsewhere, with_known_settings

if TYPE_CHECKING:
    from ropext.converter.checkpoint.facts import ModelFacts
    from ropext.converter.checkpoint.read import Checkpoint
    from ropext.converter.checkpoint.roles import SourceFile, Stamp
    from ropext.converter.methods.base import Baked
    from ropext.converter.preset import Preset

__all__ = ["Plan", "PlannedFile", "make_plan"]


Action = Literal["link", "copy", "generate"]


@dataclass(frozen=True)
class PlannedFile:
    """One file of the output.

    Attributes:
        path: its name within the output, with forward slashes.
        action: `link` (weights: no bytes move where the file system can link), `copy` or `generate`.
        size: in bytes; None where it is known only when it is written.
        why: what it is, for the reader of a plan.
        source: the file to link or copy.
        content: what to write, for a generated file.
        sha256: the digest of `source`, where it is known without reading it.
        cached: `source` lies in the download cache: an edit of the output must not reach it.
        stamp: what `source` was when it was checked; None where nothing depends on it.
    """

    path: str
    action: Action
    size: int | None
    why: str
    source: Path | None = None
    content: bytes | None = None
    sha256: str | None = None
    cached: bool = False
    stamp: Stamp | None = None


@dataclass(frozen=True)
class Plan:
    """A conversion, ready to be written.

    Attributes:
        preset: name of the preset.
        method: name of the method.
        source: the base's folder.
        files: the output's files, in the order in which they are written.
        config: the new `config.json`.
        config_changes: its top-level changes, as (key, before, after).
        record: what `ropext.json` will say, before any file is written.
        notes: what the user should know.
        native: stock classes load it, without remote code.
    """

    preset: str
    method: str
    source: Path
    files: tuple[PlannedFile, ...]
    config: Mapping[str, Any]
    config_changes: tuple[tuple[str, Any, Any], ...]
    record: Record
    notes: tuple[str, ...]
    native: bool = False

    def size_of(self, *actions: Action) -> int:
        """Sum up the files with one of these actions, in bytes."""
        return sum(file.size or 0 for file in self.files if file.action in actions)

    def record_of(self, files: Iterable[WrittenFile]) -> Record:
        """Return the record of a conversion that wrote these files."""
        return self.record.with_written(files, [file.path for file in self.files if file.action == "link"])

    def to_json(self) -> dict[str, Any]:
        """Return the plan as JSON values, without file contents."""
        return {
            "preset": self.preset,
            "method": self.method,
            "native": self.native,
            "source": str(self.source),
            "files": [
                {"path": file.path, "action": file.action, "bytes": file.size, "why": file.why} for file in self.files
            ],
            "bytes": {action: self.size_of(action) for action in ("link", "copy", "generate")},
            "config_changes": [
                {"key": key, "before": before, "after": after} for key, before, after in self.config_changes
            ],
            "notes": list(self.notes),
        }


def make_plan(
    preset: Preset,
    checkpoint: Checkpoint,
    baked: Baked,
    local: LocalSource | None = None,
    *,
    native: bool = False,
) -> Plan:
    """Decide every file of a converted checkpoint.

    Args:
        preset: what to convert with; it has to fit the checkpoint.
        checkpoint: the base.
        baked: the preset's numbers for this base.
        local: where the base came from; by default nothing is known but its folder.
        native: write stock keys and no code; the method has to be one of frequencies.

    Returns:
        The plan. Nothing has been written, and no weights have been read.

    Raises:
        RopextError: a tokenizer file cannot be adapted, or stock keys or shipped code cannot say the method's numbers.
    """
    local = replace(local or LocalSource(checkpoint.folder), folder=checkpoint.folder)
    if not native:
        require_remote(checkpoint.config, preset.method)
    make_config = native_config if native else extended_config
    config = make_config(checkpoint.config, checkpoint.facts, preset, baked)
    code = {} if native else model_code.code(checkpoint.facts.model_type, preset.method)
    kept = kept_of_base(checkpoint.text(CARD) or "")
    published = portable(preset)
    card = make_card(checkpoint.facts, kept, published, baked, local, native=native)
    settings, dropped = _settings(checkpoint, preset)
    replaced = {CONFIG, CARD, *(file.path for file in settings)}
    terms = [file.path for file in checkpoint.files if file.path.lower() == CODE_LICENSE.lower()]
    dropped += [f"{path} of the base left out: this name is that of the terms of ropext's code" for path in terms]
    told = native_notes(checkpoint.config) if native else _window_notes(checkpoint.facts)
    files = [
        *(_carried(file) for file in checkpoint.files if file.path not in {*replaced, *terms}),
        *settings,
        *(_generated(path, data, "model code") for path, data in code.items()),
        *([_generated(CODE_LICENSE, model_code.license_text(), "terms of the model code")] if code else []),
        _generated(CARD, card.encode(), "model card"),
        PlannedFile(PROVENANCE, "generate", None, "provenance and digests"),
        # The last: a folder without it cannot be loaded, so a half-written one never is.
        _generated(CONFIG, dump_json(config), "configuration with the method's numbers"),
    ]
    return Plan(
        preset=preset.name,
        method=preset.method,
        source=checkpoint.folder,
        files=tuple(files),
        config=config,
        config_changes=changes(checkpoint.config, config),
        record=Record.of(published, local, native=native),
        notes=(*checkpoint.notes, *dropped, *told, *baked.notes),
        native=native,
    )


def _window_notes(facts: ModelFacts) -> tuple[str, ...]:
    """Return what a conversion with code of its own does to a window that every layer has."""
    if not facts.window:
        return ()
    return (f"sliding_window of {facts.window} tokens is turned off: every layer sees every token",)


_WHY = {
    "weights": "weights, as they are",
    "index": "which file holds which weights",
    "tokenizer": "tokenizer, as it is",
    "generation": "generation defaults, as they are",
    "quantization": "how the weights are quantized, as it is",
    "license": "terms of the base model",
}


def _carried(file: SourceFile) -> PlannedFile:
    link = file.role == "weights"
    return PlannedFile(
        path=file.path,
        action="link" if link else "copy",
        size=file.size,
        why=_WHY[file.role] + (", copied where the disk cannot share blocks" if link and file.cached else ""),
        source=file.real,
        sha256=file.sha256,
        cached=file.cached,
        stamp=file.stamp,
    )


def _generated(path: str, content: bytes, why: str) -> PlannedFile:
    return PlannedFile(path, "generate", len(content), why, content=content)


def _settings(checkpoint: Checkpoint, preset: Preset) -> tuple[list[PlannedFile], list[str]]:
    """Return the settings of tokenizer and generation where the base's will not do, and what was dropped of them."""
    files, notes = [], []
    before = checkpoint.text(TOKENIZER_CONFIG)
    if before is not None or any(file.role == "tokenizer" for file in checkpoint.files):
        after = adapt_tokenizer_config(before or "{}\n", checkpoint.config, preset.target_window)
        if after != before:
            files.append(_generated(TOKENIZER_CONFIG, after.encode(), "tokenizer settings, for the new length"))
        notes += _dropped(TOKENIZER_CONFIG, keys_of_elsewhere(parse_object(before or "{}", TOKENIZER_CONFIG)))
    before = checkpoint.text(GENERATION)
    if before is not None:
        after, dropped = with_known_settings(before)
        if after != before:
            files.append(_generated(GENERATION, after.encode(), "generation defaults that transformers knows"))
        notes += _dropped(GENERATION, dropped)
    return files, notes


def _dropped(file: str, keys: list[str]) -> list[str]:
    named = printable(", ".join(keys))[:500]
    return [f"keys of {file} dropped, as they name code or files, or nobody knows them: {named}"] if keys else []
