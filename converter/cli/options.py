"""Options that several commands share."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

__all__ = ["DEVICE", "SEED", "TARGET", "TEXT", "Length", "Lengths", "options"]


class Length(click.ParamType[int]):
    """A number of tokens: 65536, or 64k."""

    name = "tokens"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Read it; k stands for 1024."""
        match = re.fullmatch(r"([0-9]{1,9})(k?)", str(value).lower())
        if not match or not int(match[1]):
            self.fail(f"{value!r} is no number of tokens; write it as 65536 or 64k", param, ctx)
        return int(match[1]) * (1024 if match[2] else 1)


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
    click.option("--initial-window", type=Length(), help="Length to trust [default: what the model says]."),
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
