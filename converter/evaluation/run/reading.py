"""Reading long texts in pieces: no mask of all pairs of tokens, and no states of all tokens of one layer."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor
from transformers import DynamicCache

from ropext.converter.checkpoint.model_cache import cache_name
from ropext.converter.errors import UsageError
from ropext.modeling.rope_ext_method import Method
from ropext.modeling.rope_ext_model import decoder_of

__all__ = [
    "LONG",
    "PIECE",
    "empty_cache",
    "forgets",
    "is_base",
    "is_cut",
    "keeps_states",
    "quantized_cache",
    "read",
]

LONG = 8192
"""Tokens up to which a text is read at once."""

PIECE = 2048
"""Tokens that are read together of a longer one."""

_BY_LENGTH = ("dynamic", "longrope", "su")
"""Types of RoPE in transformers whose frequencies depend on how much is read at once."""


def read(model: Any, ids: Tensor, cache: Any) -> Iterator[tuple[int, Any]]:
    """Read a text [1, T] into an empty cache, by a language model without its head.

    Yields:
        Of each piece the place of its first token, and what the model returns.
    """
    count = ids.shape[1]
    step = PIECE if is_cut(model, count) else count
    named = {cache_name(model): cache}
    for start in range(0, count, step):
        yield start, model.base_model(ids[:, start : start + step], use_cache=True, **named)


def empty_cache(model: Any, count: int) -> DynamicCache:
    """A cache for a text of this length.

    Layers that keep states and no keys have a place of their own in it. Where the text is read in pieces, layers that
    slide keep their window alone.
    """
    needed = is_cut(model, count) or keeps_states(model)
    if not needed or "config" not in inspect.signature(DynamicCache).parameters:
        return DynamicCache()
    return DynamicCache(config=model.config)


def quantized_cache(model: Any, kv_dtype: str) -> Any:
    """A cache that keeps keys and values in fewer bits.

    Raises:
        UsageError: it does not go with the model, or a package is missing.
    """
    try:
        from transformers import QuantizedCache

        how = {} if kv_dtype == "fp8" else {"nbits": int(kv_dtype.removeprefix("int"))}
        return QuantizedCache("fp8" if kv_dtype == "fp8" else "quanto", model.config, **how)
    except (ImportError, ValueError) as error:
        raise UsageError(f"--kv-dtype {kv_dtype}: {error}") from None


def forgets(cache: DynamicCache) -> bool:
    """Whether layers of a cache keep a window or states alone, so that what is cropped could not come back."""
    return any(getattr(layer, "is_sliding", False) or hasattr(layer, "conv_states") for layer in cache.layers)


def is_base(model: Any, count: int) -> bool:
    """Whether a method promises the base's output on a text of this length, bit for bit."""
    methods = _methods(model)
    return bool(methods) and all(isinstance(each, Method) and each.is_base(count) for each in methods)


def _methods(model: Any) -> tuple[Any, ...]:
    attached = getattr(decoder_of(model), "rope_ext_attachment", None)
    return () if attached is None else (attached.method, *attached.others.values())


def is_cut(model: Any, count: int) -> bool:
    """Whether a text of this length is read in pieces: it is long, it costs no time, and it stays the same text.

    Where all layers of a stock model see everything, its kernel needs no mask for the whole text, but one for a piece.
    """
    if count <= LONG:
        return False
    methods = _methods(model)
    if any(getattr(method, name, False) for method in methods for name in ("by_pieces", "by_row")):
        return False
    config = model.config.get_text_config()
    kinds = getattr(config, "layer_types", None) or ()
    if keeps_states(model) or any(kind in _BY_LENGTH for kind in _rope_types(model.config.to_dict())):
        return False
    windows = (set(kinds) - {"full_attention"}) if kinds else getattr(config, "sliding_window", None)
    return bool(windows) or any(isinstance(method, Method) for method in methods)


def keeps_states(model: Any) -> bool:
    """Whether some layers keep states of what was read, and no keys."""
    kinds = getattr(model.config.get_text_config(), "layer_types", None) or ()
    return any("attention" not in kind or "linear" in kind for kind in kinds)


def _rope_types(value: Any) -> Iterator[Any]:
    """The types of RoPE in a configuration, wherever they stand."""
    if isinstance(value, Mapping):
        yield from (value[key] for key in ("rope_type", "type") if key in value)
        for each in value.values():
            yield from _rope_types(each)
