"""How a command that fails ends: one clear message, and an exit status."""

from __future__ import annotations

import sys
import traceback
from typing import NoReturn

import click

from ropext.converter.errors import InvalidPreset, RopextError
from ropext.converter.text import masked, printable

from .output import say

__all__ = ["EXIT_STATUSES", "Interrupted", "fail"]

_LONGEST = 4_000
"""Characters of a message: a file can hold a name of millions."""

_INTERRUPTED = 130
"""Exit status after Ctrl-C, as shells have it."""

EXIT_STATUSES = (
    ("0", "Everything is right."),
    ("1", "The run failed, or what was checked is not right."),
    ("2", "The command line or a preset is invalid."),
    ("3", "Nothing is wrong as far as it was checked, but something was not (`verify`, `probe`)."),
    (str(_INTERRUPTED), "Ctrl-C interrupted the run."),
)


class Interrupted(click.Abort):
    """Ctrl-C, and how to go on after it."""

    def __init__(self, how_to_go_on: str) -> None:
        super().__init__(f"interrupted: {how_to_go_on}")


def fail(error: Exception, *, with_traceback: bool) -> NoReturn:
    """Say what went wrong on stderr and exit."""
    if with_traceback:
        traceback.print_exception(error)
    messages, status = _explain(error)
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        say(error.format_message(), err=True)
        sys.exit(status)
    if isinstance(error, click.UsageError) and error.ctx:
        say(f"{error.ctx.get_usage()}\nTry '{error.ctx.command_path} --help' for help.\n", err=True)
    if status == _INTERRUPTED and sys.stderr and sys.stderr.isatty():
        say("", err=True)  # ends the line on which the terminal shows ^C
    for message in messages:
        shown = masked(printable(message if len(message) <= _LONGEST else f"{message[:_LONGEST]} …"))
        say(f"error: {shown}" if status != _INTERRUPTED else shown, err=True)
    sys.exit(status)


def _explain(error: Exception) -> tuple[list[str], int]:
    """Return the messages for an exception, and the exit status."""
    if isinstance(error, click.ClickException):
        return [error.format_message()], error.exit_code
    if isinstance(error, InvalidPreset):
        return [str(problem) for problem in error.problems], error.exit_code
    if isinstance(error, RopextError):
        return [str(error)], error.exit_code
    if isinstance(error, click.Abort):
        return [str(error) or "interrupted"], _INTERRUPTED
    if isinstance(error, BrokenPipeError):
        return [], 1
    if isinstance(error, OSError):
        return [_explain_os(error)], 1
    name = type(error).__name__
    return [f"{name}: {error} (a fault of ropext: run again with --traceback and report it)"], 1


def _explain_os(error: OSError) -> str:
    reason = error.strerror or str(error)
    return f"{error.filename}: {reason}" if error.filename else reason
