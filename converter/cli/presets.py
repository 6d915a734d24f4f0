"""`ropext presets`, `ropext validate`, `ropext schema`: what a preset may say, and whether one says it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ropext.converter.errors import InvalidPreset, Problem, UsageError
from ropext.converter.lengths import length_text
from ropext.converter.methods.schemas import METHODS, preset_schema, schema_for
from ropext.converter.text import did_you_mean

from .options import Length
from .screen import table

if TYPE_CHECKING:
    from ropext.converter.checkpoint.facts import ModelFacts
    from ropext.converter.preset import Preset

__all__ = ["presets", "schema", "validate"]


@click.group()
def presets() -> None:
    """List or show the shipped presets."""


@presets.command("list")
@click.option("--model", metavar="TEXT", help="Show presets whose name or base model holds this text.")
@click.option("--method", "-m", metavar="METHOD", help="Show presets of this method.")
@click.option("--fits", metavar="SOURCE", help="Show presets that fit this model (a folder or a Hub id).")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def list_command(model: str | None, method: str | None, fits: str | None, as_json: bool) -> None:
    """Show name, method, base model, lengths and description of the shipped presets."""
    from ropext.converter.presets.choose import presets as choose

    found = choose(model=model, method=method, fits=fits)
    if as_json:
        click.echo(json.dumps([_record(each) for each in found], indent=2))
    elif found:
        click.echo(_table(found))
    else:
        click.echo("no shipped preset is like that; `ropext convert SOURCE --method METHOD` needs none", err=True)


@presets.command("show")
@click.argument("name")
@click.option(
    "--plot",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Instead, draw which distances it lets attention see: .png, .svg or .pdf.",
)
@click.option(
    "--model", metavar="SOURCE", help="Draw it on this model (a folder or a Hub id), not on what it requires."
)
@click.option("--length", type=Length(), help="Of the text whose last token looks back [default: the target].")
def show_command(name: str, plot: Path | None, model: str | None, length: int | None) -> None:
    """Print the preset NAME, verbatim: a file to start one's own from."""
    from ropext.converter.presets.load import load_preset

    preset = load_preset(name)
    if plot:
        _draw(preset, plot, model, length)
    elif model or length:
        raise UsageError("--model and --length are for --plot; name its file")
    else:
        click.echo(preset.text, nl=False)


def _draw(preset: Preset, file: Path, model: str | None, length: int | None) -> None:
    from ropext.converter.evaluation.report.drawing import check_file, save
    from ropext.converter.evaluation.report.position_map import target_of
    from ropext.converter.evaluation.report.preset_pictures import preset_pictures

    check_file(file)
    save(preset_pictures(target_of(preset, model), length), file)
    click.echo(f"wrote {file}", err=True)


@click.command()
@click.argument("files", metavar="FILE...", nargs=-1, required=True)
@click.option("--model", metavar="SOURCE", help="Also check that the presets fit this model (a folder or a Hub id).")
def validate(files: tuple[str, ...], model: str | None) -> None:
    """Check each FILE, or shipped preset of that name, and report every problem found.

    Exits with status 2 if there is any.
    """
    facts = _facts(model) if model else None
    problems = [problem for file in files for problem in _check(file, facts)]
    if problems:
        raise InvalidPreset(problems)


@click.command()
@click.argument("method", required=False)
def schema(method: str | None) -> None:
    """Print the JSON Schema of a preset, or of the parameters of METHOD."""
    if method is not None and method not in METHODS:
        near = did_you_mean(method, METHODS) or ";"
        raise UsageError(f"unknown method {method!r}{near} there are {', '.join(METHODS)}")
    click.echo(json.dumps(schema_for(method) if method else preset_schema(), indent=2))


def _facts(source: str) -> ModelFacts:
    from ropext.converter.checkpoint.facts import read_facts

    return read_facts(source)


def _check(file: str, facts: ModelFacts | None) -> list[Problem]:
    """The problems of one file; says so on stdout when there are none."""
    from ropext.converter.presets.fit import check_fit
    from ropext.converter.presets.load import load_preset

    try:
        preset = load_preset(file)
        problems = check_fit(preset, facts) if facts else []
    except InvalidPreset as error:
        return error.problems
    except (UsageError, OSError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        return [Problem(file, 0, "", reason)]
    if not problems:
        click.echo(f"{file}: valid ({preset.method}, {preset.initial_window} -> {preset.target_window} tokens)")
    return problems


def _record(preset: Preset) -> dict[str, Any]:
    return {
        "name": preset.name,
        "description": preset.description,
        "base_model": preset.base_model,
        "method": preset.method,
        "initial_window": preset.initial_window,
        "target_window": preset.target_window,
        "parameters": dict(preset.parameters),
        "requires": dict(preset.requires),
        "references": list(preset.references),
    }


def _table(found: Sequence[Preset]) -> str:
    rows = [
        (
            p.name,
            p.method,
            p.base_model,
            f"{length_text(p.initial_window)} -> {length_text(p.target_window)}",
            p.description,
        )
        for p in found
    ]
    return table(("name", "method", "base model", "tokens", "description"), rows)
