"""The configuration of a native export: a frequency method in stock keys, for stock classes, without remote code.

Each spelling is chosen so that transformers 4.55 to 5.x compute what the shipped code computes; see docs/native.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ropext.converter.checkpoint.description import describe
from ropext.converter.checkpoint.families import FAMILIES
from ropext.converter.errors import RopextError, UsageError
from ropext.converter.methods.registry import FREQUENCY_METHODS, spell

from .config import GUARD, extended_config, partial_keys, without_window

if TYPE_CHECKING:
    from ropext.converter.checkpoint.description import Description
    from ropext.converter.checkpoint.facts import ModelFacts
    from ropext.converter.methods.base import Baked, Rope
    from ropext.converter.preset import Preset

__all__ = ["UnsupportedSpelling", "native_config", "require_native"]


class UnsupportedSpelling(RopextError):
    """The family's stock class does not take the keys that a method needs."""


def require_native(method: str) -> None:
    """Refuse a method that stock keys cannot say.

    Raises:
        UsageError: it names those that they can.
    """
    if method not in FREQUENCY_METHODS:
        can = ", ".join(FREQUENCY_METHODS)
        raise UsageError(
            f"--native: {method} changes attention itself, which stock model classes cannot do; leave --native out, "
            f"or take one of the methods that only change frequencies: {can}."
        )


_OWN_SCALING = ("olmo", "olmo2", "phi3", "phimoe")
"""Families whose stock configuration class, on one transformers or another, takes only a scaling of its own form."""


def native_config(config: Mapping[str, Any], facts: ModelFacts, preset: Preset, baked: Baked) -> dict[str, Any]:
    """Build the configuration of a native export.

    Args:
        config: the base's, without private keys.
        facts: of the base.
        preset: what to convert with; its method is one of `FREQUENCY_METHODS`.
        baked: the numbers that it comes to for this base.

    Returns:
        Every key of the base, its windows among them; RoPE's in both spellings; the `rope_ext` block, which stock
        classes ignore.

    Raises:
        RopextError: stock keys cannot say these numbers.
    """
    description = describe(config)
    _require_one_rope(config, description)
    extended = extended_config(config, facts, preset, baked)
    rope = spell(preset, facts, baked)
    if rope.scaling and facts.model_type in _OWN_SCALING:
        raise UnsupportedSpelling(
            f"--native: the stock configuration class of {facts.model_type} does not take rope_type "
            f"{rope.scaling['rope_type']!r} on every transformers; leave --native out."
        )
    stock = {key: value for key, value in extended.items() if value != GUARD and key != "auto_map"}
    stock |= {key: config[key] for key, value in extended.items() if value == GUARD and key in config}
    # A frequency method needs no layer to see more than it saw in training.
    stock |= {key: config[key] for key in without_window(config, description) if key in config}
    if "original_max_position_embeddings" in config:
        # Configurations with this key of their own put it above the one inside the dictionary.
        original = (rope.scaling or {}).get("original_max_position_embeddings", rope.length)
        stock["original_max_position_embeddings"] = original
    return stock | {
        "architectures": [facts.architecture],
        "max_position_embeddings": rope.length,
        **_rope_keys(config, description, rope),
    }


_SCALING_KEYS = {
    *("rope_type", "factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings", "truncate"),
    *("beta_fast", "beta_slow", "attention_factor", "mscale", "mscale_all_dim", "short_factor", "long_factor"),
}
"""Keys of a base's scaling that are replaced as a whole."""


def _require_one_rope(config: Mapping[str, Any], description: Description) -> None:
    """Refuse what has more RoPE in its configuration than one dictionary.

    Raises:
        UnsupportedSpelling: it says what.
    """
    family = FAMILIES[description.text_model_type]
    others = sorted(set(description.rope.scaling) - _SCALING_KEYS)
    if description.text_place:
        what = f"is read in {description.text_place}"
    elif description.per_type or config.get("layer_rope_theta"):
        what = "differs from layer to layer"
    elif family.latent:
        what = "also sets the scale of its attention"
    elif family.multi_axis:
        what = "has positions on several axes"
    elif others:
        what = f"has {', '.join(others)} beside its frequencies"
    else:
        return
    raise UnsupportedSpelling(
        f"--native: RoPE of {description.model_type} {what}, and ropext does not write such stock keys yet; "
        "leave --native out."
    )


def _rope_keys(config: Mapping[str, Any], description: Description, rope: Rope) -> dict[str, Any]:
    """Return every key of RoPE, as transformers 4 and 5 read them."""
    family = FAMILIES[description.text_model_type]
    scaling: dict[str, Any] | None = rope.scaling and {"type": rope.scaling["rope_type"], **rope.scaling}
    parameters = {**(rope.scaling or {"rope_type": "default"}), "rope_theta": rope.theta}
    keys: dict[str, Any] = {"rope_theta": rope.theta, family.theta_key: rope.theta}
    if family.partial is not None:
        part = {"partial_rotary_factor": description.rope.partial}
        keys |= partial_keys(config, description)
        parameters |= part
        scaling = scaling and {**scaling, **part}
    return keys | {"rope_scaling": scaling, "rope_parameters": parameters}
