"""The emitted `config.json`: the base's, the `rope_ext` block and the guards. See docs/config-block.md."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from . import __version__, shipped
from .description import describe
from .families import family_of

if TYPE_CHECKING:
    from .baking import Baked
    from .model_facts import ModelFacts
    from .presets import Preset

__all__ = ["FORMAT", "GUARD", "changes", "dump_json", "extended_config", "sliding_window"]

FORMAT = 1
GUARD = "ropext: load this checkpoint with trust_remote_code=True"


def extended_config(config: Mapping[str, Any], facts: ModelFacts, preset: Preset, baked: Baked) -> dict[str, Any]:
    """Build the configuration of a converted checkpoint.

    Args:
        config: the base's, without private keys.
        facts: of the base.
        preset: what to convert with.
        baked: the numbers that it comes to for this base.

    Returns:
        Every key of the base, those that the method needs changed or added.
    """
    rope = describe(config).rope
    theta, scaling = rope.theta, rope.scaling if rope.kind != "default" else None
    length = max(facts.trained_length, preset.target_window)
    partial = (
        {"partial_rotary_factor": facts.partial_rotary_factor}
        if family_of(facts.model_type).partial is not None
        else {}
    )
    return {
        **config,
        **_both_dtypes(config),
        **_without_sliding_window(config),
        "architectures": [shipped.extended_class(facts.model_type, facts.architecture)],
        "auto_map": shipped.auto_map(facts.model_type),
        "hidden_act": GUARD,
        "rope_theta": theta,
        **partial,
        "rope_scaling": {"rope_type": GUARD},
        "rope_parameters": {"rope_type": GUARD, "rope_theta": theta, **partial},
        "max_position_embeddings": length,
        **_dual_chunk_attention(facts, preset, baked),
        "rope_ext": {
            "format": FORMAT,
            "ropext_version": __version__,
            "method": preset.method,
            "preset": preset.name,
            "initial_window": preset.initial_window,
            "target_window": preset.target_window,
            "parameters": baked.parameters,
            "inv_freq": baked.inv_freq,
            "tables": baked.tables,
            "base": {
                "hidden_act": config.get("hidden_act"),
                "rope_theta": theta,
                **partial,
                "rope_scaling": scaling,
                "architectures": [facts.architecture],
                "max_position_embeddings": facts.trained_length,
            },
        },
    }


def changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> tuple[tuple[str, Any, Any], ...]:
    """List the top-level keys that differ, as (key, before, after); None where a key is absent."""
    pairs = [(key, before.get(key), after.get(key)) for key in {**before, **after}]
    return tuple((key, old, new) for key, old, new in pairs if old != new)


def dump_json(value: Mapping[str, Any]) -> bytes:
    """Write a JSON file; numbers read back as they were, bit for bit."""
    return (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode()


def _both_dtypes(config: Mapping[str, Any]) -> dict[str, Any]:
    """Spell the weights' type for transformers 4 (`torch_dtype`) and 5 (`dtype`)."""
    dtype = config.get("dtype") or config.get("torch_dtype")
    return {"torch_dtype": dtype, "dtype": dtype} if dtype else {}


def sliding_window(config: Mapping[str, Any]) -> int | None:
    """Return how many tokens the base's layers see, or some of them; None where all see everything.

    Args:
        config: the base's.
    """
    window: int | None = config.get("sliding_window", _DEFAULT_WINDOWS.get(config.get("model_type", "")))
    layer_types = config.get("layer_types")
    if isinstance(layer_types, list):
        return window if "sliding_attention" in layer_types else None
    if "use_sliding_window" in config or config.get("model_type") in _OFF_BY_DEFAULT:
        return window if config.get("use_sliding_window") else None
    return window


_DEFAULT_WINDOWS = {"mistral": 4096}
"""What a family means by a configuration without `sliding_window`, where that is no window at all elsewhere."""

_OFF_BY_DEFAULT = ("qwen2", "qwen3", "qwen3_moe")
"""Families that have a window only by `use_sliding_window`."""


_DUAL_CHUNK = ("qwen2", "qwen3")
"""Families for which other runtimes have, or had, DCA in their own model classes."""


def _dual_chunk_attention(facts: ModelFacts, preset: Preset, baked: Baked) -> dict[str, Any]:
    """DCA as those runtimes read it; nothing for other methods, nor for a switch that they do not have."""
    parameters = baked.parameters
    if preset.method != "dca" or facts.model_type not in _DUAL_CHUNK or "activate_beyond" in parameters:
        return {}
    settings = {
        "chunk_size": parameters["chunk_size"],
        "local_size": parameters["local_window"],
        # From here on attention is scaled; 0: never.
        "original_max_position_embeddings": preset.initial_window if parameters["temperature"] else 0,
    }
    return {"dual_chunk_attention_config": settings}


def _without_sliding_window(config: Mapping[str, Any]) -> dict[str, Any]:
    """Let every layer see everything: a stock cache would drop keys that the method still needs."""
    off = {"sliding_window": None, "use_sliding_window": False}
    changed: dict[str, Any] = {key: value for key, value in off.items() if key in config}
    if config.get("model_type") in _DEFAULT_WINDOWS:
        changed["sliding_window"] = None
    if isinstance(config.get("layer_types"), list):
        changed["layer_types"] = ["full_attention"] * len(config["layer_types"])
    return changed
