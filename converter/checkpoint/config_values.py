"""Reading single values of a `config.json`, checked, with messages that name the place."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ropext.converter.errors import RopextError

__all__ = ["FLOAT32_MAX", "count", "optional_count", "place_of", "positive", "refuse"]

FLOAT32_MAX = 2.0**127


def refuse(place: str, key: str, why: str) -> RopextError:
    """Make the error for a key of `config.json`.

    Args:
        place: what holds the key: "" for the file's top level, or a dotted path.
        key: the key.
        why: what is wrong and what to do, without a full stop.
    """
    return RopextError(f"config.json: {place_of(place, key)}: {why}.")


def place_of(place: str, key: str) -> str:
    """Return the dotted name of a key."""
    return f"{place}.{key}" if place else key


def positive(value: object, place: str, key: str) -> float:
    """Return a positive number that a float32 can hold.

    Raises:
        RopextError: it is none.
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < FLOAT32_MAX:
        raise refuse(place, key, f"{value!r} is not a positive number")
    return float(value)


def count(config: Mapping[str, Any], place: str, key: str, default: int | None = None) -> int:
    """Return a positive whole number of a configuration.

    Raises:
        RopextError: it is none, and there is no default.
    """
    value = config.get(key)
    value = default if value is None else value
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value < 2**31:
        raise refuse(place, key, f"{value!r} is not a positive whole number of 31 bits")
    return value


def optional_count(config: Mapping[str, Any], place: str, key: str, default: int | None = None) -> int | None:
    """Return a positive whole number of a configuration; None where it is null or 0, which switch a feature off.

    Raises:
        RopextError: it is something else.
    """
    value = config.get(key, default)
    return None if value is None or (value == 0 and not isinstance(value, bool)) else count({key: value}, place, key)
