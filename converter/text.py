"""Wording that messages share."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterable

__all__ = ["did_you_mean", "duration_text", "in_markdown", "masked", "printable", "size_text"]

_SECRETS = re.compile(
    r"(hf_|api_org_)[A-Za-z0-9_]{6,}|(?i:\b(bearer|basic)\s+)[\w.~+/=-]{6,}|(://)[^/\s:@]+:[^/\s@]+(?=@)"
)


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """A hint to append to "unknown ...": `; did you mean 'x'?`, or nothing when no known word is near."""
    matches = difflib.get_close_matches(word, list(known), n=1)
    return f"; did you mean {matches[0]!r}?" if matches else ""


def printable(text: str) -> str:
    """Text that somebody else wrote, made fit for a terminal: control characters and broken ones are spelt out."""
    if text.replace("\n", "").isprintable():
        return text
    return "".join(
        each if each.isprintable() or each in "\n\t" else each.encode("unicode_escape").decode() for each in text
    )


def masked(text: str) -> str:
    """Text that somebody else wrote, without tokens: of the Hub, of a header, in an address, in the environment."""
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        secret = os.environ.get(name, "").strip()
        text = text.replace(secret, "***") if len(secret) > 5 else text
    return _SECRETS.sub(lambda found: f"{found[1] or found[2] or found[3]}***", text)


def in_markdown(text: str) -> str:
    """Text that somebody else wrote, on one line, made fit for a model card: Markdown leaves it as it is."""
    line = printable(" ".join(text.split()))
    return re.sub(r"([\\`*\[\]<>|#~]|(?<![^\W_])_|_(?![^\W_]))", r"\\\1", line)


def duration_text(seconds: float) -> str:
    """Return a time that is known roughly: `2 h 10 min`, `13 min`, `40 s`."""
    minutes = round(seconds / 60)
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{minutes} min"


def size_text(count: float) -> str:
    """Return a number of bytes as people say it."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.4g} {unit}"
        count /= 1024
    return f"{count:.4g} TiB"
