"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from ropext.converter.errors import UsageError
from ropext.converter.lengths import tokens

__all__ = ["DEVICE", "SEED", "TARGET", "TEXT", "Length", "Lengths", "options"]


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


TARGET = options(
    click.option("--target", "-t", type=Length(), required=True, help="Length to read in the end: 65536, or 64k."),
    click.option("--initial-window", type=Length(), help="Length to trust [default: the trained length]."),
)
TEXT = click.option(
    "--text",
    "texts",
    type=click.Path(exists=True, path_type=Path),
    multiple=True,
    help="Prose: a file or folder; repeatable [default: Python's documentation of itself].",
)
SEED = click.option("--seed", type=int, default=0, show_default=True, help="Of everything that is drawn.")
DEVICE = options(
    click.option("--device", default="auto", show_default=True, help="cpu, cuda, cuda:1; auto: all GPUs there are."),
    click.option("--dtype", default="auto", show_default=True, help="float32, bfloat16 or float16."),
)
