"""A preset, once it is read: its values, and where each of them was written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .errors import Fault, KeyPath, Problem, dotted

__all__ = ["Document", "Override", "Places", "Preset"]


@dataclass(frozen=True)
class Document:
    """A parsed file.

    Attributes:
        data: its content: dict, list, str, int, float, bool or None; None for an empty file.
        lines: line of each key and list item, from 1.
        problems: what is wrong but did not keep the rest from being read (duplicate keys, odd values).
    """

    data: Any
    lines: Mapping[KeyPath, int]
    problems: tuple[Problem, ...] = ()

    def line(self, path: KeyPath) -> int:
        """Line of `path`, or of the nearest key above it that was written down; 1 for the top."""
        while path and path not in self.lines:
            path = path[:-1]
        return self.lines.get(path, 1)


@dataclass(frozen=True)
class Override:
    """One `--set KEY=VALUE`."""

    key: str
    path: KeyPath
    value: Any


@dataclass(frozen=True)
class Places:
    """Says where a value was written: on a line of the file, or in an override."""

    file: str
    document: Document
    overrides: tuple[Override, ...]

    def problem(self, fault: Fault) -> Problem:
        """A problem with what a fault is about, at its place."""
        for override in reversed(self.overrides):
            if fault.path[: len(override.path)] == override.path:
                return Problem(f"--set {override.key}", 0, dotted(fault.path), fault.message)
        return Problem(self.file, self.document.line(fault.path), dotted(fault.path), fault.message)


@dataclass(frozen=True)
class Preset:
    """A valid preset.

    Attributes:
        name: its name, also of the folder that is written by default.
        description: one line.
        base_model: Hub id or folder that it converts when no other is named.
        initial_window: length whose positions are trusted, tokens.
        target_window: length to read in the end, tokens.
        method: one of `methods.schemas.METHODS`.
        parameters: the method's parameters, defaults filled in.
        requires: what the model must be, by names of `ModelFacts`.
        references: where the numbers come from.
        calibration: how they were found, where they were measured.
        path: the file, as named to the user.
        directory: where files named by the preset are found.
        text: the file, verbatim.
        overrides: each `--set KEY=VALUE`, as given.
        places: file and line of each key, for problems found later.
    """

    name: str
    description: str
    base_model: str
    initial_window: int
    target_window: int
    method: str
    parameters: Mapping[str, Any]
    requires: Mapping[str, Any]
    references: tuple[str, ...]
    calibration: Mapping[str, Any]
    path: str
    directory: Path
    text: str
    overrides: tuple[str, ...] = ()
    places: Places | None = field(default=None, repr=False, compare=False)

    @property
    def origin(self) -> str:
        """Where the numbers come from: `measured`, `published` or `by rule`."""
        if self.calibration:
            return "measured"
        return "by rule" if any("`ropext suggest`" in each for each in self.references) else "published"

    def problem(self, message: str, *path: str | int) -> Problem:
        """A problem with the value at `path`, such as `"parameters", "top_k"`."""
        if self.places:
            return self.places.problem(Fault(path, message))
        return Problem(self.path, 0, dotted(path), message)
