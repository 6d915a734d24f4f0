"""What of the settings of a tokenizer and of generation a conversion changes or leaves out; every other byte stays."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from itertools import islice
from typing import Any

from ropext.converter.checkpoint.config_keys import known_generation_keys
from ropext.converter.errors import RopextError
from ropext.converter.files.json_object import parse_object

__all__ = ["GENERATION", "adapt_tokenizer_config", "keys_of_elsewhere", "with_known_settings"]

FILE = "tokenizer_config.json"
GENERATION = "generation_config.json"
_TRIED = 20  # the file is parsed for each

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
    return _without(text, before, [key for key in before if key not in known])


def _without(text: str, settings: Mapping[str, Any], dropped: list[str]) -> tuple[str, list[str]]:
    kept = {key: value for key, value in settings.items() if key not in dropped}
    return (json.dumps(kept, indent=2, ensure_ascii=False) + "\n" if dropped else text), dropped


def adapt_tokenizer_config(text: str, config: Mapping[str, Any], length: int) -> str:
    """Raise `model_max_length` where it is below the new window; name the class where nobody does.

    Keys that name files or a place are dropped: transformers would read those in the place of the tokenizer's own.

    Args:
        text: the base's `tokenizer_config.json`.
        config: the base's `config.json`, which may name the class too.
        length: the new window, tokens.

    Returns:
        The text with at most one number replaced and one key added; where no key is dropped, formatting and all else
        are kept.

    Raises:
        RopextError: the file is not a JSON object, brings its own code, or cannot be edited this way.
    """
    before = _parse(text)
    if before.get("auto_map"):
        raise RopextError(f"{FILE}: the tokenizer brings its own code (auto_map), which is not supported.")
    text, _ = _without(text, before, keys_of_elsewhere(before))
    limit = before.get("model_max_length")
    if isinstance(limit, int | float) and limit < length:
        text = _with_number(text, "model_max_length", length)
    if not before.get("tokenizer_class") and not config.get("tokenizer_class"):
        text = _with_key(text, "tokenizer_class", _FAMILY_CLASSES.get(config["model_type"], "PreTrainedTokenizerFast"))
    return text


def _with_number(text: str, key: str, value: int) -> str:
    """Replace the number at a top-level key; a key of that name further inside is told apart by parsing."""
    wanted = {**_parse(text), key: value}
    for match in islice(re.finditer(rf'"{key}"\s*:\s*([-+.\w]+)', text), _TRIED):
        candidate = text[: match.start(1)] + str(value) + text[match.end(1) :]
        if _parse(candidate) == wanted:
            return candidate
    raise RopextError(f"{FILE}: cannot set {key} to {value}: the key appears more than once; remove the others.")


def _with_key(text: str, key: str, value: str) -> str:
    """Add a key at the head of the object, spaced as its first key is; a null under that name is replaced."""
    entries = _parse(text)
    if key in entries:
        candidate = re.sub(rf'("{key}"\s*:\s*)null', lambda match: match[1] + json.dumps(value), text)
    else:
        gap = re.match(r"\s*\{(\s*)", text)
        space = gap[1] if gap else ""
        comma = ("," if space else ", ") if entries else ""
        candidate = text.replace("{", f"{{{space}{json.dumps(key)}: {json.dumps(value)}{comma}", 1)
    if _parse(candidate) != {**entries, key: value}:
        raise RopextError(f"{FILE}: cannot add {key}; set it to {value!r} by hand.")
    return candidate


def _parse(text: str) -> dict[str, Any]:
    return parse_object(text, FILE)
