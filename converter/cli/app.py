"""The command `ropext`: finds the command that was typed, and turns whatever goes wrong into one clear message.

A command is imported when it runs, so that `--help` answers at once.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Any, NamedTuple

import click
from click.shell_completion import CompletionItem

from ropext.converter import __version__
from ropext.converter.text import did_you_mean

from .completion import install_completion
from .failures import EXIT_STATUSES, Interrupted, fail
from .options import epilog
from .output import make_streams_robust

__all__ = ["main"]


class _Entry(NamedTuple):
    """A command: where it is, what it does, and what to do after Ctrl-C."""

    where: str
    summary: str
    interrupted: str = "nothing was changed"


_UNFINISHED = "nothing unfinished is left behind; run the same command again"
_RESUME = "every result so far is kept; the same command with --resume goes on"

_GROUPS: dict[str, dict[str, _Entry]] = {
    "Make": {
        "convert": _Entry("convert:convert", "Convert a checkpoint into one that reads further.", _UNFINISHED),
        "suggest": _Entry("suggest:suggest", "Suggest methods and parameters for a model and a length."),
        "presets": _Entry("presets:presets", "List or show the shipped presets."),
        "gguf-patch": _Entry("gguf:gguf_patch", "Put a frequency method into a GGUF file, for llama.cpp."),
        "demo": _Entry(
            "demo:demo",
            "Show on a small model what a conversion changes.",
            "the models that are complete are kept; the same command goes on",
        ),
    },
    "Serve": {
        "serve": _Entry("serve:serve_command", "Print the command that serves a model, by runtime."),
        "probe": _Entry("probe:probe_command", "Check that an installed runtime honours a checkpoint's keys."),
        "memory": _Entry("memory:memory_command", "Estimate the memory for a length, or the length for a memory."),
    },
    "Measure": {
        "eval": _Entry("evaluate:evaluate", "Measure how far models and presets read.", _RESUME),
        "report": _Entry("report:report", "Make tables and pictures of results."),
        "calibrate": _Entry("calibrate:calibrate", "Find a method's parameters for a model by measuring it.", _RESUME),
    },
    "Publish": {
        "verify": _Entry("verify:verify_command", "Check a converted folder or repository."),
        "card": _Entry("verify:card_command", "Rewrite a converted folder's model card.", _UNFINISHED),
        "push": _Entry(
            "push:push_command",
            "Publish a converted folder on the Hub.",
            "the same command again sends only what is missing",
        ),
    },
    "Maintain": {
        "inspect": _Entry("inspect:inspect", "Describe a base model or a converted one."),
        "upgrade": _Entry("verify:upgrade_command", "Bring a converted folder up to date.", _UNFINISHED),
        "validate": _Entry("validate:validate", "Check preset files, alone or against a model."),
        "schema": _Entry("validate:schema", "Print the JSON Schema of a preset or of a method's parameters."),
        "families": _Entry("families:families", "List the model types that can be converted."),
    },
}
_COMMANDS = {name: entry for group in _GROUPS.values() for name, entry in group.items()}


class LazyGroup(click.Group):
    """A group whose commands are imported when needed, and whose failures are messages."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of all commands, in the order in which they are shown."""
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command; None when there is none of that name."""
        if cmd_name not in _COMMANDS:
            return None
        module, _, attribute = _COMMANDS[cmd_name].where.partition(":")
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
        """Show the commands in their groups, without importing them."""
        for heading, group in _GROUPS.items():
            with formatter.section(heading):
                formatter.write_dl([(name, entry.summary) for name, entry in group.items()], col_max=12)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Show the exit statuses before the example."""
        with formatter.section("Exit status"):
            formatter.write_dl(EXIT_STATUSES)
        super().format_epilog(ctx, formatter)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Complete the names of commands, without importing them."""
        found = [CompletionItem(name, help=entry.summary) for name, entry in _COMMANDS.items()]
        return [each for each in found if each.value.startswith(incomplete)] + click.Command.shell_complete(
            self, ctx, incomplete
        )

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command; after Ctrl-C, say how to go on."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            entry = _COMMANDS.get(ctx.invoked_subcommand or "")
            raise Interrupted(entry.interrupted if entry else "nothing was changed") from None

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
        make_streams_robust()
        # Taken from wherever it stands: who asks for it has just seen a command fail and adds it at the end.
        wanted = [each for each in given if each != "--traceback"]
        try:
            status = super().main(wanted, prog_name, complete_var, standalone_mode=False, **extra)
            sys.exit(status if isinstance(status, int) else 0)
        except Exception as error:
            fail(error, with_traceback=len(wanted) < len(given))


def _install_completion(ctx: click.Context, param: click.Parameter, wanted: bool) -> None:
    if wanted and not ctx.resilient_parsing:
        install_completion(main)
        ctx.exit()


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=epilog("demo", "suggest Qwen/Qwen3-0.6B --target 64k", page="README.md"),
)
@click.version_option(
    __version__, prog_name="ropext", message="%(prog)s %(version)s", help="Print the version and exit."
)
@click.option("--traceback", is_flag=True, expose_value=False, help="Show where in the code a failure arose.")
@click.option(
    "--install-completion",
    is_flag=True,
    expose_value=False,
    is_eager=True,
    callback=_install_completion,
    help="Make the shell complete commands and names, and exit.",
)
def main() -> None:
    """Make a language model read further than it was trained to."""
