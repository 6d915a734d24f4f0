"""DPRoPE: each pair is divided or kept, whichever spreads its angles most as in training (arXiv 2410.01490)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from .base import (
    Baked,
    Heads,
    Method,
    Settings,
    Suggestion,
    Wish,
    longrope,
    parameter_fault,
    scaling_factor,
    scaling_faults,
)

if TYPE_CHECKING:
    from ropext.converter.checkpoint.facts import ModelFacts
    from ropext.converter.errors import Fault
    from ropext.converter.preset import Preset


def _faults(settings: Settings) -> Iterator[Fault]:
    if "scaling_factors" not in settings.parameters:
        yield from scaling_faults(settings)


def _size_faults(parameters: Mapping[str, Any], heads: Heads) -> Iterator[Fault]:
    factors = parameters.get("scaling_factors")
    if factors and len(factors) != heads.pairs:
        message = f"has {len(factors)} factors; give one for each of {heads.pairs} pairs"
        yield parameter_fault("scaling_factors", message)


def _bake(preset: Preset, facts: ModelFacts, inv_freq: list[float]) -> Baked:
    factor = scaling_factor(preset)
    finished: Sequence[float] | None = preset.parameters.get("scaling_factors")
    factors = _solve(preset, inv_freq, factor) if finished is None else list(finished)
    parameters = {**preset.parameters, "scaling_factor": factor, "scaling_factors": factors}
    changed = sum(not math.isclose(each, 1.0) for each in factors)
    note = f"{changed} of {len(factors)} frequency pairs changed, the largest divided by {max(factors):g}"
    return Baked(parameters, [w / s for w, s in zip(inv_freq, factors, strict=True)], {}, (note,))


def _solve(preset: Preset, inv_freq: list[float], factor: float) -> list[float]:
    from .dprope_solver import solve

    solution = solve(
        inv_freq,
        preset.initial_window,
        preset.target_window,
        scaling_factor=factor,
        intervals=preset.parameters["intervals"],
        candidates=preset.parameters["candidates"],
        threshold=preset.parameters["threshold"],
    )
    return [float(each) for each in solution.factors]


def _suggest(wish: Wish) -> Suggestion:
    from .dprope_solver import solve

    solved = solve(wish.inv_freq, wish.trained, wish.target)
    kept, all_divided = (1000 * float(row.mean()) * 360 for row in solved.divergences)
    chosen = 1000 * float(solved.divergences.min(axis=0).mean()) * 360
    divided = int((solved.choice == 1).sum())
    why = (
        f"{divided} of {len(solved.factors)} frequency pairs are divided by {wish.factor:g}; distance from the trained "
        f"angles (x 1000, lower is better): {chosen:.2f}, {kept:.2f} unchanged, {all_divided:.2f} if all are divided"
    )
    return Suggestion("dprope", {}, wish.target, why, "arXiv 2410.01490, by its authors' program")


METHOD = Method(
    about=(
        "For each rotary pair [DPRoPE](https://arxiv.org/abs/2410.01490) keeps the trained frequency or takes a "
        "lower one, whichever leaves the pair's angles distributed most as in training. "
        "The choice is made once, at conversion, and applies to short prompts too."
    ),
    reason="It needs no number but the two lengths, for factors of 2 to 4; it changes short prompts too.",
    measured=-5.27,
    suggest=_suggest,
    bake=_bake,
    faults=_faults,
    size_faults=_size_faults,
    spell=longrope,
)
