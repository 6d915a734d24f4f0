"""Dynamic NTK: the base up to the initial window, a theta that grows with the length beyond (arXiv 2309.00071, 3.3)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from .base import Baked, Grid, Heads, Method, Rope, Suggestion, Wish, scaling_factor, single_pair_faults

if TYPE_CHECKING:
    from ropext.converter.checkpoint.facts import ModelFacts
    from ropext.converter.errors import Fault
    from ropext.converter.preset import Preset


def _size_faults(parameters: Mapping[str, Any], heads: Heads) -> Iterator[Fault]:
    return single_pair_faults(heads, "dynamic_ntk")


def _bake(preset: Preset, facts: ModelFacts, inv_freq: list[float]) -> Baked:
    factor = scaling_factor(preset)
    note = f"the base up to {preset.initial_window} tokens; beyond, theta grows with the length (factor {factor:g})"
    return Baked({**preset.parameters, "scaling_factor": factor}, inv_freq, {}, (note,))


def _suggest(wish: Wish) -> Suggestion:
    why = "the base up to M; beyond, theta grows with the length, faster by N / M"
    source = "arXiv 2309.00071, section 3.3"
    return Suggestion("dynamic_ntk", {"scaling_factor": wish.factor}, None, why, source)


def _spell(preset: Preset, facts: ModelFacts, baked: Baked) -> Rope:
    # Stock classes take the window from which on theta grows from max_position_embeddings alone.
    scaling = {"rope_type": "dynamic", "factor": float(baked.parameters["scaling_factor"])}
    return Rope(facts.rope_theta, scaling, preset.initial_window)


METHOD = Method(
    about=(
        "Up to the initial window nothing changes. "
        "Beyond it, [dynamic NTK scaling](https://arxiv.org/abs/2309.00071) raises RoPE's base θ with the length "
        "of the text: the highest frequency stays, and the lowest falls most."
    ),
    reason="Prompts up to the trained length are the base's own; only transformers follows it at every length.",
    measured=-3.07,
    suggest=_suggest,
    bake=_bake,
    size_faults=_size_faults,
    plain_base="its theta grows with the length, and the base's frequencies do not follow from theta alone",
    spell=_spell,
    grows=True,
    grid=Grid({"scaling_factor": (1, 1.5, 2)}),
)
