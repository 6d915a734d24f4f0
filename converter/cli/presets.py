"""`ropext presets`: the shipped presets."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ropext.converter.errors import UsageError
from ropext.converter.lengths import length_text

from .completion import complete_methods, complete_presets
from .live import live
from .options import AS_JSON, Length, epilog
from .output import say, say_json
from .screen import table

if TYPE_CHECKING:
    from ropext.converter.preset import Preset

__all__ = ["presets"]


@click.group(epilog=epilog("presets list qwen3 --method yarn", page="docs/presets.md"))
def presets() -> None:
    """List or show the shipped presets."""


@presets.command(
    "list",
    short_help="List the shipped presets.",
    epilog=epilog("presets list qwen3", "presets list --fits Qwen/Qwen3-0.6B", page="docs/presets.md"),
)
@click.argument("model", metavar="[MODEL]", required=False)
@click.option("--method", "-m", metavar="METHOD", shell_complete=complete_methods, help="Show presets of this method.")
@click.option("--fits", metavar="SOURCE", help="Show presets that fit this model, a folder or a Hub id.")
@AS_JSON
def list_command(model: str | None, method: str | None, fits: str | None, as_json: bool) -> None:
    """Show name, method, base model, lengths and description of the shipped presets.

    MODEL is a part of a preset's name or of its base model, such as qwen3.
    """
    from ropext.converter.presets.choose import presets as choose

    found = choose(model=model, method=method, fits=fits)
    if as_json:
        say_json([_record(each) for each in found])
    elif found:
        click.echo(_table(found))
    else:
        say("no shipped preset is like that; `ropext convert SOURCE --method METHOD` needs none", err=True)


@presets.command(
    "show",
    short_help="Print a preset, or draw what it lets attention see.",
    epilog=epilog(
        "presets show smollm2-135m-rerope", "presets show smollm2-135m-dpe --plot dpe.svg", page="docs/reporting.md"
    ),
)
@click.argument("name", shell_complete=complete_presets)
@click.option(
    "--plot",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Draw instead which distances the preset lets attention see: .png, .svg or .pdf.",
)
@click.option(
    "--model",
    metavar="SOURCE",
    show_default="what the preset requires",
    help="Model to draw it on, a folder or a Hub id.",
)
@click.option(
    "--length", type=Length(), show_default="the target", help="Length of the text whose last token looks back."
)
def show_command(name: str, plot: Path | None, model: str | None, length: int | None) -> None:
    """Print the preset NAME, verbatim: a file to start one's own from."""
    from ropext.converter.presets.load import load_preset

    preset = load_preset(name)
    if plot:
        _draw(preset, plot, model, length)
    elif model or length:
        raise UsageError("--model and --length are for --plot; name its file")
    else:
        say(preset.text, end="")


def _draw(preset: Preset, file: Path, model: str | None, length: int | None) -> None:
    from ropext.converter.evaluation.report.drawing import check_file, save
    from ropext.converter.evaluation.report.position_map import target_of
    from ropext.converter.evaluation.report.preset_pictures import preset_pictures

    check_file(file)
    with live(f"drawing {file}"):
        save(preset_pictures(target_of(preset, model), length), file)
    say(f"wrote {file}", err=True)


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
