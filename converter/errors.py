"""What can go wrong, as exceptions that carry one message for the user and an exit status."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
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


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """A hint to append to "unknown ...": `; did you mean 'x'?`, or nothing when no known word is near."""
    matches = difflib.get_close_matches(word, list(known), n=1)
    return f"; did you mean {matches[0]!r}?" if matches else ""


def printable(text: str) -> str:
    """Text that somebody else wrote, made fit for a terminal: control characters and broken ones are spelt out."""
    if text.replace("\n", "").isprintable():
        return text
    return "".join(
        each if each.isprintable() or each in "\n\t" else each.encode("unicode_escape").decode() for each in text
    )
