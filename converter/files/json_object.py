"""Reading JSON that somebody else wrote, in bounded time and memory."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any, NoReturn

from ropext.converter.errors import RopextError

__all__ = ["MAX_BYTES", "parse_object", "read_bounded", "read_object"]

MAX_BYTES = 24_000_000
"""Ten times the longest index or header there is; as text it may take four bytes for each."""

MAX_VALUES = 1_500_000
"""Commas and brackets, of which each value but the first needs one: a few bytes can ask for much memory."""

MAX_DEPTH = 64


def read_bounded(file: Path, name: str, limit: int = MAX_BYTES) -> bytes:
    """Read a small file.

    Args:
        file: where it is.
        name: what to call it in messages.
        limit: bytes that it may have at most.

    Raises:
        RopextError: it is longer, or no regular file.
    """
    if not file.is_file():
        raise RopextError(f"{name}: is no regular file.")
    with file.open("rb") as stream:
        data = stream.read(limit + 1)
    if len(data) > limit:
        raise RopextError(f"{name}: {file.stat().st_size} bytes is too long for such a file; at most {limit} are read.")
    return data


def read_object(file: Path, name: str, limit: int = MAX_BYTES, *, unambiguous: bool = False) -> dict[str, Any]:
    """Read a file that holds a JSON object; see `read_bounded` and `parse_object`."""
    return parse_object(read_bounded(file, name, limit), name, unambiguous=unambiguous)


def parse_object(data: str | bytes, name: str, *, unambiguous: bool = False) -> dict[str, Any]:
    """Parse a JSON object: finite numbers, no halves of surrogate pairs, not too many values, not too deep.

    Args:
        data: the text, or its bytes in UTF-8.
        name: of the file, for messages.
        unambiguous: refuse a key that is given twice with two values, of which programs take one or the other.

    Raises:
        RopextError: it is not JSON, or not an object.
    """
    hook = _pairs if unambiguous else None
    try:
        text = data if isinstance(data, str) else str(data, "utf-8")
        _check_size(text)
        value = json.loads(text, parse_constant=_no_number, parse_float=_finite, object_pairs_hook=hook)
        _check_depth(value)
        if _SURROGATE.search(text):
            json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise RopextError(f"{name}: not valid JSON: half of a surrogate pair (\\ud800 to \\udfff) alone.") from None
    except (ValueError, RecursionError) as error:
        raise RopextError(f"{name}: not valid JSON: {error}.") from None
    if not isinstance(value, dict):
        raise RopextError(f"{name}: expected a JSON object, found {type(value).__name__}.")
    return value


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found and found[key] != value:
            raise ValueError(f"{key[:80]!r} is given twice, with two values; keep the right one")
        found[key] = value
    return found


_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]|[\ud800-\udfff]")


def _check_size(text: str) -> None:
    values = text.count(",") + text.count("[") + text.count("{")
    if len(text) > MAX_BYTES or values > MAX_VALUES:
        raise ValueError(f"it is too long ({len(text)} characters, up to {values} values)")


def _check_depth(value: Any) -> None:
    level = [value]
    for _ in range(MAX_DEPTH):
        level = [each for outer in level for each in _inner(outer) if isinstance(each, dict | list)]
        if not level:
            return
    raise ValueError(f"it is nested more than {MAX_DEPTH} levels deep")


def _inner(value: Any) -> Any:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()


def _no_number(text: str) -> NoReturn:
    raise ValueError(f"{text} is no number")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text[:40]} is too large a number")
    return number
