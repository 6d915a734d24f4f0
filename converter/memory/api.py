"""Whether a model fits: what it needs for a length, or how long a text fits into so much memory, by runtime."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ropext.converter.checkpoint.facts import read_config
from ropext.converter.errors import RopextError, UsageError
from ropext.converter.files.safetensors_header import TensorType
from ropext.converter.methods.registry import FREQUENCY_METHODS
from ropext.converter.methods.schemas import METHODS

from .estimate import NUMBER_BYTES, RUNTIMES, Load, Need, Runtime, longest, need
from .shape import Shape, shape_of
from .weights import FLOATS, model_place, tensors_of, weight_bytes

__all__ = ["COPYING", "WINDOWED", "Fit", "Question", "bytes_of", "cache_at", "fit"]

COPYING = ("gali", "jet_long")
"""Methods that keep copies of far keys beside the cache in transformers, of one text."""

WINDOWED = ("bands", "dpe", "lampe", "local_profile", "rerope", "self_extend")
"""Those whose cache holds far keys there, beside the exact ones of the near band, of one text."""

_WINDOW = 1024
"""Tokens of a local window that is not told."""

_PLAIN = (*FREQUENCY_METHODS, "original")


@dataclass(frozen=True)
class Question:
    """What is asked.

    Attributes:
        source: a folder or a Hub id.
        length: tokens of each text; None: the longest that fits.
        memory: bytes there are; None: no matter.
        batch: texts at once.
        dtype: number type of the weights; None: as they are stored.
        kv_dtype: number type of the cache; None: what the runtime takes.
        method: of the conversion that is planned; None: what the model has, or none.
        parameters: of that method.
        runtime: this one only.
    """

    source: str
    length: int | None = None
    memory: int | None = None
    batch: int = 1
    dtype: str | None = None
    kv_dtype: str | None = None
    method: str | None = None
    parameters: Mapping[str, Any] | None = None
    runtime: str | None = None


@dataclass(frozen=True)
class Fit:
    """The answer.

    Attributes:
        question: what was asked.
        method: the method that was counted with.
        dtype: the number type that the model computes in.
        shape: the sizes of the model.
        needs: one for each runtime.
        longest: the longest text that fits, by runtime; empty where no memory was given.
        notes: what the reader should know.
    """

    question: Question
    method: str
    dtype: str
    shape: Shape
    needs: tuple[Need, ...]
    longest: Mapping[str, int]
    notes: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        asked = self.question
        return {
            "source": asked.source,
            "model_type": self.shape.model_type,
            "method": self.method,
            "batch": asked.batch,
            "dtype": self.dtype,
            "kv_dtype": asked.kv_dtype,
            "memory": asked.memory,
            "layers": dict(Counter(layer.kind for layer in self.shape.layers)),
            "runtimes": [
                {
                    **each.to_json(),
                    "longest": self.longest.get(each.runtime),
                    "fits": None if asked.memory is None else each.length > 0 and each.total <= asked.memory,
                }
                for each in self.needs
            ],
            "notes": list(self.notes),
        }


def fit(question: Question) -> Fit:
    """Say what a model needs. Of it, `config.json` and the headers of its weights are read.

    Args:
        question: the model, and a length or a memory.

    Raises:
        UsageError: neither a length nor a memory is given.
        RopextError: the model cannot be found, or its family is not known.
    """
    if question.length is None and question.memory is None:
        raise UsageError("give a length (--length 128k) or a memory (--memory 24GB)")
    place = model_place(question.source)
    config, _ = read_config(place.folder)
    tensors = tensors_of(place, config)
    method, parameters = _method(question, config)
    shape = shape_of(config, windows=method in _PLAIN)
    dtype = _computed_in(question.dtype, shape, tensors)
    load = Load(
        batch=question.batch,
        dtype=dtype,
        kv_dtype=question.kv_dtype or "",
        weights=weight_bytes(tensors, question.dtype),
        copied=_copied_of(question, method, parameters),
    )
    runtimes = [RUNTIMES[question.runtime]] if question.runtime else list(_able(method))
    found = {each.name: longest(shape, each, load, question.memory) for each in runtimes} if question.memory else {}
    lengths = {each.name: question.length or found[each.name] for each in runtimes}
    needs = [need(shape, each, load, lengths[each.name]) for each in runtimes]
    return Fit(question, method, dtype, shape, tuple(needs), found, tuple(_notes(shape, question, tensors)))


def cache_at(config: Mapping[str, Any], length: int) -> int:
    """Return the bytes of a base's cache for one text, in transformers and in 16 bits.

    Args:
        config: its `config.json`.
        length: tokens of the text.
    """
    load = Load(1, "bfloat16", "", 0, {})
    return sum(need(shape_of(config), RUNTIMES["transformers"], load, length).cache.values())


def bytes_of(text: str) -> int:
    """Read a size: `24GB` (thousands) or `24GiB` (powers of 1024).

    Raises:
        UsageError: it is none.
    """
    match = re.fullmatch(r"([0-9]{1,9}(?:\.[0-9]{1,9})?)\s*([kKmMgGtT])(i?)[bB]?", text.strip())
    if not match or not float(match[1]):
        raise UsageError(f"{text!r} is no size of a memory; write it as 24GB or 24GiB")
    return int(float(match[1]) * (1024 if match[3] else 1000) ** (" kmgt".index(match[2].lower())))


def _method(question: Question, config: Mapping[str, Any]) -> tuple[str, Mapping[str, Any]]:
    """Return the method to count with: the one that is planned, or the model's own."""
    if "rope_ext" not in config:
        return question.method or "original", question.parameters or {}
    block = config["rope_ext"]
    method = block.get("method") if isinstance(block, Mapping) else None
    if not isinstance(method, str) or method not in METHODS:
        raise RopextError(f"{question.source}: config.json: rope_ext: not as ropext writes it.")
    if question.method:
        raise UsageError(f"{question.source}: is converted already; --method and --preset are for bases")
    return method, block.get("parameters") or {}


def _able(method: str) -> Iterator[Runtime]:
    """Yield the runtimes on which a method can run at all."""
    for runtime in RUNTIMES.values():
        if runtime.name != "llama.cpp" or method in _PLAIN:
            yield runtime


def _copied_of(question: Question, method: str, parameters: Mapping[str, Any]) -> dict[str, float]:
    """Return what `_copied` does, of parameters that somebody else may have written.

    Raises:
        RopextError: they are not as ropext writes them.
    """
    try:
        return _copied(method, parameters, question.batch)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        where = "config.json: rope_ext: parameters"
        raise RopextError(f"{question.source}: {where}: not as ropext writes them ({error!r}).") from None


def _copied(method: str, parameters: Mapping[str, Any], batch: int) -> dict[str, float]:
    """Return how many tokens' keys a method keeps twice, by runtime; transformers has room for those of one text."""
    if method in _PLAIN:
        return {}
    copied = 0.0
    if method in COPYING or parameters.get("top_k") or parameters.get("length_step"):
        copied = math.inf
    elif method in WINDOWED:
        regions = parameters.get("regions", [{"from": parameters.get("local_window", 0)}])
        copied = regions[0]["from"]
    return {"vllm": _exact_tokens(method, parameters), "transformers": copied if batch == 1 else 0}


def _exact_tokens(method: str, parameters: Mapping[str, Any]) -> int:
    """Return how many of the last tokens the vLLM plugin keeps once more: a window, and a piece of the prompt."""
    if method in ("string", "dca"):  # no key stands at two places
        return 0
    every = (parameters, *(change["parameters"] for change in parameters.get("by_layer", ())))
    first = [region["from"] for each in every for region in each.get("regions", ())[:1]]
    windows = [each[name] for each in every for name in ("local_window", "activate_beyond") if name in each]
    return max((*first, *windows), default=_WINDOW) + RUNTIMES["vllm"].beyond_window


def _computed_in(dtype: str | None, shape: Shape, tensors: Mapping[str, TensorType]) -> str:
    """Return the number type of hidden states: what is asked for, what the configuration says, or what is stored."""
    stored = Counter(FLOATS[each.dtype] for each in tensors.values() if each.dtype in FLOATS)
    for name in (dtype, shape.dtype, *(name for name, _ in stored.most_common(1))):
        if name in NUMBER_BYTES and NUMBER_BYTES[name] >= 2:
            return name
    return "bfloat16"


def _notes(shape: Shape, question: Question, tensors: Mapping[str, TensorType]) -> Iterator[str]:
    kinds = Counter(layer.kind for layer in shape.layers)
    if question.runtime in (None, "transformers"):
        if kinds["latent"]:
            yield "latent attention: transformers before 5 expands latents to whole keys and values in the cache"
        if kinds["sliding"]:
            yield "sliding layers: transformers masks them by a matrix of length times length, on top of the cache"
        if kinds["recurrent"]:
            yield "recurrent layers: what they compute while a text is read is not counted"
    if any(tensor.dtype not in FLOATS for tensor in tensors.values()) and question.dtype:
        yield "weights that are stored quantized are counted as they are"
