"""`ropext validate` and `ropext schema`: what a preset may say, and whether one says it."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from ropext.converter.errors import InvalidPreset, Problem, UsageError
from ropext.converter.methods.schemas import preset_schema, schema_for

from .completion import complete_methods, complete_presets
from .options import AS_JSON, epilog
from .output import say, say_json

if TYPE_CHECKING:
    from ropext.converter.checkpoint.facts import ModelFacts
    from ropext.converter.preset import Preset

__all__ = ["schema", "validate"]


@click.command(
    short_help="Check preset files, alone or against a model.",
    epilog=epilog(
        "validate smollm2-135m-rerope", "validate my-preset.yaml --model SmolLM2-135M-Instruct", page="docs/presets.md"
    ),
)
@click.argument("files", metavar="NAME|FILE...", nargs=-1, required=True, shell_complete=complete_presets)
@click.option("--model", metavar="SOURCE", help="Also check that the presets fit this model, a folder or a Hub id.")
@AS_JSON
def validate(files: tuple[str, ...], model: str | None, as_json: bool) -> int:
    """Check presets, and report every problem found; exit with status 2 if there is any."""
    facts = _facts(model) if model else None
    checked = [(file, *_check(file, facts)) for file in files]
    problems = [problem for *_, found in checked for problem in found]
    if as_json:
        say_json([_record(*each) for each in checked])
        return InvalidPreset.exit_code if problems else 0
    for file, preset, found in checked:
        if preset and not found:
            say(f"{file}: valid ({preset.method}, {preset.initial_window} -> {preset.target_window} tokens)")
    if problems:
        raise InvalidPreset(problems)
    return 0


@click.command(
    short_help="Print the JSON Schema of a preset or of a method's parameters.",
    epilog=epilog("schema", "schema yarn", page="docs/presets.md"),
)
@click.argument("method", required=False, shell_complete=complete_methods)
def schema(method: str | None) -> None:
    """Print the JSON Schema of a preset, or of the parameters of METHOD."""
    from ropext.converter.presets.suggested import require_method

    if method is not None:
        require_method(method)
    say_json(schema_for(method) if method else preset_schema())


def _facts(source: str) -> ModelFacts:
    from ropext.converter.checkpoint.facts import read_facts

    return read_facts(source)


def _check(file: str, facts: ModelFacts | None) -> tuple[Preset | None, list[Problem]]:
    """Return the preset of a file, if it can be read, and its problems."""
    from ropext.converter.presets.fit import check_fit
    from ropext.converter.presets.load import load_preset

    try:
        preset = load_preset(file)
        return preset, check_fit(preset, facts) if facts else []
    except InvalidPreset as error:
        return None, error.problems
    except (UsageError, OSError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        return None, [Problem(file, 0, "", reason)]


def _record(file: str, preset: Preset | None, problems: list[Problem]) -> dict[str, Any]:
    return {
        "file": file,
        "valid": not problems,
        "name": preset.name if preset else None,
        "method": preset.method if preset else None,
        "problems": [asdict(problem) for problem in problems],
    }
