"""The two things in `tokenizer_config.json` that a longer window changes; every other byte stays."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from itertools import islice
from typing import Any

from ropext.converter.errors import RopextError
from ropext.converter.files.json_object import parse_object

__all__ = ["adapt_tokenizer_config"]

FILE = "tokenizer_config.json"
_TRIED = 20  # the file is parsed for each

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
        The text with at most one number replaced and one key added; formatting and all else are kept.

    Raises:
        RopextError: the file is not a JSON object, brings its own code, or cannot be edited this way.
    """
    before = _parse(text)
    if before.get("auto_map"):
        raise RopextError(f"{FILE}: the tokenizer brings its own code (auto_map), which is not supported.")
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
