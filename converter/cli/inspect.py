"""`ropext inspect`: what a model folder holds."""

from __future__ import annotations

import click

from ropext.converter.converted.inspect import inspect_source, render

from .options import AS_JSON, INITIAL_WINDOW, epilog
from .output import say, say_json

__all__ = ["inspect"]


@click.command(
    short_help="Describe a base model or a converted one.",
    epilog=epilog("inspect Qwen/Qwen3-0.6B", "inspect qwen3-4b-yarn --json", page="docs/families.md"),
)
@click.argument("source", metavar="DIR|REPO")
@INITIAL_WINDOW
@AS_JSON
def inspect(source: str, initial_window: int | None, as_json: bool) -> None:
    """Describe a model: a converted one's method and parameters, or a base's facts and the presets that fit it."""
    report = inspect_source(source, initial_window)
    if as_json:
        say_json(report)
    else:
        say(render(report))
