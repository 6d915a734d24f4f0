"""A profile beyond a local window: near distances exact, far ones by a named shape."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .base import Baked, Method, Suggestion, Wish
from .profile import METHOD as PROFILE
from .profile import shaped

if TYPE_CHECKING:
    from ropext.converter.checkpoint.facts import ModelFacts
    from ropext.converter.preset import Preset


def _bake(preset: Preset, facts: ModelFacts, inv_freq: list[float]) -> Baked:
    parameters, factors = shaped(preset, facts, inv_freq)
    note = f"beyond {parameters['local_window']} tokens the slowest pair's distance is divided by {1 / factors[-1]:g}"
    return Baked({"attention_factor": 1.0, **parameters, "factors": factors}, inv_freq, {}, (note,))


def _suggest(wish: Wish) -> Suggestion:
    window = wish.window(1024)
    parameters = {"local_window": window, "shape": "uniform", "scaling_factor": wish.factor}
    why = "beyond w, the pairs that turn 32 to 1 times in M divided by growing powers of N / M, the slower by N / M"
    return Suggestion("local_profile", parameters, wish.target, why, "MrRoPE-Uni, arXiv 2601.22181, beyond a window")


METHOD = Method(
    about=(
        "Distances within the local window are exact. "
        "Beyond it, each rotary pair's distance is multiplied by the factor of a shape, such as that of [MrRoPE](https://arxiv.org/abs/2601.22181)."
    ),
    reason="Distances in the local window are exact, and every farther one is told apart.",
    suggest=_suggest,
    bake=_bake,
    faults=PROFILE.faults,
    size_faults=PROFILE.size_faults,
)
