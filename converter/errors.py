"""What can go wrong, as exceptions that carry one message for the user and an exit status."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


class RopextError(Exception):
    """A failure that the user can act on.

    `str(error)` is the whole message: the file, the place in it, what was wrong and what to do.
    The command line prints it and exits with `exit_code`: 1 for a refused or failed run.
    """

    exit_code = 1


class UsageError(RopextError):
    """The command or its arguments make no sense (exit status 2)."""

    exit_code = 2


@dataclass(frozen=True, order=True)
class Problem:
    """One fault in a file.

    Attributes:
        file: the file, as the user named it.
        line: line number in it, from 1; 0 when no single line is at fault.
        key: dotted path of the key, such as `parameters.scale_factors`; empty for the whole file.
        message: what is wrong and what to do.
    """

    file: str
    line: int
    key: str
    message: str

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.line else self.file
        return f"{place}: {self.key}: {self.message}" if self.key else f"{place}: {self.message}"


class InvalidPreset(RopextError):
    """A preset that cannot be used, with every problem found in it (exit status 2)."""

    exit_code = 2

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = sorted(problems)
        super().__init__("\n".join(map(str, self.problems)))


KeyPath = tuple[str | int, ...]
"""Where a value is: keys of mappings and indices of lists, from the top."""


def dotted(path: KeyPath) -> str:
    """Spell a path for the user: `parameters.scale_factors[2]`."""
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)
    return text.removeprefix(".")


@dataclass(frozen=True)
class Fault:
    """One thing wrong with the value at `path`, and what to do about it."""

    path: KeyPath
    message: str
