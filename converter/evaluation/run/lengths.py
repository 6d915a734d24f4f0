"""The lengths at which a model is measured when none are named: as far as it was trained to read, and beyond."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ropext.converter.checkpoint.description import TEXT
from ropext.converter.checkpoint.trained import trained_length
from ropext.converter.errors import RopextError

__all__ = ["trained_tokens", "usual_lengths"]


def trained_tokens(config: Mapping[str, Any]) -> int | None:
    """Return how far a model reads without a method, in tokens; None where its configuration does not tell.

    Args:
        config: of a base, or of a converted model, which names its initial window.
    """
    if "rope_ext" in config:
        return _size(config["rope_ext"], "initial_window")
    try:
        return trained_length(config).tokens
    except RopextError:  # a base that cannot be converted can be measured all the same
        return _size(config, "max_position_embeddings") or _size(config.get(TEXT), "max_position_embeddings")


def usual_lengths(config: Mapping[str, Any]) -> tuple[int, ...]:
    """Return 1, 1.5 and 2 times the trained length; of a converted model those below its target window, and that.

    A base and what was converted from it so have lengths in common.
    """
    trained = trained_tokens(config)
    if not trained:
        return ()
    lengths = (trained, trained * 3 // 2, 2 * trained)
    target = _size(config.get("rope_ext"), "target_window")
    return (*(each for each in lengths if each < target), target) if target else lengths


def _size(found: Any, key: str) -> int | None:
    value = found.get(key) if isinstance(found, Mapping) else None
    return value if isinstance(value, int) and value > 0 else None
