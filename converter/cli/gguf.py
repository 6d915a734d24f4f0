"""`ropext gguf-patch`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from ropext.converter.convert.gguf import TENSOR, patch_gguf
from ropext.converter.presets.load import load_preset

from .live import live
from .options import PRESET, SET, epilog
from .output import say

__all__ = ["gguf_patch"]


@click.command(
    "gguf-patch",
    short_help="Put a frequency method into a GGUF file.",
    epilog=epilog("gguf-patch llama2-7b.gguf llama2-7b-16k.gguf --preset llama2-7b-dprope-16k", page="docs/native.md"),
)
@click.argument("source", type=click.Path(path_type=Path), metavar="IN.gguf")
@click.argument("output", type=click.Path(path_type=Path), metavar="OUT.gguf")
@PRESET
@SET
@click.option("--force", is_flag=True, help="Replace OUT.gguf.")
def gguf_patch(source: Path, output: Path, preset_name: str, overrides: Sequence[str], force: bool) -> None:
    """Copy IN.gguf, of the llama architecture, to OUT.gguf with the divisors of a frequency method for llama.cpp."""
    with live(f"writing {output}"):
        divisors = patch_gguf(source, output, load_preset(preset_name, overrides), force=force)
    say(f"{output}: {TENSOR}, {len(divisors)} divisors from {min(divisors):g} to {max(divisors):g}")
