"""GALI: chunk by chunk, tokens are spread over the trained positions and logits interpolated (arXiv 2502.02659)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from .base import Baked, Grid, Method, Suggestion, Wish

if TYPE_CHECKING:
    from ropext.converter.checkpoint.facts import ModelFacts
    from ropext.converter.preset import Preset


def _bake(preset: Preset, facts: ModelFacts, inv_freq: list[float]) -> Baked:
    parameters = dict(preset.parameters)
    window, initial = parameters["local_window"], preset.initial_window
    group = math.ceil((preset.target_window - window) / (initial - window))
    note = f"{preset.target_window} tokens fit {initial} positions, at most {group} tokens to a position"
    return Baked(parameters, inv_freq, {}, (note,))


def _suggest(wish: Wish) -> Suggestion:
    window, chunk = min(128, wish.trained // 8), min(1000, wish.trained // 4)
    group = math.ceil((wish.target - window) / (wish.trained - window))
    return Suggestion(
        "gali",
        {"chunk_size": chunk, "local_window": window},
        None,
        f"{wish.target} tokens on M positions, at most {group} on one; a smaller initial_window often scores better",
        "arXiv 2502.02659: chunks of 1000 to 3000, local windows of 128 to 1024",
    )


METHOD = Method(
    about=(
        "Up to the initial window nothing changes. "
        "Beyond it, [GALI](https://arxiv.org/abs/2502.02659) spreads the tokens over positions within that "
        "window, and interpolates attention logits where a token stands between two whole positions."
    ),
    reason="Prompts up to the initial window are the base's own; a smaller initial window often scores better.",
    measured=-4.64,
    suggest=_suggest,
    bake=_bake,
    grid=Grid({"chunk_size": (1, 2, 3), "local_window": (1, 8)}, windows=(1.0, 0.5)),
)
