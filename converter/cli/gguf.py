"""`ropext gguf-patch`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from ropext.converter.convert.gguf import patch_gguf
from ropext.converter.convert.gguf_keys import TENSOR
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
    """Copy IN.gguf to OUT.gguf with a frequency method for llama.cpp: by the keys of RoPE, or by divisors of pairs."""
    with live(f"writing {output}"):
        patch = patch_gguf(source, output, load_preset(preset_name, overrides), force=force)
    if patch.divisors:
        least, most = min(patch.divisors), max(patch.divisors)
        say(f"{output}: {TENSOR}, {len(patch.divisors)} divisors from {least:g} to {most:g}")
    for key, value in patch.keys.items():
        say(f"{output}: {key} {value if isinstance(value, str) else format(value, 'g' if value < 1e6 else '.9g')}")
