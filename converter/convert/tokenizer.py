"""The two things in `tokenizer_config.json` that a longer window changes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ropext.converter.errors import RopextError
from ropext.converter.files.json_object import parse_object

from .config import dump_json

__all__ = ["FILE", "adapt_tokenizer_config"]

FILE = "tokenizer_config.json"

# Where no class is named, transformers goes by the configuration's, which here is ours and unknown to it.
# These are what it would have chosen for the family.
_FAMILY_CLASSES = {"llama": "LlamaTokenizerFast"}


def adapt_tokenizer_config(text: str, config: Mapping[str, Any], length: int) -> str:
    """Raise `model_max_length` where it is below the new window; name the class where nobody does.

    Args:
        text: the base's `tokenizer_config.json`.
        config: the base's `config.json`, which may name the class too.
        length: the new window, tokens.

    Returns:
        The text, which is the same to the letter where neither is needed.

    Raises:
        RopextError: the file is not a JSON object, or brings its own code.
    """
    settings = parse_object(text, FILE)
    if settings.get("auto_map"):
        raise RopextError(f"{FILE}: the tokenizer brings its own code (auto_map), which is not supported.")
    changed: dict[str, Any] = {}
    limit = settings.get("model_max_length")
    if isinstance(limit, int | float) and limit < length:
        changed["model_max_length"] = length
    if not settings.get("tokenizer_class") and not config.get("tokenizer_class"):
        changed["tokenizer_class"] = _FAMILY_CLASSES.get(config["model_type"], "PreTrainedTokenizerFast")
    return dump_json({**settings, **changed}).decode() if changed else text
