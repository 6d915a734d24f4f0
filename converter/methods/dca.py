"""DCA: positions count within chunks, and older chunks stand at one distance (arXiv 2402.17463)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from ropext.converter.errors import Fault

from .base import Baked, Grid, Method, Settings, Suggestion, Wish, nesting_faults

if TYPE_CHECKING:
    from ropext.converter.checkpoint.facts import ModelFacts
    from ropext.converter.preset import Preset

_OTHER_RUNTIMES = ("qwen2", "qwen3")
"""Families for which other runtimes have, or had, DCA in their own model classes."""


def _faults(settings: Settings) -> Iterator[Fault]:
    return nesting_faults(settings, "chunk_size")


def _suggest(wish: Wish) -> Suggestion:
    chunk, window = wish.trained * 3 // 4, wish.trained // 8
    return Suggestion(
        "dca",
        {"chunk_size": chunk, "local_window": window},
        None,
        f"chunks of 3/4 M, a local window of M/8: no distance is over {chunk}",
        "arXiv 2402.17463, its authors' program",
    )


def _runtime_keys(preset: Preset, facts: ModelFacts, baked: Baked) -> dict[str, Any]:
    """DCA as those runtimes read it; nothing for a switch that they do not have."""
    parameters = baked.parameters
    if facts.model_type not in _OTHER_RUNTIMES or {"activate_beyond", "query_scaling"} & parameters.keys():
        return {}
    if facts.layers is not None:
        return {}  # they have it in all layers or none
    settings = {
        "chunk_size": parameters["chunk_size"],
        "local_size": parameters["local_window"],
        # From here on attention is scaled; 0: never.
        "original_max_position_embeddings": preset.initial_window if parameters["temperature"] else 0,
    }
    return {"dual_chunk_attention_config": settings}


METHOD = Method(
    about=(
        "[Dual chunk attention](https://arxiv.org/abs/2402.17463) cuts the text into chunks, in which distances "
        "are exact. "
        "All older chunks lie at the same distances within the trained window, so that positions do not tell them"
        " apart."
    ),
    reason="Distances are exact over thousands of tokens; older chunks cannot be told apart.",
    measured=-4.58,
    suggest=_suggest,
    faults=_faults,
    runtime_keys=_runtime_keys,
    grid=Grid({"chunk_size": (1, 2 / 3), "local_window": (1, 0.5)}),
)
