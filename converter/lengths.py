"""Numbers of tokens as people write them: 65536, or 64k."""

from __future__ import annotations

import re

from .errors import UsageError

__all__ = ["length_text", "tokens"]


def tokens(value: str | int, name: str = "") -> int:
    """Read a number of tokens.

    Args:
        value: a whole number over 0, or text such as `65536` or `64k`, where k stands for 1024.
        name: what it is for, to begin the message with.

    Raises:
        UsageError: it is nothing of the kind.
    """
    match = None if isinstance(value, bool) else re.fullmatch(r"([0-9]{1,9})(k?)", str(value).strip().lower())
    if not match or not int(match[1]):
        place = f"{name}: " if name else ""
        raise UsageError(f"{place}{value!r} is no number of tokens; write it as 65536 or 64k")
    return int(match[1]) * (1024 if match[2] else 1)


def length_text(count: int) -> str:
    """Return a number of tokens as briefly as `tokens` reads it: `64k` for 65536."""
    return f"{count // 1024}k" if count % 1024 == 0 else str(count)
