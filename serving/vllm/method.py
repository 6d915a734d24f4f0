"""The method of a checkpoint, from the code that transformers runs, or why vLLM cannot serve it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

import torch

from ropext.modeling.rope_ext_band import BandMethod
from ropext.modeling.rope_ext_dca import Dca
from ropext.modeling.rope_ext_frequencies import FrequencyMethod
from ropext.modeling.rope_ext_method import Method

__all__ = ["Refused", "method_of", "plainly"]


class Refused(ValueError):
    """What vLLM cannot serve."""


@contextmanager
def plainly() -> Iterator[None]:
    """Make tensors on the CPU and numbers float32: vLLM builds models with a device and a type of its own."""
    kept = torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)
    try:
        with torch.device("cpu"):
            yield
    finally:
        torch.set_default_dtype(kept)


def method_of(block: dict[str, Any]) -> Any:
    """Return the method that a `rope_ext` block describes.

    Raises:
        Refused: its attention cannot be computed from a paged cache.
    """
    name = block["method"]
    pairs = block.get("pairs", {})
    if block["base"].get("place"):
        raise Refused("vLLM: image-text models with a method are not supported; convert the text model alone")
    if pairs.get("norms_after"):
        raise Refused("vLLM: models with a norm between rotation and attention are not supported")
    with plainly():
        method = _class(name)(block)
    reason = _refusal(method)
    if reason:
        raise Refused(f"vLLM cannot serve the method {name}: {reason}; transformers runs this checkpoint")
    return method


def _class(name: str) -> Any:
    module = import_module(f"ropext.modeling.rope_ext_{name}")
    kinds = Method, FrequencyMethod
    (found,) = (
        c
        for c in vars(module).values()
        if isinstance(c, type) and c.__module__ == module.__name__ and issubclass(c, kinds)
    )
    return found


def _refusal(method: Any) -> str:
    """Why a method cannot be served; empty if it can."""
    if isinstance(method, FrequencyMethod):
        return "its frequencies depend on the length, and vLLM keeps rotated keys" if method.by_row else ""
    if isinstance(method, Dca):
        return _refusal_of_dca(method)
    if not isinstance(method, BandMethod):
        if type(method).__name__ == "Original":
            return ""
        return "it is not made of a near band and a far triangle"
    if len(method.borders) > 1:
        return "it has more than one region beyond the exact one, and the cache holds two rotations of a key"
    if method.selection is not None:
        return "each head has its own choice of frequency pairs (top_k)"
    if method.moves_keys and not method.keys_stay:
        return "where a far key stands depends on the length, and vLLM keeps rotated keys"
    return ""


def _refusal_of_dca(method: Dca) -> str:
    if method.temperature:
        return "its temperature depends on the length of the whole prompt, which pieces of a prompt do not know"
    if method.activate_beyond > method.stride:
        return "with activate_beyond it takes exact keys too, and the cache holds one rotation of a key"
    return ""
