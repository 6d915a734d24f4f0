"""The emitted `config.json`: the base's, the `rope_ext` block and the guards. See docs/config-block.md."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ropext.converter import __version__, mlx_code, model_code
from ropext.converter.checkpoint.description import TEXT, describe
from ropext.converter.checkpoint.facts import extended_class
from ropext.converter.checkpoint.families import FAMILIES
from ropext.converter.methods.registry import method

if TYPE_CHECKING:
    from ropext.converter.checkpoint.description import Description
    from ropext.converter.checkpoint.facts import ModelFacts
    from ropext.converter.methods.base import Baked
    from ropext.converter.preset import Preset

__all__ = [
    "FORMAT",
    "GUARD",
    "both_dtypes",
    "changes",
    "dump_json",
    "extended_config",
    "partial_keys",
    "rope_ext_block",
    "stock_keys",
    "without_window",
]

FORMAT = 2
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
    description = describe(config)
    text = config[TEXT] if description.text_place else config
    stock = stock_keys(text, description)
    changed = {
        **both_dtypes(text),
        **without_window(text, description),
        **{key: value for key, value in stock.items() if value is not None},
        **_guards(description, stock),
        "max_position_embeddings": max(facts.trained_length, preset.target_window),
    }
    kept = {key: value for key, value in text.items() if key not in stock or stock[key] is not None}
    block = rope_ext_block(config, facts, preset, baked)
    top = {
        "architectures": [extended_class(facts)],
        "auto_map": model_code.auto_map(facts.model_type),
        "model_file": mlx_code.model_file(facts.model_type, preset.method),
    }
    if description.text_place:
        return {**config, **both_dtypes(config), TEXT: {**kept, **changed}, **top, "rope_ext": block}
    return {**kept, **changed, **top, **_runtime_keys(facts, preset, baked), "rope_ext": block}


def rope_ext_block(config: Mapping[str, Any], facts: ModelFacts, preset: Preset, baked: Baked) -> dict[str, Any]:
    """Build the `rope_ext` block; see `extended_config`."""
    description = describe(config)
    stock = stock_keys(config[TEXT] if description.text_place else config, description)
    return {
        "format": FORMAT,
        "ropext_version": __version__,
        "method": preset.method,
        "preset": preset.name,
        "initial_window": preset.initial_window,
        "target_window": preset.target_window,
        "parameters": baked.parameters,
        "inv_freq": baked.inv_freq,
        "pairs": description.pairs() | {"inv_freq": list(description.inv_freq)},
        "tables": baked.tables,
        "base": {
            **stock,
            "architectures": [facts.architecture],
            "max_position_embeddings": facts.trained_length,
            **({"place": description.text_place} if description.text_place else {}),
        },
    }


def stock_keys(text: Mapping[str, Any], description: Description) -> dict[str, Any]:
    """Return the keys that the guards hide, as stock classes of transformers 4 and 5 both read them.

    Args:
        text: the configuration of the text model.
        description: of the base.

    Returns:
        Their values; None where the key is to be absent.
    """
    family, rope = FAMILIES[description.text_model_type], description.rope
    keys = {family.guard: text.get(family.guard)} if family.guard else {}
    scaling = dict(rope.scaling)
    if family.multi_axis or family.rope is not None:
        scaling["rope_theta"] = rope.theta  # transformers 5 takes this dictionary for all there is
    elif rope.kind == "default" and len(scaling) == 1:
        scaling = {}
    keys |= {"rope_theta": rope.theta, "rope_scaling": scaling or None}
    if family.partial is not None:
        keys |= partial_keys(text, description)
        if scaling or not family.partial_keys:
            scaling |= {"rope_type": rope.kind, "partial_rotary_factor": rope.partial, "rope_theta": rope.theta}
            keys["rope_scaling"] = scaling
    if family.theta_key != "rope_theta":
        keys[family.theta_key] = rope.theta
    if not family.per_type:
        return keys
    nested = text.get("rope_parameters")
    if family.per_type != "legacy":
        absent = dict.fromkeys(("rope_theta", "rope_scaling", "partial_rotary_factor"))
        return keys | absent | ({"rope_parameters": dict(nested)} if nested else {"rope_local_base_freq": None})
    local = text.get("rope_local_base_freq")
    if not nested:
        return keys | {"rope_local_base_freq": local}
    if family.theta is not None:  # Gemma: another base in layers that slide
        local = (nested.get("sliding_attention") or {}).get("rope_theta")
    return keys | {"rope_parameters": dict(nested), "rope_local_base_freq": local}


def partial_keys(text: Mapping[str, Any], description: Description) -> dict[str, Any]:
    """Return the keys outside RoPE's dictionaries that say which part of each head is turned.

    Args:
        text: the configuration of the text model.
        description: of the base.
    """
    family, part = FAMILIES[description.text_model_type], description.rope.partial
    # `rotary_dim` counts dimensions, and is left as it is written.
    return {key: text.get(key, part) for key in family.partial_keys if key != "rotary_dim"}


def _guards(description: Description, stock: Mapping[str, Any]) -> dict[str, Any]:
    """Return values on which a stock class dies with a text that says what to do."""
    rope, family = description.rope, FAMILIES[description.text_model_type]
    found: dict[str, Any] = {description.guard: GUARD} if description.guard else {}
    part = {} if family.partial is None else {"partial_rotary_factor": rope.partial}
    return found | {
        "rope_theta": rope.theta,
        "rope_scaling": {"rope_type": GUARD},
        "rope_parameters": _for_each_type({"rope_type": GUARD, "rope_theta": rope.theta, **part}, stock),
    }


def _for_each_type(guard: Mapping[str, Any], stock: Mapping[str, Any]) -> dict[str, Any]:
    """Return a guard for each layer type, where stock classes look RoPE up by that; else for all layers."""
    kinds = stock.get("rope_parameters")
    if kinds is None and "rope_local_base_freq" in stock:
        kinds = ("full_attention", "sliding_attention")
    return {kind: dict(guard) for kind in kinds} if kinds else dict(guard)


def changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> tuple[tuple[str, Any, Any], ...]:
    """List the top-level keys that differ, as (key, before, after); None where a key is absent."""
    pairs = [(key, before.get(key), after.get(key)) for key in {**before, **after}]
    return tuple((key, old, new) for key, old, new in pairs if old != new)


def dump_json(value: Mapping[str, Any]) -> bytes:
    """Write a JSON file; numbers read back as they were, bit for bit."""
    return (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode()


def both_dtypes(config: Mapping[str, Any]) -> dict[str, Any]:
    """Spell the weights' type for transformers 4 (`torch_dtype`) and 5 (`dtype`)."""
    dtype = config.get("dtype") or config.get("torch_dtype")
    return {"torch_dtype": dtype, "dtype": dtype} if dtype else {}


def without_window(text: Mapping[str, Any], description: Description) -> dict[str, Any]:
    """Return what lets the layers that the method acts on see everything, where they slide; other layers stay.

    Where no layer slides, a window that is written nevertheless goes too: transformers' caches would go by it. It stays
    in families whose layers are told apart by `layer_types` alone: their classes do not load without one.

    Args:
        text: the configuration of the text model.
        description: of the base.
    """
    everywhere = len(description.layers) == description.num_layers
    if description.window is None and not everywhere:
        return {}
    off: dict[str, Any] = {}
    family = FAMILIES[description.text_model_type]
    by_types = family.layers == "types" and family.nope != "sliding_window" and not family.window_switch
    if not by_types and (description.window is not None or text.get("sliding_window") is not None):
        off["sliding_window"] = None
    if "use_sliding_window" in text:
        off["use_sliding_window"] = False
    if isinstance(text.get("layer_types"), list):
        off["layer_types"] = [kind.replace("sliding", "full") for kind in text["layer_types"]]
    return off


def _runtime_keys(facts: ModelFacts, preset: Preset, baked: Baked) -> dict[str, Any]:
    """What other runtimes read the method from, if they have it."""
    keys = method(preset.method).runtime_keys
    return keys(preset, facts, baked) if keys else {}
