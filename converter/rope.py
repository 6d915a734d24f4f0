"""The base model's inverse frequencies, computed without torch.

Only schemes that fix one frequency per pair whatever the length can be baked in; the others are refused.
Sources: RoPE, arXiv 2104.09864; position interpolation, arXiv 2306.15595; `llama3`, the Llama 3.1 release.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Mapping
from typing import Any

from .errors import RopextError

__all__ = [
    "ROTARY_FACTORS",
    "base_inv_freq",
    "float32",
    "head_dim_of",
    "plain_inv_freq",
    "plain_periods",
    "rope_of",
    "rotary_dim",
    "rotary_factor_of",
]

DEFAULT_THETA = 10000.0
"""What Llama and its descendants mean by a configuration without `rope_theta`."""

_DEFAULT_THETAS = {"mixtral": 1e6}
"""What a family means by it instead."""

ROTARY_FACTORS = {"glm4_moe": 0.5, "phi": 0.5, "phi3": 1.0}
"""Families whose RoPE can turn a part of each head, and which part they mean without `partial_rotary_factor`."""

_DEFAULT_HEAD_DIMS = {"gemma": 256, "qwen3": 128}
"""What a family means by a configuration without `head_dim`, where that is not the hidden size over the heads."""

FLOAT32_MAX = 2.0**127

MAX_HEAD_DIM = 65_536


def base_inv_freq(config: Mapping[str, Any]) -> list[float]:
    """Compute the angle per token of every frequency pair, as the base model has it.

    Args:
        config: a `config.json`, in either spelling (`rope_theta` and `rope_scaling`, or `rope_parameters`).

    Returns:
        One number for each pair that is turned, in radians per token, highest frequency first, each exact in float32.

    Raises:
        RopextError: the base's scheme depends on the length, is unknown or lacks a number.
    """
    theta, scaling = rope_of(config)
    dim = rotary_dim(head_dim_of(config), rotary_factor_of(config))
    plain = plain_inv_freq(theta, dim)
    kind = scaling["rope_type"] if scaling else "default"
    if kind not in _SCHEMES:
        raise RopextError(_refusal(kind))
    return _SCHEMES[kind](plain, scaling or {})


def plain_inv_freq(theta: float, dim: int) -> list[float]:
    """Compute RoPE's own frequencies, rounded where float32 tensors are.

    Args:
        theta: its base.
        dim: dimensions of a head that are turned.

    Returns:
        dim/2 numbers in radians per token, highest frequency first, each exact in float32.
    """
    return [float32(1.0 / period) for period in plain_periods(theta, dim)]


def plain_periods(theta: float, dim: int) -> list[float]:
    """Compute what RoPE's own frequencies are the reciprocals of, in tokens per radian, each exact in float32."""
    base = float32(theta)
    return [float32(base ** float32(i / dim)) for i in range(0, dim, 2)]


def rope_of(config: Mapping[str, Any]) -> tuple[float, dict[str, Any] | None]:
    """Read θ and the scaling from either spelling.

    Args:
        config: a `config.json`.

    Returns:
        `rope_theta`, and the scaling with its `rope_type` as stock configurations spell it;
        None where RoPE is unscaled.

    Raises:
        RopextError: the two spellings contradict each other, or are none that a model with one RoPE has.
    """
    old = _scaling(config.get("rope_scaling"), "rope_scaling")
    new = _scaling(config.get("rope_parameters"), "rope_parameters")
    for scaling in (old, new):
        scaling.pop("partial_rotary_factor", None)
    thetas = {
        _theta(found)
        for found in (config.get("rope_theta"), old.pop("rope_theta", None), new.pop("rope_theta", None))
        if found is not None
    }
    scalings = [scaling for scaling in (old, new) if scaling.get("rope_type", "default") != "default"]
    if len(thetas) > 1 or (len(scalings) == 2 and old != new):
        raise RopextError(
            "config.json: rope_theta, rope_scaling and rope_parameters contradict each other; "
            "transformers 4 and 5 would load two different models. Keep the right one and remove the other."
        )
    theta = thetas.pop() if thetas else _DEFAULT_THETAS.get(config.get("model_type", ""), DEFAULT_THETA)
    return theta, (scalings[0] if scalings else None)


def rotary_factor_of(config: Mapping[str, Any]) -> float:
    """Read from either spelling which part of each head RoPE turns: its first dimensions, 1.0 for all of them.

    Args:
        config: a `config.json`.

    Raises:
        RopextError: the spellings contradict each other, or the family's code turns whole heads whatever they say.
    """
    dictionaries = (config.get("rope_scaling"), config.get("rope_parameters"))
    places = [config, *(entry for entry in dictionaries if isinstance(entry, Mapping))]
    written = [place["partial_rotary_factor"] for place in places if place.get("partial_rotary_factor") is not None]
    factors = {_positive(factor, "partial_rotary_factor") for factor in written}
    if len(factors) > 1:
        raise RopextError(
            "config.json: partial_rotary_factor contradicts the one in rope_parameters; transformers 4 and 5 would "
            "load two different models. Keep the right one and remove the other."
        )
    family = config.get("model_type", "")
    factor = factors.pop() if factors else ROTARY_FACTORS.get(family, 1.0)
    if factor > 1 or (factor < 1 and family not in ROTARY_FACTORS):
        raise RopextError(
            f"config.json: partial_rotary_factor: is {factor:g}, but ropext's code for {family or 'this family'} turns "
            f"whole heads; it turns a part of each head for {', '.join(ROTARY_FACTORS)}."
        )
    return factor


def rotary_dim(head_dim: int, factor: float) -> int:
    """Return how many dimensions of a head RoPE turns, as transformers counts them.

    Raises:
        RopextError: they are no pairs.
    """
    dim = int(head_dim * factor)
    if dim < 2 or dim % 2:
        raise RopextError(
            f"config.json: partial_rotary_factor: {factor:g} of {head_dim} dimensions: {dim} is not positive and even."
        )
    return dim


def head_dim_of(config: Mapping[str, Any]) -> int:
    """Return the width of one attention head, in dimensions; RoPE turns them in pairs.

    Args:
        config: a `config.json`.

    Raises:
        RopextError: the configuration does not say it, or it is odd.
    """
    head_dim = config.get("head_dim") or _DEFAULT_HEAD_DIMS.get(config.get("model_type", ""))
    if head_dim is None:
        hidden, heads = config.get("hidden_size"), config.get("num_attention_heads")
        if not (isinstance(hidden, int) and isinstance(heads, int) and heads > 0):
            raise RopextError("config.json: no head_dim, nor hidden_size and num_attention_heads to derive it from.")
        head_dim = hidden // heads
    if not isinstance(head_dim, int) or isinstance(head_dim, bool) or not 2 <= head_dim <= MAX_HEAD_DIM or head_dim % 2:
        raise RopextError(f"config.json: head_dim: {head_dim!r} is not a positive even number up to {MAX_HEAD_DIM}.")
    return head_dim


def _scaling(value: Any, key: str) -> dict[str, Any]:
    """Return a copy of a rope dictionary with `rope_type` in place of the older `type`."""
    if value is None:
        return {}
    if not isinstance(value, Mapping) or any(isinstance(entry, Mapping) for entry in value.values()):
        raise RopextError(f"config.json: {key}: expected one dictionary; one per layer type is not supported.")
    scaling = dict(value)
    legacy = scaling.pop("type", None)
    if legacy is not None:
        scaling.setdefault("rope_type", legacy)
    if scaling and not isinstance(scaling.setdefault("rope_type", "default"), str):
        raise RopextError(f"config.json: {key}.rope_type: {scaling['rope_type']!r} is not a name.")
    return scaling


def _linear(inv_freq: list[float], scaling: Mapping[str, Any]) -> list[float]:
    factor = _number(scaling, "factor")
    return [float32(frequency / factor) for frequency in inv_freq]


def _llama3(inv_freq: list[float], scaling: Mapping[str, Any]) -> list[float]:
    """Slow the low frequencies by `factor`, keep the high ones and blend between them.

    Rounded where float32 tensors are, so that the result is transformers' own, bit for bit.
    """
    factor = _number(scaling, "factor")
    low, high = _number(scaling, "low_freq_factor"), _number(scaling, "high_freq_factor")
    trained = _number(scaling, "original_max_position_embeddings")
    if high <= low:
        raise RopextError("config.json: rope_scaling: high_freq_factor has to exceed low_freq_factor.")

    def scaled(frequency: float) -> float:
        # torch divides a number by a tensor as the tensor's reciprocal, rounded, times the number.
        wavelength = float32(float32(1 / frequency) * float32(2 * math.pi))
        if wavelength > trained / low:
            return float32(frequency / factor)
        if wavelength < trained / high:
            return frequency
        smooth = float32(float32(float32(float32(1 / wavelength) * trained) - low) / (high - low))
        slowed = float32(float32(float32(1 - smooth) * frequency) / factor)
        return float32(slowed + float32(smooth * frequency))

    return [scaled(frequency) for frequency in inv_freq]


_SCHEMES: dict[str, Callable[[list[float], Mapping[str, Any]], list[float]]] = {
    "default": lambda inv_freq, scaling: inv_freq,
    "linear": _linear,
    "llama3": _llama3,
}

_WHY_NOT = {
    "dynamic": "its frequencies change with the length of each prompt",
    "longrope": "it has two sets of frequencies and picks one by the length of each prompt",
    "yarn": "the model has been extended already, and scales its attention with it",
}


def _refusal(kind: str) -> str:
    why = _WHY_NOT.get(kind, "ropext does not know it")
    return (
        f"config.json: rope_type {kind!r} cannot be composed with another method: {why}. "
        f"Start from the checkpoint before that extension, or from one of rope_type {', '.join(_SCHEMES)}."
    )


def _number(scaling: Mapping[str, Any], key: str) -> float:
    return _positive(scaling.get(key), f"rope_scaling.{key}")


def _theta(value: Any) -> float:
    theta = _positive(value, "rope_theta")
    if theta <= 1:
        raise RopextError(f"config.json: rope_theta: {value!r} is not above 1: no pair would turn slower.")
    return theta


def _positive(value: Any, key: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < FLOAT32_MAX:
        raise RopextError(f"config.json: {key}: {value!r} is not a positive number.")
    return float(value)


def float32(value: float) -> float:
    """Round to the nearest float32: the width in which transformers computes frequencies."""
    return float(struct.unpack("<f", struct.pack("<f", value))[0])
