"""What commands write, so that it arrives whatever the terminal, the pipe or the encoding."""

from __future__ import annotations

import codecs
import io
import json
import sys
from typing import Any

import click

from ropext.converter.text import printable

__all__ = ["make_streams_robust", "say", "say_json"]

_PLAIN = {
    "→": "->",
    "−": "-",
    "–": "-",
    "—": "-",
    "…": "...",
    "±": "+-",
    "×": "x",
    "·": "*",
    "∞": "inf",
    "≤": "<=",
    "≥": ">=",
    "“": '"',
    "”": '"',
    "‘": "'",
    "’": "'",
    "─": "-",
    "━": "-",
    "│": "|",
}
"""How signs are spelt where an encoding lacks them; any other becomes a question mark."""


def make_streams_robust() -> None:
    """Let no character that an encoding lacks end a command: replace it."""
    codecs.register_error("ropext", _spelt)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="ropext")


def _spelt(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    lost = error.object[error.start : error.end]
    return "".join(_PLAIN.get(each, "?") for each in lost), error.end


def say(text: str, *, err: bool = False, end: str = "\n") -> None:
    """Print a text, with control characters spelt out, on stdout or on stderr."""
    click.echo(printable(text) + end, err=err, nl=False)


def say_json(value: Any) -> None:
    """Print JSON values on stdout, with escapes for what a terminal obeys or the encoding lacks."""
    narrow = codecs.lookup(getattr(sys.stdout, "encoding", None) or "utf-8").name != "utf-8"
    text = json.dumps(value, indent=2, ensure_ascii=narrow, default=str)
    click.echo("".join(each if each.isprintable() or each == "\n" else json.dumps(each)[1:-1] for each in text))
