"""The configuration of a native export: a frequency method in stock keys, for stock classes, without remote code.

Each spelling is chosen so that transformers 4.55 to 5.x compute what the shipped code computes; see docs/native.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ropext.converter.checkpoint.description import TEXT, describe
from ropext.converter.checkpoint.families import FAMILIES
from ropext.converter.errors import RopextError, UsageError
from ropext.converter.methods.base import longrope
from ropext.converter.methods.registry import FREQUENCY_METHODS, spell

from .config import both_dtypes, rope_ext_block
from .native_keys import beside_frequencies, rope_keys

if TYPE_CHECKING:
    from ropext.converter.checkpoint.description import Description
    from ropext.converter.checkpoint.facts import ModelFacts
    from ropext.converter.methods.base import Baked, Rope
    from ropext.converter.preset import Preset

__all__ = ["UnsupportedSpelling", "native_config", "native_notes", "require_native", "require_remote"]


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
    text = config[TEXT] if description.text_place else config
    _require_sayable(text, description, preset, facts)
    rope = _as_the_class_takes_it(spell(preset, facts, baked), description, preset, facts, baked)
    changed = _with_keys(text, description, rope)
    top = {"architectures": [facts.architecture], "rope_ext": rope_ext_block(config, facts, preset, baked)}
    if not description.text_place:
        return changed | top
    outer = {key: value for key, value in config.items() if key not in _READ_INSIDE}
    return outer | both_dtypes(config) | {TEXT: changed} | top


def native_notes(config: Mapping[str, Any]) -> tuple[str, ...]:
    """Return what a native export keeps, and what single versions of transformers make of it and of its base.

    Args:
        config: the base's.
    """
    description = describe(config)
    if description.window:
        return (f"sliding_window of {description.window} tokens stays",)
    if description.text_model_type == "deepseek_v2" and description.rope.scaling.get("mscale_all_dim"):
        return (
            "transformers up to 5.0 ignores mscale_all_dim of deepseek_v2, in the base too: there the scale of its "
            "attention stays that of short prompts",
        )
    return ()


def require_remote(config: Mapping[str, Any], method: str) -> None:
    """Refuse what the code that is shipped cannot do, and stock keys can.

    Args:
        config: the base's.
        method: the method.

    Raises:
        UsageError: it says what to do.
    """
    rope, family = (found := describe(config)).rope, FAMILIES[found.text_model_type]
    if method == "yarn" and rope.kind == "yarn" and family.latent and rope.scaling.get("mscale_all_dim"):
        raise UsageError(
            f"yarn: the scale of {found.model_type}'s attention follows yarn's factor (mscale_all_dim), which stock "
            "classes do and shipped code does not; add --native."
        )


_READ_INSIDE = ("rope_theta", "rope_scaling", "rope_parameters", "max_position_embeddings")
"""Keys that stock classes ignore beside a text model's configuration, where some bases have a copy of them."""

_ORIGINAL = "original_max_position_embeddings"


def _with_keys(text: Mapping[str, Any], description: Description, rope: Rope) -> dict[str, Any]:
    """Return the text model's configuration with other keys of RoPE."""
    keys = rope_keys(text, description, rope)
    if _ORIGINAL in text:
        # Configurations with this key of their own put it above the one inside the dictionary.
        keys[_ORIGINAL] = (rope.scaling or {}).get(_ORIGINAL, rope.length)
    if text.get("layer_rope_theta"):
        keys["layer_rope_theta"] = [theta and rope.theta for theta in text["layer_rope_theta"]]
    # vLLM looks at chunks before it looks at a scaling, and would ignore that.
    kept = {key: value for key, value in text.items() if key not in keys and key != "dual_chunk_attention_config"}
    return kept | both_dtypes(text) | keys | {"max_position_embeddings": rope.length}


# What stock keys cannot say


def _require_sayable(text: Mapping[str, Any], description: Description, preset: Preset, facts: ModelFacts) -> None:
    """Refuse numbers that no keys of the family's stock class say.

    Raises:
        UnsupportedSpelling: it says why.
    """
    why = _why_not(text, description, preset.method, facts)
    if why:
        raise UnsupportedSpelling(f"--native: {why}; leave --native out.")


def _why_not(text: Mapping[str, Any], description: Description, method: str, facts: ModelFacts) -> str:
    rope, raises_yarn = description.rope, description.rope.kind == "yarn" and method == "yarn"
    beside, what = beside_frequencies(description), f"RoPE of {description.model_type}"
    if len({theta for theta in text.get("layer_rope_theta") or () if theta}) > 1:
        return f"{what} differs from layer to layer, and no stock keys scale one layer alone"
    if rope.kind == "proportional" and method != "linear":
        return f"{what} leaves some pairs unturned (proportional), which of all stock keys only linear's factor keeps"
    if beside and rope.kind != "default" and not raises_yarn:
        return f"{what} has {', '.join(beside)} beside its frequencies, read with yarn's lengths: only yarn keeps those"
    if FAMILIES[description.text_model_type].latent and rope.scaling.get("mscale_all_dim") and not raises_yarn:
        return f"{what} sets the scale of its attention by yarn's factor (mscale_all_dim), which only yarn keeps"
    return ""


# Classes that take a scaling of their own form only


def _as_the_class_takes_it(
    rope: Rope, description: Description, preset: Preset, facts: ModelFacts, baked: Baked
) -> Rope:
    """Say the same numbers in the form that a family's class takes.

    Raises:
        UnsupportedSpelling: it takes none that says them.
    """
    family = description.text_model_type
    if rope.theta != facts.rope_theta and description.per_type == "legacy" and FAMILIES[family].theta is None:
        return longrope(preset, facts, baked)  # transformers 4 has one theta for layers that slide too
    if description.per_type and (rope.scaling or {}).get("truncate") is False:
        raise UnsupportedSpelling(
            f"--native: transformers 5 does not read truncate in the dictionaries of {family}, one for each layer "
            "type; leave truncate or --native out."
        )
    if rope.scaling and family == "nemotron":
        raise UnsupportedSpelling(
            "--native: transformers 4 ignores every scaling of nemotron in silence, and reads its rope_theta alone; "
            "take ntk on a base without scaling, or leave --native out."
        )
    if rope.scaling is None or family not in ("olmo", "olmo2", "phi3", "phimoe"):
        return rope
    kind, attention = rope.scaling["rope_type"], facts.attention_factor * baked.parameters.get("attention_factor", 1.0)
    if family.startswith("olmo"):
        if set(rope.scaling) <= {"rope_type", "factor"}:
            return rope
        raise UnsupportedSpelling(
            f"--native: the stock configuration class of {family} does not take rope_type {kind!r} on every "
            "transformers, but linear and dynamic alone; leave --native out."
        )
    if kind == "dynamic" or (family == "phi3" and attention != 1):
        what = "a scaling that grows with the length" if kind == "dynamic" else f"attention scaled by {attention:g}"
        cure = "" if kind == "dynamic" else "add --set attention_factor=1, or "
        raise UnsupportedSpelling(
            f"--native: the stock configuration class of {family} takes longrope alone, which cannot say {what}; "
            f"{cure}leave --native out."
        )
    respelt = longrope(preset, facts, baked)
    mscale = {"short_mscale": attention, "long_mscale": attention} if family == "phimoe" else {}
    return replace(respelt, scaling={**(respelt.scaling or {}), **mscale})
