"""What of the settings of a tokenizer and of generation a conversion changes or leaves out."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ropext.converter.checkpoint.config_keys import known_generation_keys
from ropext.converter.errors import RopextError
from ropext.converter.files.json_object import parse_object

from .config import dump_json

__all__ = ["FILE", "GENERATION", "adapt_tokenizer_config", "keys_of_elsewhere", "with_known_settings"]

FILE = "tokenizer_config.json"
GENERATION = "generation_config.json"

# Where no class is named, transformers goes by the configuration's, which here is ours and unknown to it.
# These are what it would have chosen for the family.
_FAMILY_CLASSES = {"llama": "LlamaTokenizerFast"}


def keys_of_elsewhere(settings: Mapping[str, Any]) -> list[str]:
    """Return the keys of a tokenizer's settings by which it would run other code, or read other files than its own."""
    named = re.compile(r"auto_map|custom_\w+|trust_remote_code|name_or_path|\w+_files?")
    return [key for key, value in settings.items() if value is not None and (named.fullmatch(key) or key[:1] == "_")]


def with_known_settings(text: str) -> tuple[str, list[str]]:
    """Drop the keys of `generation_config.json` that transformers does not know.

    Returns:
        The text, as it was where nothing is dropped, and the keys.

    Raises:
        RopextError: the file is not a JSON object.
    """
    before, known = parse_object(text, GENERATION), known_generation_keys()
    dropped = [key for key in before if key not in known]
    kept = {key: value for key, value in before.items() if key in known}
    return (dump_json(kept).decode() if dropped else text), dropped


def adapt_tokenizer_config(text: str, config: Mapping[str, Any], length: int) -> str:
    """Raise `model_max_length` where it is below the new window; name the class where nobody does.

    Keys that name files or a place are dropped: transformers would read those in the place of the tokenizer's own.

    Args:
        text: the base's `tokenizer_config.json`.
        config: the base's `config.json`, which may name the class too.
        length: the new window, tokens.

    Returns:
        The text, which is the same to the letter where nothing is changed or dropped.

    Raises:
        RopextError: the file is not a JSON object, or brings its own code.
    """
    settings = parse_object(text, FILE)
    if settings.get("auto_map"):
        raise RopextError(f"{FILE}: the tokenizer brings its own code (auto_map), which is not supported.")
    dropped, changed = keys_of_elsewhere(settings), dict[str, Any]()
    limit = settings.get("model_max_length")
    if isinstance(limit, int | float) and limit < length:
        changed["model_max_length"] = length
    if not settings.get("tokenizer_class") and not config.get("tokenizer_class"):
        changed["tokenizer_class"] = _FAMILY_CLASSES.get(config["model_type"], "PreTrainedTokenizerFast")
    kept = {key: value for key, value in settings.items() if key not in dropped}
    return dump_json({**kept, **changed}).decode() if changed or dropped else text
