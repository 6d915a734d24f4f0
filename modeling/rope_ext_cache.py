"""What a cache holds of a layer: whether it can be written to, and whether it is still what the layer has put there.

Programs that evict keys or change them, as kvpress does, know plain RoPE, where a key carries its own position. A
method takes its distances from the places of keys in the cache, and may hold them at other positions. Unnoticed, it
would go on with wrong distances.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch import Tensor
from transformers import DynamicCache

from .rope_ext_notes import EVICTED
from .rope_ext_positions import Forward

UNKNOWN = (
    "ropext: this cache was filled elsewhere, or has lost what this model notes on it, so how its keys were rotated is "
    "not known; pass the very object that a forward of this model returned, or a copy made by copy.deepcopy"
)


def is_held(key: Tensor, cache: Any, layer: int) -> bool:
    """Whether the tensor is what a plain dynamic cache holds of a layer, so that what is written to it stays."""
    if type(cache) is not DynamicCache or getattr(cache, "offloading", False) or key.requires_grad or 0 in key.stride():
        return False
    layers = getattr(cache, "layers", ())
    return layer < len(layers) and getattr(layers[layer], "keys", None) is key


def note_kept(forward: Forward, layer: int, key: Tensor) -> None:
    """Note what a layer leaves in the cache."""
    if is_held(key, forward.cache, layer):
        forward.kept[layer] = key, _version(key)


def check_kept(forward: Forward, layers: Iterable[int]) -> None:
    """Check, at the end of a forward, that the cache holds what these layers have put there.

    Raises:
        ValueError: it does not.
    """
    found = getattr(forward.cache, "layers", ())
    assert isinstance(forward.past, int)
    expected = forward.past + forward.stock.shape[1]
    for layer in layers:
        held: Any = found[layer] if layer < len(found) else None
        kind = type(held).__name__  # no import: the name is not one that transformers promises to keep
        if not (kind == "DynamicLayer" and type(forward.cache) is DynamicCache) and "Quantized" not in kind:
            continue  # a cache that says in another way how much of it is filled
        key, version = forward.kept.get(layer, (None, 0))
        same = key is None or (held.keys is key and _version(key) == version)
        length = held.get_seq_length()
        if length and (length != expected or not same):  # one without keys is none that keys are put into
            raise ValueError(EVICTED)
    forward.notes.columns = expected
    forward.kept.clear()


def _version(key: Tensor) -> int:
    """How often a tensor was written to; inference tensors do not tell."""
    return 0 if key.is_inference() else key._version


def refuse_masked(module: Any, query: Tensor, key: Tensor) -> None:
    """Refuse keys that kvpress masks for single heads; those of a text before the one that begins are forgotten.

    Raises:
        ValueError: there are some.
    """
    if getattr(module, "masked_key_indices", None) is None:
        return
    if query.shape[2] != key.shape[2]:
        raise ValueError(EVICTED)
    module.masked_key_indices = None
