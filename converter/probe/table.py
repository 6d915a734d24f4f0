"""A rotary table of a runtime: how fast each pair turns, and what turned queries and keys are multiplied by."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["EVERY", "Reader", "Table", "Tables", "Untold", "of_long_prompts"]

EVERY = ""
"""Stands for all layers, where a model has one table."""

_LONG = "long prompts"

_TOLERANCE = 1e-4
"""Relative: runtimes keep cosines and sines in float32."""


class Untold(Exception):
    """A runtime's tables cannot be read; it says why."""


@dataclass(frozen=True)
class Table:
    """A rotary table.

    Attributes:
        inv_freq: radians per token, [pairs]; 0 for pairs that never turn.
        attention_factor: what turned queries and keys are multiplied by, each.
    """

    inv_freq: tuple[float, ...]
    attention_factor: float = 1.0

    def equals(self, other: Table) -> bool:
        """Whether two tables turn alike."""
        ours, theirs = ((*each.inv_freq, each.attention_factor) for each in (self, other))
        if len(ours) != len(theirs):
            return False
        pairs = zip(ours, theirs, strict=True)
        return all(math.isclose(one, two, rel_tol=_TOLERANCE, abs_tol=1e-12) for one, two in pairs)


Tables = Mapping[str, Table]
"""By the type of layer, such as `full_attention`; `EVERY` where all layers share one.

A runtime that turns long prompts by a second table (longrope) has that one too, under `of_long_prompts`.
"""


def of_long_prompts(layer_type: str) -> str:
    """Name the table of long prompts."""
    return f"{layer_type}, {_LONG}" if layer_type else _LONG


Reader = Callable[[Mapping[str, Any]], Tables]
"""Reads a runtime's tables for a `config.json`.

Raises:
    Untold: the runtime is not installed, does not know the model, or refuses the configuration.
"""
