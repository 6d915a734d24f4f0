"""How many bytes a model's weights take, by the headers of its files; the weights are never read."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ropext.converter.checkpoint.places import Place, in_folder, on_hub
from ropext.converter.checkpoint.read import INDEX, SINGLE, promised_tensors
from ropext.converter.checkpoint.tensors import loaded
from ropext.converter.errors import RopextError
from ropext.converter.files.safetensors_header import TensorType
from ropext.converter.hub import client as hub

from .estimate import NUMBER_BYTES

__all__ = ["FLOATS", "model_place", "tensors_of", "weight_bytes"]

FLOATS = {"F64": "float64", "F32": "float32", "BF16": "bfloat16", "F16": "float16"}
"""Types that a model is loaded in whatever type is asked for, as the format spells them."""

_BYTES = {"F64": 8, "I64": 8, "U64": 8, "F32": 4, "I32": 4, "U32": 4, "BF16": 2, "F16": 2, "I16": 2, "U16": 2}


def model_place(source: str) -> Place:
    """Find a model, in a folder or on the Hub; of that, nothing large is fetched.

    Args:
        source: a folder or a Hub id.

    Raises:
        UsageError: it is neither.
        RopextError: the Hub refuses or cannot be reached.
    """
    folder = Path(source).expanduser()
    if folder.is_dir() or not hub.is_hub_id(source):
        return in_folder(hub.resolve(source).folder)
    return on_hub(hub.look_up(source))


def tensors_of(place: Place, config: Mapping[str, Any]) -> dict[str, TensorType]:
    """Read the headers of a model's weights.

    Args:
        place: where the model is.
        config: its `config.json`.

    Returns:
        The type of each tensor that the model loads, by name.

    Raises:
        RopextError: there are no safetensors files, or one is cut off.
    """
    found: dict[str, TensorType] = {}
    for path in _files(place):
        found |= place.types(path)
    return {name: found[name] for name in loaded(config, found.keys())}


def _files(place: Place) -> Iterator[str]:
    if place.has(SINGLE):
        yield SINGLE
        return
    if not place.has(INDEX):
        raise RopextError(f"{place.name}: neither {SINGLE} nor {INDEX} is there, which tell the size of its weights.")
    for path in promised_tensors(place.read(INDEX), place.name):
        if not place.has(path):
            raise RopextError(f"{place.name}: {INDEX} names {path}, which is not there; download it again.")
        yield path


def weight_bytes(tensors: Mapping[str, TensorType], dtype: str | None) -> int:
    """Return what weights take once they are loaded.

    Args:
        tensors: their types.
        dtype: the number type to load them in; None: as they are stored. Integer types are those of a runtime that
            quantizes matrices and leaves embeddings and heads in 16 bits. What is stored quantized stays so.
    """
    return math.ceil(sum(_size(name, tensor, dtype) for name, tensor in tensors.items()))


def _size(name: str, tensor: TensorType, dtype: str | None) -> float:
    count = math.prod(tensor.shape)
    if dtype is None or tensor.dtype not in FLOATS:
        return float(count * _BYTES.get(tensor.dtype, 1))
    if NUMBER_BYTES[dtype] >= 2:
        return count * NUMBER_BYTES[dtype]
    matrix = len(tensor.shape) > 1 and not any(part in name for part in ("embed", "lm_head", "wte"))
    return count * (NUMBER_BYTES[dtype] if matrix else 2.0)
