"""LaMPE: the target's tokens in the space of fewer, the nearest at exact distances (arXiv 2508.02308)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from ropext.converter.errors import Fault

from .base import Baked, Grid, Method, Settings, Suggestion, Wish, parameter_fault

if TYPE_CHECKING:
    from ropext.converter.checkpoint.facts import ModelFacts
    from ropext.converter.preset import Preset

_ATTENTION = {"paper": 1.0, "program": 1.069}


def _faults(settings: Settings) -> Iterator[Fault]:
    given, initial = settings.parameters, settings.initial
    mapped, near, tail = (given.get(key, 0) for key in ("mapping_length", "local_window", "tail"))
    if tail and given.get("form") == "program":
        yield parameter_fault("tail", "has no meaning for form program; leave it out")
    if mapped and mapped <= near + tail:
        message = f"is {mapped}; it must be over local_window and tail together ({near + tail})"
        yield parameter_fault("mapping_length", message)
    if initial and mapped > initial:
        yield parameter_fault("mapping_length", f"is {mapped}; it must be at most initial_window ({initial})")


def _suggest(wish: Wish) -> Suggestion:
    mapped = max(3, wish.trained * 3 // 8)
    parameters = {"mapping_length": mapped, "local_window": wish.window(1024), "tail": min(512, wish.trained // 16)}
    why = f"{wish.target} tokens in the space of m = 3/8 M = {mapped}"
    return Suggestion(
        "lampe", parameters, None, why, "arXiv 2508.02308: m 3072 for M = 8192, s1 512 to 1024, s2 8 to 1024"
    )


def _bake(preset: Preset, facts: ModelFacts, inv_freq: list[float]) -> Baked:
    parameters: dict[str, Any] = {"tail": 0, "attention_factor": _ATTENTION[preset.parameters["form"]]}
    parameters |= {**preset.parameters, "full_length": preset.target_window}
    window, mapped = parameters["local_window"], parameters["mapping_length"]
    note = f"beyond {window} tokens, distances up to {preset.target_window} are compressed into {mapped}"
    return Baked(parameters, inv_freq, {}, (note,))


METHOD = Method(
    about=(
        "[LaMPE](https://arxiv.org/abs/2508.02308) keeps distances within the local window exact. "
        "Farther ones are compressed evenly, so that those of the target window fit into a mapping length that the "
        "model knows well."
    ),
    reason="Distances in the local window are exact and none is over the mapping length, which training knows well.",
    suggest=_suggest,
    bake=_bake,
    faults=_faults,
    grid=Grid({"mapping_length": (1, 0.75, 1.5, 2), "local_window": (1, 0.5)}),
)
