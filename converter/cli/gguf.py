"""`ropext gguf-patch`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from ropext.converter.convert.gguf import TENSOR, patch_gguf
from ropext.converter.presets.load import load_preset

__all__ = ["gguf_patch"]


@click.command("gguf-patch", short_help="Put a frequency method into a GGUF file.")
@click.argument("source", type=click.Path(path_type=Path), metavar="IN.gguf")
@click.argument("output", type=click.Path(path_type=Path), metavar="OUT.gguf")
@click.option("--preset", "-p", "preset_name", required=True, metavar="NAME|FILE", help="What to put into it.")
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Change one key of the preset.")
@click.option("--force", is_flag=True, help="Replace OUT.gguf.")
def gguf_patch(source: Path, output: Path, preset_name: str, overrides: Sequence[str], force: bool) -> None:
    """Copy IN.gguf, of the llama architecture, to OUT.gguf with the divisors of a frequency method for llama.cpp."""
    divisors = patch_gguf(source, output, load_preset(preset_name, overrides), force=force)
    click.echo(f"{output}: {TENSOR}, {len(divisors)} divisors from {min(divisors):g} to {max(divisors):g}")
