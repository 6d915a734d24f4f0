"""Options that several commands share, and how the help of each command ends."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from ropext.converter.errors import UsageError
from ropext.converter.evaluation.tasks.kept import KV_DTYPES
from ropext.converter.lengths import tokens

from .completion import complete_presets

__all__ = [
    "AS_JSON",
    "DEVICE",
    "INITIAL_WINDOW",
    "PRESET",
    "QUIET",
    "RESULTS",
    "SEED",
    "SET",
    "TARGET",
    "TEXT",
    "Length",
    "Lengths",
    "epilog",
    "measured",
    "options",
]


def epilog(*examples: str, page: str) -> str:
    """Return the end of a command's help: examples, without the `ropext` before each, and the page about it."""
    lines = "\n".join(f"  ropext {example}" for example in examples)
    return f"\b\nExample:\n{lines}\n\nDocumentation: {page}"


class Length(click.ParamType[int]):
    """A number of tokens: 65536, or 64k."""

    name = "tokens"

    def __init__(self, least: int = 1) -> None:
        """Take no number under `least`."""
        self.least = least

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Read it; k stands for 1024."""
        try:
            found = tokens(value)
        except UsageError as error:
            self.fail(str(error), param, ctx)
        if found < self.least:
            self.fail(f"{value!r} is too short: at least {self.least} tokens", param, ctx)
        return found


class Lengths(click.ParamType[tuple[int, ...]]):
    """Numbers of tokens: 4k,8k,16k."""

    name = "tokens,..."

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, ...]:
        """Read them, sorted, each once."""
        if isinstance(value, tuple):
            return value
        read = Length()
        return tuple(sorted({read.convert(each.strip(), param, ctx) for each in str(value).split(",")}))


def options(*decorators: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Several options as one decorator, shown in this order."""

    def decorate(command: Any) -> Any:
        for decorator in reversed(decorators):
            command = decorator(command)
        return command

    return decorate


AS_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON, as docs/json.md describes it.")
QUIET = click.option("--quiet", "-q", is_flag=True, help="Print errors only.")
SET = click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="KEY=VALUE",
    help="Change one key of the preset. May be given several times.",
)
PRESET = click.option(
    "--preset",
    "-p",
    "preset_name",
    required=True,
    metavar="NAME|FILE",
    shell_complete=complete_presets,
    help="Shipped preset, or a preset file.",
)
INITIAL_WINDOW = click.option(
    "--initial-window",
    type=Length(),
    show_default="the trained length",
    help="Length up to which the model reads well already, where its configuration does not say it right.",
)
TARGET = options(
    click.option("--target", "-t", type=Length(), required=True, help="Longest prompt to read, e.g. 64k."),
    INITIAL_WINDOW,
)
TEXT = click.option(
    "--text",
    "texts",
    type=click.Path(exists=True, path_type=Path),
    multiple=True,
    show_default="Python's documentation of itself",
    help="Prose: a file or a folder. May be given several times.",
)
SEED = click.option("--seed", type=int, default=0, show_default=True, help="Random seed.")
DEVICE = options(
    click.option(
        "--device",
        default="auto",
        show_default=True,
        help="Device to run on: cpu, cuda, cuda:1, or auto for all GPUs there are.",
    ),
    click.option(
        "--dtype", default="auto", show_default=True, help="Number type of the weights: float32, bfloat16 or float16."
    ),
)
RESULTS = click.option(
    "--output",
    "-o",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("results"),
    show_default=True,
    help="Folder of the results.",
)


_MODELS = click.argument("models", metavar="MODEL...", nargs=-1, required=True)
_PRESETS = click.option(
    "--preset",
    "-p",
    "presets",
    multiple=True,
    metavar="NAME|FILE",
    shell_complete=complete_presets,
    help="Also measure the base with this preset. May be given several times.",
)
_NO_BASE = click.option("--no-base", is_flag=True, help="Measure only the presets, not the base.")
_LENGTHS = click.option(
    "--lengths",
    "-l",
    type=Lengths(),
    default=(),
    show_default="1, 1.5 and 2 times the trained length; a converted model up to its target",
    help="Prompt lengths, e.g. 4k,8k,16k.",
)
_RESUME = click.option("--resume", is_flag=True, help="Go on with the results that are there.")
_SHORT = click.option(
    "--short/--no-short",
    default=True,
    show_default=True,
    help="Also measure the perplexity of prose that fits the window: six windows of at most 2,048 tokens.",
)
_KV_DTYPE = click.option(
    "--kv-dtype",
    type=click.Choice(KV_DTYPES),
    help="Also ask everything with keys and values kept in this type, and report what that loses.",
)
_BACKEND = click.option(
    "--backend",
    type=click.Choice(("transformers", "vllm")),
    default="transformers",
    show_default=True,
    help="Program that runs the model. With vllm: bases, native exports, and methods that it serves.",
)


def measured(
    samples: int | None, what: str, *, shown: str = "all", short: bool = True, kept: bool = True
) -> Callable[[Any], Any]:
    """Return the arguments and options that all tasks of `ropext eval` take.

    Args:
        samples: the default of --samples; None: the task decides.
        what: help of --samples.
        shown: the default in words, where the task decides.
        short: take --no-short.
        kept: take --kv-dtype.
    """
    said = samples is not None or shown
    count = click.option("--samples", "-n", type=click.IntRange(1), default=samples, show_default=said, help=what)
    own = (*([_SHORT] if short else []), *([_KV_DTYPE] if kept else []))
    what_to_ask = (_MODELS, _PRESETS, _NO_BASE, _LENGTHS, count, *own, SEED)
    return options(*what_to_ask, RESULTS, _RESUME, _BACKEND, DEVICE, AS_JSON)
