"""Position interpolation: every frequency is divided by the same factor (arXiv 2306.15595)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ropext.converter.checkpoint.rope import float32

from .base import Baked, Grid, Method, Rope, Suggestion, Wish, longrope, reached_length, scaling_factor, scaling_faults

if TYPE_CHECKING:
    from ropext.converter.checkpoint.facts import ModelFacts
    from ropext.converter.preset import Preset


def frequencies(inv_freq: Sequence[float], factor: float) -> list[float]:
    """Divide every frequency, rounded where float32 tensors are.

    Args:
        inv_freq: of the base, radians per token [pairs].
        factor: s, by which positions shrink.
    """
    return [float32(frequency / factor) for frequency in inv_freq]


def _bake(preset: Preset, facts: ModelFacts, inv_freq: list[float]) -> Baked:
    factor = scaling_factor(preset)
    note = f"every frequency divided by {factor:g}, at every length"
    return Baked({**preset.parameters, "scaling_factor": factor}, frequencies(inv_freq, factor), {}, (note,))


def _suggest(wish: Wish) -> Suggestion:
    why = f"every frequency divided by N / M = {wish.factor:g}"
    return Suggestion("linear", {"scaling_factor": wish.factor}, wish.target, why, "arXiv 2306.15595")


def _spell(preset: Preset, facts: ModelFacts, baked: Baked) -> Rope:
    factor, length = float(baked.parameters["scaling_factor"]), reached_length(preset, facts)
    if facts.rope_type in ("linear", "proportional"):
        before = float(facts.rope_scaling.get("factor") or 1.0)
        return Rope(facts.rope_theta, {**facts.rope_scaling, "factor": before * factor}, length)
    if facts.rope_type != "default":
        return longrope(preset, facts, baked)
    return Rope(facts.rope_theta, {"rope_type": "linear", "factor": factor}, length)


METHOD = Method(
    about=(
        "[Position interpolation](https://arxiv.org/abs/2306.15595) divides every frequency by the same number, "
        "so that the longest text fills the positions of the trained window. "
        "It pushes neighbouring tokens together too, and suits models that were fine-tuned with it."
    ),
    reason="It ruins a model that was not trained on it afterwards; take it for one that was.",
    measured=-23.55,
    suggest=_suggest,
    bake=_bake,
    faults=scaling_faults,
    spell=_spell,
    grid=Grid({"scaling_factor": (1, 1.5, 2)}),
)
