"""Frequency methods without a choice to make: each is a formula for the angle per token of every pair.

Sources: linear, position interpolation, arXiv 2306.15595; NTK-aware scaling, as published by its author
(bloc97, 2023) and analysed in arXiv 2309.00071, section 3.1; YaRN, arXiv 2309.00071, section 3.4.
Rounded where float32 tensors are, so that a model's numbers are those that transformers computes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from ropext.converter.checkpoint.rope import float32

__all__ = ["FREQUENCY_METHODS", "linear", "ntk", "ntk_theta", "yarn", "yarn_attention_factor"]

FREQUENCY_METHODS = ("dprope", "dynamic_ntk", "linear", "ntk", "yarn")
"""The methods that change inverse frequencies and nothing else: what stock configuration keys can say."""


def linear(inv_freq: Sequence[float], factor: float) -> list[float]:
    """Divide every frequency.

    Args:
        inv_freq: of the base, radians per token [pairs].
        factor: s, by which positions shrink.
    """
    return [float32(frequency / factor) for frequency in inv_freq]


def ntk(inv_freq: Sequence[float], factor: float) -> list[float]:
    """Keep the highest frequency, divide the lowest by `factor`, and the others geometrically between.

    On an unscaled base this is RoPE of `ntk_theta`.

    Args:
        inv_freq: of the base, radians per token [pairs]; two or more.
        factor: s, the length that the lowest frequency is stretched to, in trained lengths.
    """
    last = len(inv_freq) - 1
    return [float32(frequency / factor ** (pair / last)) for pair, frequency in enumerate(inv_freq)]


def ntk_theta(theta: float, factor: float, dim: int) -> float:
    """RoPE's base under NTK-aware scaling: `theta * s^(d / (d - 2))`, as a float32; d is 4 or more."""
    return float32(theta * factor ** (dim / (dim - 2)))


def yarn(
    theta: float,
    dim: int,
    window: int,
    factor: float,
    *,
    beta_fast: float = 32.0,
    beta_slow: float = 1.0,
    truncate: bool = True,
) -> list[float]:
    """Keep the pairs that turn often in the trained window, divide those that hardly do, mix between.

    Args:
        theta: RoPE's base.
        dim: dimensions of a head that RoPE turns.
        window: trained length, tokens.
        factor: s, what slow pairs are divided by.
        beta_fast: turns in the window from which on a pair is kept.
        beta_slow: turns in the window below which a pair is divided by `factor`.
        truncate: widen the mixed range to whole pairs.

    Returns:
        dim/2 numbers in radians per token, highest frequency first, each exact in float32.
    """
    low, high = (dim * math.log(window / (n * 2 * math.pi)) / (2 * math.log(theta)) for n in (beta_fast, beta_slow))
    if truncate:
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, dim - 1)
    width = float32(high - low if high != low else 0.001)
    mixed = []
    for pair in range(dim // 2):
        turned = float32(float32(theta) ** float32(2 * pair / dim))
        kept, divided = float32(1 / turned), float32(1 / float32(factor * turned))
        share = 1 - min(max(float32(float32(pair - low) / width), 0.0), 1.0)
        mixed.append(float32(float32(divided * float32(1 - share)) + float32(kept * share)))
    return mixed


def yarn_attention_factor(factor: float) -> float:
    """YaRN's factor on queries and keys alike: 0.1 ln(s) + 1 (equation 22 is its square on the logits)."""
    return 0.1 * math.log(factor) + 1.0
