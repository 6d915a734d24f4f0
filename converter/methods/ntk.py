"""NTK-aware scaling: RoPE's base is raised (bloc97, 2023; analysed in arXiv 2309.00071, section 3.1)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ropext.converter.checkpoint.rope import float32, plain_inv_freq

from .base import (
    Baked,
    Grid,
    Heads,
    Method,
    Rope,
    Suggestion,
    Wish,
    longrope,
    reached_length,
    scaling_factor,
    scaling_faults,
    single_pair_faults,
)

if TYPE_CHECKING:
    from ropext.converter.checkpoint.facts import ModelFacts
    from ropext.converter.errors import Fault
    from ropext.converter.preset import Preset


def frequencies(inv_freq: Sequence[float], factor: float) -> list[float]:
    """Keep the highest frequency, divide the lowest by `factor`, and the others geometrically between.

    On an unscaled base this is RoPE of `raised_theta`.

    Args:
        inv_freq: of the base, radians per token [pairs]; two or more.
        factor: s, the length that the lowest frequency is stretched to, in trained lengths.
    """
    last = len(inv_freq) - 1
    return [float32(frequency / factor ** (pair / last)) for pair, frequency in enumerate(inv_freq)]


def raised_theta(theta: float, factor: float, dim: int) -> float:
    """RoPE's base: `theta * s^(d / (d - 2))`, as a float32; d, the turned dimensions, is 4 or more."""
    return float32(theta * factor ** (dim / (dim - 2)))


def _size_faults(parameters: Mapping[str, Any], heads: Heads) -> Iterator[Fault]:
    return single_pair_faults(heads, "ntk")


def _bake(preset: Preset, facts: ModelFacts, inv_freq: list[float]) -> Baked:
    factor = scaling_factor(preset)
    parameters = {**preset.parameters, "scaling_factor": factor}
    theta = raised_theta(facts.rope_theta, factor, facts.rotary_dim)
    if facts.rope_type == "default":
        note = f"theta raised from {facts.rope_theta:g} to {theta:g}, at every length"
        return Baked(parameters, plain_inv_freq(theta, facts.rotary_dim), {}, (note,))
    note = f"frequencies divided by 1 at the highest to {factor:g} at the lowest, at every length"
    return Baked(parameters, frequencies(inv_freq, factor), {}, (note,))


def _suggest(wish: Wish) -> Suggestion:
    theta = raised_theta(wish.facts.rope_theta, wish.factor, wish.facts.rotary_dim)
    why = f"theta raised to {theta:g}: the lowest frequency is divided by N / M, the highest kept"
    return Suggestion("ntk", {"scaling_factor": wish.factor}, wish.target, why, "arXiv 2309.00071, section 3.1")


def _spell(preset: Preset, facts: ModelFacts, baked: Baked) -> Rope:
    if facts.rope_type != "default":
        return longrope(preset, facts, baked)
    theta = raised_theta(facts.rope_theta, baked.parameters["scaling_factor"], facts.rotary_dim)
    return Rope(theta, None, reached_length(preset, facts))


METHOD = Method(
    about=(
        "[NTK-aware scaling](https://arxiv.org/abs/2309.00071) raises RoPE's base θ: the highest frequency stays,"
        " the lowest is divided by the scaling factor, and the others lie between. "
        "Short prompts change too."
    ),
    reason="Any runtime reads it, as it only raises rope_theta; the last part of the target is hardly read.",
    measured=-6.52,
    suggest=_suggest,
    bake=_bake,
    faults=scaling_faults,
    size_faults=_size_faults,
    spell=_spell,
    grid=Grid({"scaling_factor": (1, 1.5, 2)}),
)
