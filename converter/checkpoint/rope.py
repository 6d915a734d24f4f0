"""A base model's inverse frequencies, computed without torch.

Only schemes that fix one frequency for each pair, whatever the length, can be baked in; the others are refused.
Numbers are rounded to float32 where transformers does, so that the result is its own up to the last bit of a power.

Sources: RoPE, arXiv 2104.09864; position interpolation, arXiv 2306.15595; YaRN, arXiv 2309.00071; LongRoPE, arXiv
2402.13753; `llama3`, the Llama 3.1 release; `proportional`, the Gemma 4 release.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Mapping
from typing import Any

from ropext.converter.errors import RopextError

from .config_values import positive, refuse

__all__ = [
    "MAX_HEAD_DIM",
    "SCHEMES",
    "attention_factor",
    "float32",
    "plain_inv_freq",
    "plain_periods",
    "rotary_dim",
    "scaled_inv_freq",
]

MAX_HEAD_DIM = 65_536


FASTEST = 1000.0
"""Radians per token. The angles of a pair that turns faster are rounded away within a few thousand tokens."""


def float32(value: float) -> float:
    """Round to the nearest float32: the width in which transformers computes frequencies."""
    return float(struct.unpack("<f", struct.pack("<f", value))[0])


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


def scaled_inv_freq(theta: float, dim: int, scaling: Mapping[str, Any], place: str = "rope_scaling") -> list[float]:
    """Compute a base's frequencies by its scaling.

    Args:
        theta: RoPE's base.
        dim: dimensions of a head that are turned; for `proportional` all that form pairs, turned or not.
        scaling: its `rope_type` and numbers.
        place: where the configuration has them, for messages.

    Returns:
        dim/2 numbers in radians per token, each exact in float32; 0 for pairs that never turn.

    Raises:
        RopextError: the scheme depends on the length, is unknown or lacks a number.
    """
    kind = scaling.get("rope_type", "default")
    if kind not in SCHEMES:
        raise refuse(
            place, "rope_type", f"{kind!r} cannot be composed with another method: {_why_not(scaling, theta, dim)}"
        )
    try:
        frequencies = SCHEMES[kind](theta, dim, scaling, place)
    except (OverflowError, ZeroDivisionError, ValueError):
        frequencies = []
    if not frequencies or min(frequencies) < 0 or (min(frequencies) == 0 and kind != "proportional"):
        raise refuse(place, "rope_type", f"the numbers of {kind!r} are out of the range of float32")
    if max(frequencies) > FASTEST:
        why = f"by the numbers of {kind!r} a pair turns {max(frequencies):.3g} radians from token to token"
        raise refuse(place, "rope_type", f"{why}, which float32 cannot hold; correct them")
    return frequencies


def attention_factor(scaling: Mapping[str, Any], place: str = "rope_scaling") -> float:
    """Compute what stock code multiplies turned queries and keys by, each.

    Args:
        scaling: its `rope_type` and numbers.
        place: where the configuration has them, for messages.

    Raises:
        RopextError: a number is missing or out of range.
    """
    kind, written = scaling.get("rope_type"), _optional(scaling, place, "attention_factor")
    if kind not in ("yarn", "longrope"):
        return 1.0
    if written is not None:
        return written
    factor = _number(scaling, place, "factor")
    if kind == "longrope":
        original = _number(scaling, place, "original_max_position_embeddings")
        return math.sqrt(1 + math.log(factor) / math.log(original)) if factor > 1 < original else 1.0
    mscale, all_dim = scaling.get("mscale"), scaling.get("mscale_all_dim")
    if not (mscale and all_dim):
        return _mscale(factor, 1.0)
    return _mscale(factor, positive(mscale, place, "mscale")) / _mscale(
        factor, positive(all_dim, place, "mscale_all_dim")
    )


def _mscale(factor: float, weight: float) -> float:
    return 0.1 * weight * math.log(factor) + 1.0 if factor > 1 else 1.0


# Schemes


def _default(theta: float, dim: int, scaling: Mapping[str, Any], place: str) -> list[float]:
    return plain_inv_freq(theta, dim)


def _linear(theta: float, dim: int, scaling: Mapping[str, Any], place: str) -> list[float]:
    factor = _number(scaling, place, "factor")
    return [float32(frequency / float32(factor)) for frequency in plain_inv_freq(theta, dim)]


def _llama3(theta: float, dim: int, scaling: Mapping[str, Any], place: str) -> list[float]:
    """Slow the low frequencies by `factor`, keep the high ones and blend between them."""
    factor = _number(scaling, place, "factor")
    low, high = (_number(scaling, place, key) for key in ("low_freq_factor", "high_freq_factor"))
    trained = _number(scaling, place, "original_max_position_embeddings")
    if high <= low:
        raise refuse(place, "high_freq_factor", "has to exceed low_freq_factor")

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

    return [scaled(frequency) for frequency in plain_inv_freq(theta, dim)]


def _yarn(theta: float, dim: int, scaling: Mapping[str, Any], place: str) -> list[float]:
    """Keep pairs that turn often within the original length, slow by `factor` those that hardly turn, and blend.

    The factor on attention is no part of it: stock code has it in the queries and keys already.
    """
    factor = float32(_number(scaling, place, "factor"))
    original = _number(scaling, place, "original_max_position_embeddings")
    if theta <= 1:
        raise refuse(place, "rope_theta", f"{theta:g} is not above 1")
    first, last = (_pair_of(_optional(scaling, place, key) or value, theta, dim, original) for key, value in _BETAS)
    if scaling.get("truncate", True):
        first, last = float(math.floor(first)), float(math.ceil(last))
    first, last = max(first, 0), min(last, dim - 1)
    width = float32((last if last != first else last + 0.001) - first)
    frequencies = []
    for pair, period in enumerate(plain_periods(theta, dim)):
        kept = float32(1 - min(max(float32(float32(pair - float32(first)) / width), 0.0), 1.0))
        slow, fast = float32(1 / float32(factor * period)), float32(1 / period)
        frequencies.append(float32(float32(slow * float32(1 - kept)) + float32(fast * kept)))
    return frequencies


_BETAS = (("beta_fast", 32.0), ("beta_slow", 1.0))


def _pair_of(turns: float, theta: float, dim: int, length: float) -> float:
    """Return the pair, as a real number, that turns a number of times within a length."""
    return dim * math.log(length / (turns * 2 * math.pi)) / (2 * math.log(theta))


def _longrope(theta: float, dim: int, scaling: Mapping[str, Any], place: str) -> list[float]:
    """Divide each frequency by a number of its own, if prompts of every length have the same ones."""
    short, long = (_factors(scaling, place, key, dim // 2) for key in ("short_factor", "long_factor"))
    if short != long:
        raise refuse(place, "rope_type", f"'longrope' cannot be composed with another method: {_LONGROPE}")
    periods = plain_periods(theta, dim)
    return [float32(1 / float32(float32(factor) * period)) for factor, period in zip(short, periods, strict=True)]


def _factors(scaling: Mapping[str, Any], place: str, key: str, pairs: int) -> list[float]:
    values = scaling.get(key)
    if not isinstance(values, list) or len(values) != pairs:
        raise refuse(place, key, f"expected a list of {pairs} numbers, one for each pair of dimensions")
    return [positive(value, place, f"{key}[{index}]") for index, value in enumerate(values)]


def _proportional(theta: float, dim: int, scaling: Mapping[str, Any], place: str) -> list[float]:
    """Turn the first pairs of a head as if it were turned whole, and the others not at all."""
    factor = _optional(scaling, place, "factor") or 1.0
    part = _optional(scaling, place, "partial_rotary_factor") or 1.0
    turned = int(part * dim // 2)
    if not 1 <= turned <= dim // 2:
        raise refuse(place, "partial_rotary_factor", f"{part:g} of {dim} dimensions leaves no pair, or too many")
    frequencies = plain_inv_freq(theta, dim)[:turned]
    return [float32(frequency / float32(factor)) for frequency in frequencies] + [0.0] * (dim // 2 - turned)


_Scheme = Callable[[float, int, Mapping[str, Any], str], list[float]]
SCHEMES: Mapping[str, _Scheme] = {
    "default": _default,
    "linear": _linear,
    "llama3": _llama3,
    "longrope": _longrope,
    "proportional": _proportional,
    "yarn": _yarn,
}
"""Each `rope_type` that fixes one frequency for each pair, whatever the length."""


# What depends on the length


_LONGROPE = (
    "it has two sets of frequencies and picks one by the length of each prompt. Nearest: with long_factor in "
    "short_factor's place as well, the model has its long frequencies at every length"
)


def _why_not(scaling: Mapping[str, Any], theta: float, dim: int) -> str:
    kind, alpha = scaling["rope_type"], scaling.get("alpha")
    if kind == "dynamic" and isinstance(alpha, int | float) and alpha > 0 and dim > 2:
        raised = theta * alpha ** (dim / (dim - 2))
        return (
            "versions of transformers differ in whether it changes with the length of each prompt. Nearest: up to "
            f"the trained length, alpha {alpha:g} is rope_theta {raised!r} with rope_type 'default'"
        )
    if kind == "dynamic":
        return (
            "its frequencies change with the length of each prompt. Nearest: up to max_position_embeddings tokens it "
            "is the model with rope_type 'default', which can be converted"
        )
    return f"ropext does not know it; it knows {', '.join(SCHEMES)}"


def _number(scaling: Mapping[str, Any], place: str, key: str) -> float:
    return positive(scaling.get(key), place, key)


def _optional(scaling: Mapping[str, Any], place: str, key: str) -> float | None:
    return None if scaling.get(key) is None else positive(scaling[key], place, key)
