"""Shell completion: what completes, and how a shell gets to know it."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterable
from importlib import resources
from pathlib import Path, PurePosixPath

import click
from click.shell_completion import CompletionItem, get_completion_class

from ropext.converter.errors import UsageError

from .output import say

__all__ = ["complete_families", "complete_methods", "complete_presets", "install_completion"]


def complete_presets(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Complete the name of a shipped preset, or else a file."""
    files = (PurePosixPath(entry.name) for entry in resources.files("ropext.preset_files").iterdir())
    found = _starting(incomplete, (file.stem for file in files if file.suffix == ".yaml"))
    return found or [CompletionItem(incomplete, type="file")]


def complete_methods(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Complete the name of a method."""
    from ropext.converter.methods.schemas import METHODS

    return _starting(incomplete, METHODS)


def complete_families(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Complete a model type."""
    from ropext.converter.checkpoint.families import FAMILIES

    return _starting(incomplete, FAMILIES)


def _starting(incomplete: str, names: Iterable[str]) -> list[CompletionItem]:
    return [CompletionItem(name) for name in sorted(names) if name.startswith(incomplete)]


# Telling the shell

_HOOKS = {
    "bash": "[ -r {script} ] && . {script}",
    "zsh": "(( $+functions[compdef] )) || {{ autoload -Uz compinit && compinit }}; [ -r {script} ] && . {script}",
}
"""Lines of a shell's start-up file that read the script of completions."""


def install_completion(command: click.Command) -> None:
    """Write the script of completions for the user's shell, and have the shell read it; say what is written where.

    Running it again renews the script and leaves the start-up file as it is.

    Raises:
        UsageError: `$SHELL` is none of bash, zsh and fish.
    """
    shell = Path(os.environ.get("SHELL", "")).name
    kind = get_completion_class(shell)
    if kind is None:
        raise UsageError(f"--install-completion: SHELL is {shell or 'not set'!r}; it works for bash, zsh and fish")
    script, startup = _places(shell)
    say(f"{shell}: completion of ropext's commands and of preset, method and family names")
    say(f"  writes {script}")
    if startup:
        say(f"  adds one line to {startup}, if it is not there")
    source = kind(command, {}, "ropext", "_ROPEXT_COMPLETE").source()
    script.parent.mkdir(parents=True, exist_ok=True)
    script.write_text(source, encoding="utf-8")
    if startup:
        _add_line(startup, _HOOKS[shell].format(script=shlex.quote(str(script))))
    say("Done; it works in every shell that is started from now on.")


def _places(shell: str) -> tuple[Path, Path | None]:
    """Return where the script goes, and the start-up file that has to name it, if the shell does not look there."""
    home, env = Path.home(), os.environ
    if shell == "fish":
        return Path(env.get("XDG_CONFIG_HOME") or home / ".config") / "fish" / "completions" / "ropext.fish", None
    script = Path(env.get("XDG_DATA_HOME") or home / ".local" / "share") / "ropext" / f"completion.{shell}"
    startup = home / ".bashrc" if shell == "bash" else Path(env.get("ZDOTDIR") or home) / ".zshrc"
    return script, startup


def _add_line(file: Path, line: str) -> None:
    """Add a line to the end of a file that lacks it."""
    text = file.read_text(encoding="utf-8") if file.exists() else ""
    if line in text.splitlines():
        return
    with file.open("a", encoding="utf-8") as stream:
        stream.write(("" if text.endswith("\n") or not text else "\n") + f"# ropext: shell completion\n{line}\n")
