"""How many bytes a model takes on a runtime: weights, cache, what a method keeps beside it, and a prefill.

The prefill is counted for transformers as its layers allocate: the widest of three moments of one layer. Other runtimes
read a prompt in pieces and fuse more, so that the same count of one piece is a bound.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .shape import WITHOUT_SDPA, Kind, Layer, Shape

__all__ = ["NUMBER_BYTES", "RUNTIMES", "Load", "Need", "Runtime", "cache_bytes", "longest", "need"]

NUMBER_BYTES = {"float32": 4.0, "bfloat16": 2.0, "float16": 2.0, "float8": 1.0, "int8": 1.0625, "int4": 0.5625}
"""Of one number. Integers come in groups with a scale: 8.5 and 4.5 bits, as llama.cpp's Q8_0 and MLX's 4 bits."""

_LONGEST = 2**31


@dataclass(frozen=True)
class Runtime:
    """How a runtime lays out its memory.

    Attributes:
        name: what it is called.
        piece: tokens of a prompt that it reads at once; None: all.
        block: tokens by which a cache grows.
        cache_dtype: the number type of its cache by default; empty: the model's.
        beyond_window: tokens that it keeps of a sliding layer beside the window.
    """

    name: str
    piece: int | None
    block: int
    cache_dtype: str
    beyond_window: int


RUNTIMES: Mapping[str, Runtime] = {
    each.name: each
    for each in (
        Runtime("transformers", None, 1, "", -1),
        Runtime("vllm", 8192, 16, "", 8191),
        Runtime("llama.cpp", 512, 256, "float16", 512),
        Runtime("mlx", 2048, 256, "", 0),
    )
}


@dataclass(frozen=True)
class Load:
    """What a model is asked to do.

    Attributes:
        batch: texts at once.
        dtype: the number type that it computes in.
        kv_dtype: that of its cache; empty: what the runtime takes.
        weights: bytes of its weights.
        copied: the tokens whose keys in full layers (in vLLM values too) the method keeps twice, at most, by runtime.
    """

    batch: int
    dtype: str
    kv_dtype: str
    weights: int
    copied: Mapping[str, float]


@dataclass(frozen=True)
class Need:
    """What a model needs, in bytes.

    Attributes:
        runtime: on which runtime.
        length: tokens of each text.
        weights: the weights.
        cache: keys, values and states, by the kind of layer.
        method: what the method keeps beside them.
        prefill: what reading the texts adds for a moment.
    """

    runtime: str
    length: int
    weights: int
    cache: Mapping[Kind, int]
    method: int
    prefill: int

    @property
    def total(self) -> int:
        """All of it, without the program itself."""
        return self.weights + sum(self.cache.values()) + self.method + self.prefill

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {**vars(self), "cache": {**self.cache}, "kv_cache": sum(self.cache.values()), "total": self.total}


def need(shape: Shape, runtime: Runtime, load: Load, length: int) -> Need:
    """Estimate what a model needs to read texts of a length.

    Args:
        shape: its sizes.
        runtime: where it runs.
        load: what is asked of it.
        length: tokens of each text.
    """
    number = NUMBER_BYTES[load.kv_dtype or runtime.cache_dtype or load.dtype]
    found: dict[Kind, float] = {}
    for layer in shape.layers:
        kept = _kept(layer, runtime, length) * (layer.keys + layer.values) * number
        kept += layer.state * NUMBER_BYTES[load.dtype] + layer.state_float32 * 4
        found[layer.kind] = found.get(layer.kind, 0) + load.batch * kept
    copied = min(_rounded(length, runtime.block), load.copied.get(runtime.name, 0))
    full = (layer for layer in shape.layers if layer.kind == "full")
    twice = sum(layer.keys + (layer.values if runtime.name == "vllm" else 0) for layer in full)
    return Need(
        runtime=runtime.name,
        length=length,
        weights=load.weights,
        cache={kind: math.ceil(size) for kind, size in found.items() if size},
        method=math.ceil(copied * twice * load.batch * number),
        prefill=math.ceil(_prefill(shape, runtime, load, length)),
    )


def longest(shape: Shape, runtime: Runtime, load: Load, memory: int) -> int:
    """Return the longest text that fits into a number of bytes; 0 where not even one token does."""
    fits, beyond = 0, _LONGEST
    while beyond - fits > 1:
        middle = (fits + beyond) // 2
        if need(shape, runtime, load, middle).total <= memory:
            fits = middle
        else:
            beyond = middle
    return fits


def cache_bytes(shape: Shape, length: int, batch: int, number: float) -> int:
    """Return what a cache of transformers holds, by the bytes of a number."""
    dtype = next(name for name, size in NUMBER_BYTES.items() if size == number)
    load = Load(batch, dtype, "", 0, {})
    return sum(need(shape, RUNTIMES["transformers"], load, length).cache.values())


def _kept(layer: Layer, runtime: Runtime, length: int) -> int:
    """Return the tokens whose keys and values a layer keeps."""
    if layer.window is not None:
        length = min(length, layer.window + runtime.beyond_window)
    return _rounded(length, runtime.block)


def _rounded(length: int, block: int) -> int:
    return -(-length // block) * block


def _prefill(shape: Shape, runtime: Runtime, load: Load, length: int) -> float:
    """Return what one layer allocates at its widest moment, and what stays until the end of the prefill."""
    size = NUMBER_BYTES[load.dtype] if NUMBER_BYTES[load.dtype] >= 2 else 2.0
    tokens = load.batch * length
    tokens = tokens if runtime.piece is None else min(tokens, max(runtime.piece, load.batch))
    hidden, queries = shape.hidden, shape.queries
    key = max((layer.keys for layer in shape.layers if layer.kind in ("full", "sliding")), default=0)
    normed = 3 * hidden + 2 * hidden * (4 / size)  # norms compute in float32
    turned = 3 * hidden + max(4 * queries, 2 * queries + 3 * key)
    forward = 4 * hidden + shape.feed_forward
    positions = 2 * shape.head_dim + 2
    widest = max(normed, turned, forward) * tokens * size
    if runtime.piece is None:
        widest = max(widest, turned * tokens * size + _scores(shape, load, length, size))
        widest += _until_the_end(shape, load, length, size)
    return widest + positions * tokens * size + load.batch * shape.vocabulary * size


def _scores(shape: Shape, load: Load, length: int, size: float) -> float:
    """Return what attention holds of each pair of tokens: scores without a fused kernel; a mask if layers slide."""
    pairs = float(load.batch * length * length)
    if shape.model_type in WITHOUT_SDPA:
        return pairs * shape.heads * 3 * size
    slides = any(layer.window is not None and layer.window < length for layer in shape.layers)
    return pairs * size if slides else 0.0


def _until_the_end(shape: Shape, load: Load, length: int, size: float) -> float:
    """Return what stays while later layers run: boolean masks, and keys of sliding layers beyond their windows."""
    total = 0.0
    for layer in shape.layers:
        if layer.window is not None and layer.window < length:
            total += load.batch * (length - layer.window + 1) * (layer.keys + layer.values) * size
    return total + (load.batch * float(length) * length if total or shape.model_type in WITHOUT_SDPA else 0.0)
