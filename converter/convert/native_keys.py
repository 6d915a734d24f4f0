"""Where a configuration has the keys of RoPE, for every stock class that reads one, old or new.

Transformers 4 reads `rope_scaling` and `rope_theta`, transformers 5 `rope_parameters`, and where both are there the
first takes the second's place as a whole. So each dictionary that is written is complete in itself; docs/native.md has
what versions ignore in silence otherwise.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ropext.converter.checkpoint.families import FAMILIES

from .config import partial_keys

if TYPE_CHECKING:
    from ropext.converter.checkpoint.description import Description
    from ropext.converter.checkpoint.family import Family
    from ropext.converter.methods.base import Rope

__all__ = ["SCALING_KEYS", "beside_frequencies", "rope_keys"]

SCALING_KEYS = {
    *("rope_type", "factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings", "truncate"),
    *("beta_fast", "beta_slow", "attention_factor", "attn_factor", "mscale", "mscale_all_dim"),
    *("short_factor", "long_factor", "short_mscale", "long_mscale", "partial_rotary_factor"),
    "max_position_embeddings",  # within the dictionary: Ministral 3's class writes it, and nobody reads it
}
"""Keys of a base's scaling that are replaced as a whole."""

_AXES = {"mrope_section", "mrope_interleaved"}
_SHORT = {"olmo": ("factor",), "olmo2": ("factor",), "phi3": ("short_factor", "long_factor")}
"""Families whose class, on transformers 4, takes a scaling of exactly this many keys beside its `type`."""


def beside_frequencies(description: Description) -> list[str]:
    """List the keys of a base's scaling that are neither frequencies nor axes."""
    return sorted(set(description.rope.scaling) - SCALING_KEYS - _AXES)


def rope_keys(text: Mapping[str, Any], description: Description, rope: Rope) -> dict[str, Any]:
    """Return every key of RoPE, as transformers 4 and 5 read them; None where a key is to be absent.

    Args:
        text: the configuration of the text model.
        description: of the base.
        rope: what the keys are to say of the full layers.
    """
    family = FAMILIES[description.text_model_type]
    kept = {key: value for key, value in description.rope.scaling.items() if key not in SCALING_KEYS}
    if family.multi_axis and family.sections and description.axes:
        kept.setdefault("mrope_section", list(family.sections))  # classes differ in what they mean by none
    parameters = {**(rope.scaling or {"rope_type": "default"}), **kept, "rope_theta": rope.theta}
    if family.partial is not None and parameters["rope_type"] != "proportional":
        parameters["partial_rotary_factor"] = description.rope.partial
    if family.per_type:
        return _for_each_type(text, family, parameters, rope)
    keys: dict[str, Any] = {"rope_theta": rope.theta, family.theta_key: rope.theta}
    keys |= partial_keys(text, description)
    return keys | {"rope_scaling": _old(description, rope, parameters), "rope_parameters": parameters}


def _old(description: Description, rope: Rope, parameters: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return `rope_scaling`; None where theta is all."""
    family = FAMILIES[description.text_model_type]
    kind = parameters["rope_type"]
    if rope.scaling and description.text_model_type in _SHORT:
        return {"type": kind, **{key: parameters[key] for key in _SHORT[description.text_model_type]}}
    if rope.scaling is None and not family.multi_axis and (family.partial is None or family.partial_keys):
        return None
    # Others than the text models of image-text models have always had theta beside it, never within.
    whole = description.text_place or family.multi_axis or family.rope is not None or not family.partial_keys
    return {"type": kind, **{key: value for key, value in parameters.items() if whole or key != "rope_theta"}}


def _for_each_type(
    text: Mapping[str, Any], family: Family, parameters: Mapping[str, Any], rope: Rope
) -> dict[str, Any]:
    """Return the keys of a family with a dictionary for each layer type: the method's for full layers alone."""
    before = text.get("rope_parameters")
    others = {key: dict(value) if value else value for key, value in before.items()} if before else {}
    if family.per_type != "legacy":
        return {"rope_parameters": {**others, "full_attention": dict(parameters)}}
    sliding = {**_of_windows(text, family), **(others.get("sliding_attention") or {})}
    keys: dict[str, Any] = {"rope_theta": rope.theta}
    if family.theta is not None:
        keys["rope_local_base_freq"] = sliding.get("rope_theta")
    return keys | {
        "rope_scaling": rope.scaling and {"type": rope.scaling["rope_type"], **rope.scaling},
        "rope_parameters": {**others, "full_attention": dict(parameters), "sliding_attention": sliding},
    }


def _of_windows(text: Mapping[str, Any], family: Family) -> dict[str, Any]:
    """Return the dictionary of layers that slide: with a base of their own in Gemma, else with that of the others."""
    local = text.get("rope_local_base_freq")
    if local is None:
        local = text.get("rope_theta") if family.theta is None else 10_000.0
    return {"rope_type": "default", "rope_theta": local}
