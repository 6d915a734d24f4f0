"""The configuration of a native export: a frequency method in stock keys, for stock classes, without remote code.

Each spelling is chosen so that transformers 4.55 to 5.x compute what the shipped code computes; see docs/native.md.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ropext.converter.checkpoint.description import describe
from ropext.converter.checkpoint.families import FAMILIES
from ropext.converter.checkpoint.rope import float32, plain_periods
from ropext.converter.errors import RopextError, UsageError
from ropext.converter.methods.frequencies import FREQUENCY_METHODS, ntk_theta, yarn_attention_factor

from .config import GUARD, extended_config, partial_keys

if TYPE_CHECKING:
    from ropext.converter.checkpoint.description import Description
    from ropext.converter.checkpoint.facts import ModelFacts
    from ropext.converter.methods.baking import Baked
    from ropext.converter.preset import Preset

__all__ = ["UnsupportedSpelling", "native_config", "require_native"]


class UnsupportedSpelling(RopextError):
    """The family's stock class does not take the keys that a method needs."""


@dataclass(frozen=True)
class _Rope:
    """What stock keys say.

    Attributes:
        theta: RoPE's base.
        scaling: the dictionary with its `rope_type`; None where theta is all.
        length: `max_position_embeddings`, tokens.
    """

    theta: float
    scaling: dict[str, Any] | None
    length: int


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
        Every key of the base, RoPE's in both spellings, and the `rope_ext` block, which stock classes ignore.

    Raises:
        RopextError: stock keys cannot say these numbers.
    """
    description = describe(config)
    _require_one_rope(config, description)
    extended = extended_config(config, facts, preset, baked)
    rope = _SPELLINGS[preset.method](preset, facts, baked)
    if rope.scaling and facts.model_type in _OWN_SCALING:
        raise UnsupportedSpelling(
            f"--native: the stock configuration class of {facts.model_type} does not take rope_type "
            f"{rope.scaling['rope_type']!r} on every transformers; leave --native out."
        )
    stock = {key: value for key, value in extended.items() if value != GUARD and key != "auto_map"}
    stock |= {key: config[key] for key, value in extended.items() if value == GUARD and key in config}
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


def _rope_keys(config: Mapping[str, Any], description: Description, rope: _Rope) -> dict[str, Any]:
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


def _length(preset: Preset, facts: ModelFacts) -> int:
    return max(facts.trained_length, preset.target_window)


def _longrope(preset: Preset, facts: ModelFacts, baked: Baked) -> _Rope:
    """Any fixed frequencies: one divisor for each pair, the same for short and long prompts."""
    periods = plain_periods(facts.rope_theta, facts.rotary_dim)
    factors = [_divisor(period, wanted) for period, wanted in zip(periods, baked.inv_freq, strict=True)]
    length = _length(preset, facts)
    scaling = {
        "rope_type": "longrope",
        "short_factor": factors,
        "long_factor": factors,
        "factor": 1.0,
        "attention_factor": facts.attention_factor,
        # Not the trained length: runtimes that ignore attention_factor derive one from the ratio of the two.
        "original_max_position_embeddings": length,
    }
    return _Rope(facts.rope_theta, scaling, length)


def _divisor(period: float, wanted: float) -> float:
    """The factor with which float32 arithmetic, `1 / (factor * period)`, comes nearest to a frequency."""
    exact = 1 / (wanted * period)
    near = [float32(exact * (1 + step * 2**-24)) for step in range(-4, 5)]
    return min(near, key=lambda factor: (abs(float32(1 / float32(factor * period)) - wanted), abs(factor - exact)))


def _linear(preset: Preset, facts: ModelFacts, baked: Baked) -> _Rope:
    if facts.rope_type != "default":
        return _longrope(preset, facts, baked)
    factor = float(baked.parameters["scaling_factor"])
    return _Rope(facts.rope_theta, {"rope_type": "linear", "factor": factor}, _length(preset, facts))


def _ntk(preset: Preset, facts: ModelFacts, baked: Baked) -> _Rope:
    if facts.rope_type != "default":
        return _longrope(preset, facts, baked)
    theta = ntk_theta(facts.rope_theta, baked.parameters["scaling_factor"], facts.rotary_dim)
    return _Rope(theta, None, _length(preset, facts))


def _dynamic_ntk(preset: Preset, facts: ModelFacts, baked: Baked) -> _Rope:
    # Stock classes take the window from which on theta grows from max_position_embeddings alone.
    scaling = {"rope_type": "dynamic", "factor": float(baked.parameters["scaling_factor"])}
    return _Rope(facts.rope_theta, scaling, preset.initial_window)


def _yarn(preset: Preset, facts: ModelFacts, baked: Baked) -> _Rope:
    factor, attention_factor = (float(baked.parameters[key]) for key in ("scaling_factor", "attention_factor"))
    # Some versions take the ratio of the two lengths for the factor, whatever `factor` says.
    length = round(factor * preset.initial_window)
    if not math.isclose(length / preset.initial_window, factor, rel_tol=1e-9):
        raise RopextError(
            f"--native: scaling_factor {factor:g} times initial_window {preset.initial_window} is no whole number of "
            f"tokens, which stock YaRN needs; set scaling_factor to {length / preset.initial_window!r}."
        )
    usual = yarn_attention_factor(factor)
    scaling = {
        "rope_type": "yarn",
        "factor": factor,
        "original_max_position_embeddings": preset.initial_window,
        "attention_factor": attention_factor,
        "beta_fast": float(baked.parameters["beta_fast"]),
        "beta_slow": float(baked.parameters["beta_slow"]),
    }
    if not baked.parameters["truncate"]:
        scaling["truncate"] = False
    if not math.isclose(attention_factor, usual):
        scaling["attn_factor"] = attention_factor / usual  # vLLM's name, a multiple of the usual one
    return _Rope(facts.rope_theta, scaling, length)


_SPELLINGS: Mapping[str, Callable[[Preset, ModelFacts, Baked], _Rope]] = {
    "dprope": _longrope,
    "dynamic_ntk": _dynamic_ntk,
    "linear": _linear,
    "ntk": _ntk,
    "yarn": _yarn,
}
