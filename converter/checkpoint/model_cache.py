"""A model's cache of keys and values, under whichever name this transformers has for it."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

__all__ = ["cache_in", "cache_name"]


def cache_name(model: Any) -> str:
    """Return what a model's forward calls its cache: `cache` from transformers 5.24 on, `past_key_values` before.

    Args:
        model: a model of transformers.
    """
    return "cache" if "cache" in inspect.signature(model.forward).parameters else "past_key_values"


def cache_in(output: Mapping[str, Any]) -> Any:
    """Return the cache that a forward has filled.

    Args:
        output: what the model's forward returned.

    Raises:
        LookupError: it returned none.
    """
    from transformers import Cache

    for value in output.values():
        if isinstance(value, Cache):
            return value
    raise LookupError("the model returned no cache")
