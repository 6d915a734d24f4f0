"""The command `ropext`: finds the command asked for, and turns whatever goes wrong into one clear message.

A command is imported when it is run, so that `--help` answers at once.
"""

from __future__ import annotations

import sys
import traceback
from collections.abc import Sequence
from importlib import import_module
from typing import Any, NoReturn

import click

from ropext.converter import __version__
from ropext.converter.errors import InvalidPreset, RopextError
from ropext.converter.text import did_you_mean, masked, printable

__all__ = ["main"]

_LONGEST = 4_000
"""Characters of a message: a file can hold a name of millions."""

INTERRUPTED = 130
"""Exit status after Ctrl-C, as shells have it."""

_COMMANDS = {
    "convert": ("convert:convert", "Write a checkpoint that reads further than its base."),
    "push": ("push:push_command", "Publish a converted folder on the Hub."),
    "verify": ("verify:verify_command", "Check a converted folder or repository."),
    "upgrade": ("verify:upgrade_command", "Bring a converted folder up to date."),
    "card": ("verify:card_command", "Write a converted folder's model card anew."),
    "families": ("families:families", "List the model types that can be converted, and why not the others."),
    "inspect": ("convert:inspect", "Tell what a model folder is, or what was made of it."),
    "suggest": ("suggest:suggest", "Suggest parameters for a model and a length."),
    "calibrate": ("calibrate:calibrate", "Find a method's numbers for a model by measuring it."),
    "eval": ("evaluate:evaluate", "Measure how well models and presets read at several lengths."),
    "report": ("report:report", "Make tables and pictures of results."),
    "presets": ("presets:presets", "List or show the shipped presets."),
    "validate": ("presets:validate", "Check preset files, alone or against a model."),
    "schema": ("presets:schema", "Print the JSON Schema of a preset or of a method's parameters."),
    "gguf-patch": ("gguf:gguf_patch", "Put a frequency method into a GGUF file, for llama.cpp."),
    "demo": ("demo:demo", "Extend a small model and ask it what its base cannot answer."),
}


class LazyGroup(click.Group):
    """A group whose commands are imported when needed, and whose failures are messages."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names of all commands, in the order in which they are shown."""
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command; None when there is none of that name."""
        if cmd_name not in _COMMANDS:
            return None
        module, _, attribute = _COMMANDS[cmd_name][0].partition(":")
        command: click.Command = getattr(import_module(f".{module}", __package__), attribute)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command, or name the nearest one there is."""
        if args[0] not in _COMMANDS and not ctx.resilient_parsing:
            ctx.fail(f"No such command {args[0]!r}{did_you_mean(args[0], _COMMANDS)}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Show the commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, summary) for name, (_, summary) in _COMMANDS.items()])

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        **extra: Any,
    ) -> Any:
        """Run, and exit with a message and a status; with `standalone_mode` off, let every exception out."""
        given = list(sys.argv[1:] if args is None else args)
        if not standalone_mode:
            return super().main(given, prog_name, complete_var, standalone_mode=False, **extra)
        # Taken from wherever it stands: who asks for it has just seen a command fail and adds it at the end.
        wanted = [each for each in given if each != "--traceback"]
        try:
            status = super().main(wanted, prog_name, complete_var, standalone_mode=False, **extra)
            sys.exit(status if isinstance(status, int) else 0)
        except Exception as error:
            _fail(error, with_traceback=len(wanted) < len(given))


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="ropext", message="%(prog)s %(version)s")
@click.option("--traceback", is_flag=True, expose_value=False, help="Show where in the code a failure arose.")
def main() -> None:
    """Make a language model read further than it was trained to."""


def _fail(error: Exception, *, with_traceback: bool) -> NoReturn:
    """Say what went wrong on stderr and exit."""
    if with_traceback:
        traceback.print_exception(error)
    if isinstance(error, click.ClickException):
        error.show()
        sys.exit(error.exit_code)
    messages, status = _explain(error)
    for message in messages:
        shown = masked(printable(message if len(message) <= _LONGEST else f"{message[:_LONGEST]} …"))
        click.echo(f"error: {shown}" if status != INTERRUPTED else shown, err=True)
    sys.exit(status)


def _explain(error: Exception) -> tuple[list[str], int]:
    """The messages for an exception, and the exit status."""
    if isinstance(error, InvalidPreset):
        return [str(problem) for problem in error.problems], error.exit_code
    if isinstance(error, RopextError):
        return [str(error)], error.exit_code
    if isinstance(error, click.Abort):
        return ["interrupted"], INTERRUPTED
    if isinstance(error, BrokenPipeError):
        return [], 1
    if isinstance(error, OSError):
        return [_explain_os(error)], 1
    name = type(error).__name__
    return [f"{name}: {error} (a fault of ropext: run again with --traceback and report it)"], 1


def _explain_os(error: OSError) -> str:
    reason = error.strerror or str(error)
    return f"{error.filename}: {reason}" if error.filename else reason
