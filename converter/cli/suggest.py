"""`ropext suggest`: which parameters for a model and a length, by the published rules."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ropext.converter import __version__
from ropext.converter.errors import RopextError, UsageError
from ropext.converter.methods.schemas import METHODS
from ropext.converter.text import did_you_mean

from .options import TARGET

if TYPE_CHECKING:
    from ropext.converter.checkpoint.facts import ModelFacts
    from ropext.converter.methods.suggestions import Suggestion

__all__ = ["suggest", "target_facts"]


@click.command(short_help="Suggest parameters for a model and a length.")
@click.argument("source")
@TARGET
@click.option("--method", "-m", metavar="METHOD", help="Of this method only.")
@click.option("--write", "file", type=click.Path(path_type=Path), metavar="FILE", help="Write METHOD's as a preset.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def suggest(
    source: str, target: int, initial_window: int | None, method: str | None, file: Path | None, as_json: bool
) -> None:
    """Suggest every method's parameters for SOURCE, a folder or a Hub id, and for a length.

    Only the configuration is read. For each method: its parameters, the longest context whose distances are all as in
    training, why, and who says so. --write makes a preset of one of them, for `ropext convert --preset FILE`.
    """
    if method is not None and method not in METHODS:
        raise UsageError(
            f"unknown method {method!r}{did_you_mean(method, METHODS) or ';'} there are {', '.join(METHODS)}"
        )
    if file and not method:
        raise UsageError("--write writes one method's preset; choose it by --method")
    if file and file.exists():
        raise UsageError(f"{file} exists; remove it or name another")
    from ropext.converter.methods.suggestions import suggest as suggest_all

    facts, inv_freq, trained = target_facts(source, target, initial_window)
    found = [each for each in suggest_all(facts, inv_freq, target, trained) if method in (None, each.method)]
    if file:
        _write(file, found[0] if found else None, facts, trained, target)
        click.echo(f"wrote {file}; convert with: ropext convert {source} --preset {file}", err=as_json)
    if as_json:
        click.echo(json.dumps([vars(each) for each in found], indent=2))
    elif not file:
        click.echo(f"{source}: {facts.model_type}, trained to {trained} tokens; target {target}\n")
        click.echo("\n\n".join(_text(each, target) for each in found))


def target_facts(source: str, target: int, initial_window: int | None) -> tuple[ModelFacts, list[float], int]:
    """What a base model is, its frequencies, radians per token [pairs], and the window to begin with, tokens.

    Raises:
        UsageError: the windows make no sense for it.
        RopextError: it cannot be found, or is no base model.
    """
    from ropext.converter.checkpoint.description import base_inv_freq
    from ropext.converter.checkpoint.facts import facts_of, read_config
    from ropext.converter.hub import client as hub

    folder = hub.resolve(source, only=("config.json",)).folder
    config, _ = read_config(folder)
    if "rope_ext" in config:
        raise RopextError(f"{source}: is converted already; give its base")
    facts = facts_of(config, source)
    trained = initial_window or facts.seen_length
    if trained > facts.seen_length:
        seen = "saw no farther than its sliding window of" if facts.window else "was trained to"
        raise UsageError(f"--initial-window {trained}: {source} {seen} {facts.seen_length} tokens")
    if target <= trained:
        raise UsageError(f"--target {target}: must be more than the {trained} tokens that the model reads already")
    return facts, base_inv_freq(config), trained


def _text(suggestion: Suggestion, target: int) -> str:
    """One method's lines."""
    if suggestion.parameters is None:
        return f"{suggestion.method}\n    none: {suggestion.why}"
    values = ", ".join(f"{key}: {value}" for key, value in suggestion.parameters.items()) or "no parameters to choose"
    reach = f"; reaches {suggestion.reach} tokens" if suggestion.reach else ""
    return f"{suggestion.method}\n    {values}\n    {suggestion.why}{reach}\n    ({suggestion.source})"


def _write(file: Path, suggestion: Suggestion | None, facts: ModelFacts, trained: int, target: int) -> None:
    """Write a preset, valid as any other."""
    from ropext.converter.presets.load import found_preset, write_preset

    if suggestion is None or suggestion.parameters is None:
        why = suggestion.why if suggestion else "it is the base, and has no parameters"
        raise RopextError(f"nothing to suggest for this method: {why}")
    references = [suggestion.source, f"Suggested by ropext {__version__}: {suggestion.why}"]
    preset = found_preset(file, facts, trained, target, suggestion.method)
    write_preset(file, {**preset, "parameters": dict(suggestion.parameters), "references": references})
