"""Attention maps, as their lines of results have them: whether they are whole, and what they come to."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

__all__ = ["FAR", "far_share", "wrong_maps"]

FAR = 1024
"""Tokens from which on a key counts as far."""

_MOST_CELLS = 1024
_MOST = 1e6
"""The largest logit."""


def wrong_maps(value: Mapping[str, Any]) -> str:
    """What keeps a value from being attention maps; empty where nothing does."""
    rows, found = len(value["logits"]), value["distances"]
    begins = found.get("from")
    if not 0 < rows == len(value["weights"]) <= _MOST_CELLS:
        return "`logits` and `weights` are no maps of one size"
    if not isinstance(begins, list) or not 0 < len(begins) < _MOST_CELLS:
        return "`distances` has no list `from`"
    if (
        not all(isinstance(begin, int) for begin in begins)
        or begins[0] != 0
        or any(a >= b for a, b in pairwise(begins))
    ):
        return "`from` of `distances` does not grow from 0 on, in whole tokens"
    for name, least, most in (("logits", -_MOST, _MOST), ("weights", 0, 1)):
        if not all(_numbers(row, n + 1, least, most) for n, row in enumerate(value[name])):
            return f"`{name}` is no lower triangle of numbers from {least:g} to {most:g}"
        if not _numbers(found.get(name), len(begins), least, most):
            return f"`{name}` of `distances` are not as many numbers as `from`, or out of range"
    return "" if 0 <= value["first"] <= 1 and begins[-1] < value["tokens"] else "`first` or `from` is out of range"


def _numbers(row: Any, count: int, least: float, most: float) -> bool:
    numbers = isinstance(row, list) and len(row) == count and all(type(each) in (int, float) for each in row)
    return numbers and all(least <= each <= most for each in row)


def far_share(value: Mapping[str, Any]) -> float | None:
    """Return which share of the attention goes to far keys, without the first; None where a text has none."""
    begins: list[int] = value["distances"]["from"]
    tokens: int = value["tokens"]
    if tokens <= FAR + 1:
        return None
    ends = [*begins[1:], tokens]
    weights: list[float] = value["distances"]["weights"]
    bands = zip(begins, ends, weights, strict=True)
    return sum(mean * _pairs(begin, end, tokens) for begin, end, mean in bands if begin >= FAR) / tokens


def _pairs(begin: int, end: int, tokens: int) -> int:
    """How many queries stand from `begin` to `end` tokens, without that, behind a key that is not the first."""
    return sum(tokens - 1 - distance for distance in (begin, end - 1)) * (end - begin) // 2
