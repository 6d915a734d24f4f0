"""The rotary tables of mlx-lm: those of the first layer of its own model, of which nothing else is computed."""

from __future__ import annotations

import math
from collections.abc import Mapping
from importlib import import_module
from typing import Any

from .table import EVERY, Table, Tables, Untold

__all__ = ["tables"]


def tables(config: Mapping[str, Any]) -> Tables:
    """Read the tables of the installed mlx-lm.

    Raises:
        Untold: it is not installed, does not know the model, or refuses the configuration.
    """
    try:
        from mlx_lm.utils import _get_classes
    except ImportError as error:
        raise Untold(f"mlx-lm cannot be imported: {error}") from None
    try:
        model, arguments = _get_classes(dict(config))
        made = model(arguments.from_dict(dict(config)))
        return {EVERY: _table(_attention(made).rope)}
    except Untold:
        raise
    except Exception as error:
        raise Untold(f"mlx-lm refuses it: {type(error).__name__}: {error}") from None


def _attention(model: Any) -> Any:
    """Find the attention of a layer that turns queries and keys; the last one, as the first ones may slide."""
    for layer in reversed(model.layers):
        attention = getattr(layer, "self_attn", None)
        if hasattr(attention, "rope"):
            return attention
    raise Untold("none of its layers has a rotary object")


def _table(rope: Any) -> Table:
    """Turn a vector whose pairs are (1, 0), at the first two positions, and read the angles."""
    mx = import_module("mlx.core")
    width = int(getattr(rope, "dims", 0) or rope.dim)
    halves = not getattr(rope, "traditional", False)
    first = [1.0 if (index < width // 2 if halves else index % 2 == 0) else 0.0 for index in range(width)]
    still, moved = (rope(mx.array([[[first]]]), offset=offset).tolist()[0][0][0] for offset in (0, 1))
    pairs = [(index, index + width // 2) if halves else (2 * index, 2 * index + 1) for index in range(width // 2)]
    angles = tuple(math.atan2(moved[two], moved[one]) for one, two in pairs)
    return Table(angles, math.hypot(*(still[index] for index in pairs[0])))
