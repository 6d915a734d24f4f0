"""How far a model was trained to read, which `max_position_embeddings` does not always say."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from .description import Description, TextModel, describe, text_model

__all__ = ["Trained", "stretched_length", "trained_length"]

_KEY = "max_position_embeddings"
_UNRAISED = 8192
"""Models that say this or less beside a linear factor left their first length there, as the published ones do."""

_SAID: Mapping[tuple[str, int], tuple[int, str]] = {
    ("qwen3", 40960): (32768, "Qwen3 was trained to 32768 tokens, and its configuration adds 8192 for the answer"),
    ("qwen3_moe", 40960): (32768, "Qwen3 was trained to 32768 tokens, and its configuration adds 8192 for the answer"),
    ("mistral", 1024000): (
        128000,
        "Mistral Nemo was trained to 128000 tokens, and its configuration says eight times that",
    ),
}
"""Families and lengths that are known to say more than they were trained to."""


class Trained(NamedTuple):
    """How far a model was trained to read.

    Attributes:
        tokens: the length to take.
        why: where it comes from.
        doubt: why it may be wrong and what to do then; empty where nothing speaks against it.
    """

    tokens: int
    why: str
    doubt: str = ""


def trained_length(config: Mapping[str, Any]) -> Trained:
    """Find how far a base was trained to read.

    Args:
        config: its `config.json`.

    Raises:
        RopextError: the configuration is not one of a base that can be converted.
    """
    text, description = text_model(config), describe(config)
    found = _longest(text, description)
    if description.window and description.window < found.tokens:
        why = f"its layers slide over {description.window} tokens, and training saw no distance beyond"
        return Trained(description.window, why)
    return found


def stretched_length(text: TextModel, description: Description) -> int | None:
    """Return the length that a linear factor makes of `max_position_embeddings`, where that was left as it was."""
    rope, said = description.rope, text.size(_KEY)
    factor = rope.scaling.get("factor") if rope.kind == "linear" else None
    if not isinstance(factor, int | float) or factor <= 1 or said > _UNRAISED:
        return None
    return int(said * factor)


def _longest(text: TextModel, description: Description) -> Trained:
    """What the configuration says of positions, sliding windows aside."""
    said = text.size(_KEY)
    chunks = text.config.get("dual_chunk_attention_config")
    original = chunks.get(f"original_{_KEY}") if isinstance(chunks, Mapping) else None
    if isinstance(original, int) and 0 < original < said:
        return Trained(original, f"dual_chunk_attention_config says original_{_KEY}; {said} is reached by chunks")
    if known := _SAID.get((description.text_model_type, said)):
        tokens, why = known
        return Trained(tokens, why, f"{_KEY} says {said}; if you know it is right: --initial-window {said}")
    if stretched := stretched_length(text, description):
        why = f"{_KEY} is {said}, and a linear factor of {description.rope.scaling['factor']:g} is beside it"
        return Trained(stretched, why, f"if {said} counts the factor already: --initial-window {said}")
    return Trained(said, _KEY, _doubt(said, description))


def _doubt(said: int, description: Description) -> str:
    original = description.rope.scaling.get(f"original_{_KEY}")
    if description.rope.kind == "yarn" and isinstance(original, int) and original < said:
        return (
            f"the base is scaled by yarn from {original}; if it was not trained with that: --initial-window {original}"
        )
    if said > _UNRAISED and said & (said - 1) and description.rope.kind == "default":
        return (
            f"{said} is no power of two, and some models say more than they were trained to; "
            "if its model card says less, give that by --initial-window"
        )
    return ""
