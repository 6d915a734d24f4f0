"""`ropext suggest`: which method and which parameters for a model and a length."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ropext.converter.errors import UsageError
from ropext.converter.lengths import length_text
from ropext.converter.text import size_text

from .completion import complete_methods
from .options import AS_JSON, TARGET, epilog
from .output import say, say_json
from .screen import table

if TYPE_CHECKING:
    from ropext.converter.methods.base import Suggestion
    from ropext.converter.presets.suggested import Suggestions

__all__ = ["suggest"]


@click.command(
    short_help="Suggest a method and parameters for a model and a length.",
    epilog=epilog(
        "suggest Qwen/Qwen3-0.6B --target 64k",
        "suggest Qwen/Qwen3-0.6B --target 64k --method yarn --write qwen3-yarn.yaml",
        page="docs/calibrating.md",
    ),
)
@click.argument("source")
@TARGET
@click.option("--method", "-m", metavar="METHOD", shell_complete=complete_methods, help="Suggest for this method only.")
@click.option(
    "--write", "file", type=click.Path(path_type=Path), metavar="FILE", help="Write METHOD's parameters as a preset."
)
@AS_JSON
def suggest(
    source: str, target: int, initial_window: int | None, method: str | None, file: Path | None, as_json: bool
) -> None:
    """Recommend a method for SOURCE, a folder or a Hub id, and a length, and suggest every method's parameters.

    Only the configuration is read. The recommended method comes first, then the others, with their parameters, how
    far they reach, why, and who says so. `ropext convert SOURCE --method METHOD --target LENGTH` converts with them;
    --write makes a preset of one, to change by hand.
    """
    from ropext.converter.presets.suggested import suggest as suggest_for

    if file and not method:
        raise UsageError("--write writes one method's preset; choose it by --method")
    if file and file.exists():
        raise UsageError(f"{file} exists; remove it or name another")
    found = suggest_for(source, target, method=method, initial_window=initial_window)
    if file and method:
        _write(file, source, target, initial_window, method)
        say(f"wrote {file}; convert with: ropext convert --preset {shlex.quote(str(file))}", err=as_json)
    if as_json:
        say_json(found.to_json())
    elif not file:
        say("\n".join(_heading(found)) + "\n")
        click.echo(_table(found))
        if found.presets:
            click.echo("\n" + _presets(found))
        say("\n".join(["", *_details(found)]))


def _write(file: Path, source: str, target: int, initial_window: int | None, method: str) -> None:
    """Write a preset, valid as any other."""
    from ropext.converter.checkpoint.wanted import want
    from ropext.converter.presets.load import write_preset
    from ropext.converter.presets.suggested import preset_data

    write_preset(file, preset_data(want(source, target, initial_window), method, file.name))


def _heading(found: Suggestions) -> Iterator[str]:
    trained = found.trained
    yield f"{found.source}: {found.model_type}, trained to M = {trained.tokens:,} tokens ({trained.why})"
    if trained.doubt:
        yield f"Check the trained length: {trained.doubt}"
    yield f"Target N = {found.target:,} tokens, N / M = {found.target / trained.tokens:.3g}"
    yield f"KV cache of N tokens: {size_text(found.kv_cache)} in 16 bits; `ropext memory` counts the rest"
    yield ""
    if found.recommended is None:
        yield f"Nothing to recommend: {found.why}."
    else:
        yield "Convert with it:" if len(found.methods) == 1 else f"Recommended: {found.recommended}. {found.why}"
        yield f"  ropext convert {shlex.quote(found.source)} {_how(found)}"


def _how(found: Suggestions) -> str:
    """Return the options that convert as is recommended."""
    for each in found.presets:
        if each.method == found.recommended and each.calibration and each.target_window == found.target:
            return f"--preset {each.name}"
    window = f" --initial-window {found.trained.tokens}" if found.trained.why == "--initial-window" else ""
    return f"--method {found.recommended} --target {length_text(found.target)}{window}"


def _presets(found: Suggestions) -> str:
    """Lay out the shipped presets that fit."""
    rows = [
        (
            each.name,
            each.method,
            f"{length_text(each.initial_window)} -> {length_text(each.target_window)}",
            each.origin,
        )
        for each in found.presets
    ]
    return table(("preset that fits", "method", "tokens", "numbers"), rows)


def _table(found: Suggestions) -> str:
    rows = [
        (
            each.method + (" *" if each.method == found.recommended else ""),
            "-" if each.parameters is None else (f"{each.reach:,}" if each.reach else "any"),
            f"{each.bound:,}" if each.bound else "",
            _parameters(each),
        )
        for each in found.methods
    ]
    return table(("method", "reach", "bound", "parameters"), rows, right=("reach", "bound"))


def _parameters(suggestion: Suggestion) -> str:
    if suggestion.parameters is None:
        return "none"
    return ", ".join(f"{key}={_short(value)}" for key, value in suggestion.parameters.items()) or "(no parameters)"


def _short(value: object) -> str:
    return json.dumps(value, separators=(",", ":")) if isinstance(value, list | dict) else str(value)


def _details(found: Suggestions) -> Iterator[str]:
    if found.presets:
        yield (
            "numbers: measured on this model by `ropext calibrate`, published, or by a rule and not measured; convert "
            "with --preset NAME."
        )
    yield "* recommended. reach: the longest text, in tokens, whose distances are all as in training."
    if any(each.bound for each in found.methods):
        yield (
            "bound: up to this distance, of two like tokens the nearer one attends more (arXiv 2405.14591; none within "
            "2 N is not shown). It is an argument, no measurement."
        )
    yield "Symbols: M trained length, N target, L length of the text, G group size, w local window, S shift."
    yield ""
    for each in found.methods:
        source = f" ({each.source})" if each.source else ""
        yield f"{each.method}: {each.why}{source}"
