"""YaRN: pairs that turn often are kept, those that hardly turn are divided (arXiv 2309.00071, section 3.4)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ropext.converter.checkpoint.rope import attention_factor, float32, scaled_inv_freq
from ropext.converter.errors import Fault, RopextError

from .base import (
    Baked,
    Grid,
    Method,
    Rope,
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
    from ropext.converter.preset import Preset


def frequencies(
    theta: float,
    dim: int,
    window: int,
    factor: float,
    *,
    beta_fast: float = 32.0,
    beta_slow: float = 1.0,
    truncate: bool = True,
) -> list[float]:
    """Keep the pairs that turn often in the trained window, divide those that hardly do, mix between.

    Rounded where float32 tensors are, so that these are the numbers that transformers computes.

    Args:
        theta: RoPE's base.
        dim: dimensions of a head that RoPE turns.
        window: trained length, tokens.
        factor: s, what slow pairs are divided by.
        beta_fast: turns in the window from which on a pair is kept.
        beta_slow: turns in the window below which a pair is divided by `factor`.
        truncate: widen the mixed range to whole pairs.

    Returns:
        dim/2 numbers in radians per token, highest frequency first, each exact in float32.
    """
    low, high = (dim * math.log(window / (n * 2 * math.pi)) / (2 * math.log(theta)) for n in (beta_fast, beta_slow))
    periods = [float32(float32(theta) ** float32(2 * pair / dim)) for pair in range(dim // 2)]
    kept, divided = ([float32(1 / float32(each * period)) for period in periods] for each in (1.0, factor))
    return _mixed(kept, divided, low, high, truncate=truncate)


def _mixed(kept: Sequence[float], divided: Sequence[float], low: float, high: float, *, truncate: bool) -> list[float]:
    """Take the kept frequencies up to the pair `low`, the divided ones from `high` on, and mix between."""
    if truncate:
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, 2 * len(kept) - 1)
    width = float32(high - low if high != low else 0.001)
    mixed = []
    for pair, (fast, slow) in enumerate(zip(kept, divided, strict=True)):
        share = 1 - min(max(float32(float32(pair - low) / width), 0.0), 1.0)
        mixed.append(float32(float32(slow * float32(1 - share)) + float32(fast * share)))
    return mixed


def frequencies_on_top(
    inv_freq: Sequence[float],
    window: int,
    factor: float,
    *,
    beta_fast: float = 32.0,
    beta_slow: float = 1.0,
    truncate: bool = True,
) -> list[float]:
    """Scale frequencies that do not follow from theta alone: each pair by how often it turns.

    On an unscaled base these are those of `frequencies`.

    Args:
        inv_freq: of the base, radians per token [pairs], the highest first; 0 for pairs that never turn.
        window: trained length, tokens.
        factor: s, what slow pairs are divided by.
        beta_fast: turns in the window from which on a pair is kept.
        beta_slow: turns in the window below which a pair is divided by `factor`.
        truncate: widen the mixed range to whole pairs.
    """
    turning = [frequency for frequency in inv_freq if frequency > 0]
    low, high = (_pair_that_turns(turns * 2 * math.pi / window, turning) for turns in (beta_fast, beta_slow))
    divided = [float32(frequency / factor) for frequency in turning]
    return _mixed(turning, divided, low, high, truncate=truncate) + [0.0] * (len(inv_freq) - len(turning))


def _pair_that_turns(wanted: float, inv_freq: Sequence[float]) -> float:
    """Return the pair, as a real number, that turns by a number of radians per token."""
    if len(inv_freq) < 2:
        return 0.0
    after = next((pair for pair, frequency in enumerate(inv_freq) if frequency < wanted), len(inv_freq) - 1)
    after = max(after, 1)
    fast, slow = inv_freq[after - 1], inv_freq[after]
    return after - 1 + (math.log(fast / wanted) / math.log(fast / slow) if fast > slow else 0.0)


def usual_attention_factor(factor: float) -> float:
    """YaRN's factor on queries and keys alike: 0.1 ln(s) + 1 (equation 22 is its square on the logits)."""
    return 0.1 * math.log(factor) + 1.0


def _faults(settings: Settings) -> Iterator[Fault]:
    yield from scaling_faults(settings)
    fast, slow = settings.parameters.get("beta_fast"), settings.parameters.get("beta_slow")
    if fast and slow and fast <= slow:
        yield parameter_fault("beta_fast", f"is {fast}; it must be more than beta_slow ({slow})")


# On top of another scaling


def _raised_factor(facts: ModelFacts, window: int, factor: float) -> float:
    """The factor of a base scaled by YaRN, from its own original length to `factor` times a window."""
    return factor * window / float(facts.rope_scaling["original_max_position_embeddings"])


def _raised_attention(scaling: Mapping[str, Any], factor: float) -> float:
    """What a base scaled by YaRN multiplies queries and keys by when its factor is raised, by its own rule."""
    written, before = scaling.get("attention_factor"), float(scaling["factor"])
    if written is None or before <= 1:
        return attention_factor({**scaling, "factor": factor})
    weight = (float(written) - 1) / (usual_attention_factor(before) - 1)
    return 1 + weight * (usual_attention_factor(factor) - 1)


def _own_attention(facts: ModelFacts, window: int, factor: float) -> float:
    """The method's attention factor where a preset has none: what comes on top of the base's."""
    if facts.rope_type != "yarn":
        return usual_attention_factor(factor)
    return _raised_attention(facts.rope_scaling, _raised_factor(facts, window, factor)) / facts.attention_factor


_OPTIONS: Mapping[str, Any] = {"beta_fast": 32.0, "beta_slow": 1.0, "truncate": True}


def _base_options(facts: ModelFacts) -> dict[str, Any]:
    """Return what a base scaled by YaRN says of its pairs."""
    return {
        key: default if facts.rope_scaling.get(key) is None else facts.rope_scaling[key]
        for key, default in _OPTIONS.items()
    }


def _scaled_faults(preset: Preset, facts: ModelFacts) -> Iterator[Fault]:
    """What does not go on top of a base that is scaled by YaRN."""
    if facts.rope_type != "yarn":
        return
    own, given = _base_options(facts), preset.parameters
    for key, default in _OPTIONS.items():
        if given.get(key, default) not in (default, own[key]):
            yield parameter_fault(key, f"is {given[key]}, but the base is scaled by yarn with {own[key]}: leave it out")
    before = float(facts.rope_scaling["factor"])
    if _raised_factor(facts, preset.initial_window, scaling_factor(preset)) <= before:
        original = facts.rope_scaling["original_max_position_embeddings"]
        message = f"the base's own yarn reaches {before * original:g} tokens, {before:g} times {original}"
        yield Fault(("target_window",), f"is {preset.target_window}; {message}: it must be more than that")


# What the converter asks


def _bake(preset: Preset, facts: ModelFacts, inv_freq: list[float]) -> Baked:
    factor, window = scaling_factor(preset), preset.initial_window
    parameters = {**preset.parameters, "scaling_factor": factor}
    parameters["attention_factor"] = float(parameters.get("attention_factor", _own_attention(facts, window, factor)))
    on_top = ""
    if facts.rope_type == "yarn":
        raised = _raised_factor(facts, window, factor)
        parameters |= _base_options(facts)
        scaled = scaled_inv_freq(facts.rope_theta, facts.rotary_dim, {**facts.rope_scaling, "factor": raised})
        on_top = f"the base's own yarn raised from factor {facts.rope_scaling['factor']:g} to {raised:g}; "
    else:
        options = {key: parameters[key] for key in _OPTIONS}
        if facts.rope_type == "default":
            scaled = frequencies(facts.rope_theta, facts.rotary_dim, window, factor, **options)
        else:
            scaled = frequencies_on_top(inv_freq, window, factor, **options)
    kept = sum(new == old for new, old in zip(scaled, inv_freq, strict=True))
    by = parameters["attention_factor"]
    note = f"{on_top}{kept} of {len(scaled)} frequency pairs kept; queries and keys times {by:g}, at every length"
    return Baked(parameters, scaled, {}, (note,))


def _suggest(wish: Wish) -> Suggestion:
    attention = _own_attention(wish.facts, wish.trained, wish.factor)
    rule = "by the base's own yarn" if wish.facts.rope_type == "yarn" else "0.1 ln(N / M) + 1"
    why = f"factor N / M; attention times {rule} = {attention:.4f} on both sides"
    parameters = {"scaling_factor": wish.factor, "attention_factor": round(attention, 6)}
    return Suggestion("yarn", parameters, wish.target, why, "arXiv 2309.00071")


def _spell(preset: Preset, facts: ModelFacts, baked: Baked) -> Rope:
    if facts.rope_type not in ("default", "yarn"):
        return longrope(preset, facts, baked)
    factor, window, before = float(baked.parameters["scaling_factor"]), preset.initial_window, dict[str, Any]()
    if facts.rope_type == "yarn":
        before = {**facts.rope_scaling}
        factor, window = _raised_factor(facts, window, factor), int(before["original_max_position_embeddings"])
    length = _whole_length(factor, window, f"scaling_factor {baked.parameters['scaling_factor']:g}")
    scaling = {
        **before,
        "rope_type": "yarn",
        "factor": factor,
        "original_max_position_embeddings": window,
        "beta_fast": float(baked.parameters["beta_fast"]),
        "beta_slow": float(baked.parameters["beta_slow"]),
        **({} if baked.parameters["truncate"] else {"truncate": False}),
    }
    kept = {key: value for key, value in scaling.items() if key not in ("attention_factor", "attn_factor")}
    wanted = facts.attention_factor * float(baked.parameters["attention_factor"])
    return Rope(facts.rope_theta, kept | _attention_keys(kept, wanted), length)


def _whole_length(factor: float, window: int, what: str) -> int:
    # Some versions take the ratio of the two lengths for the factor, whatever `factor` says.
    length = round(factor * window)
    if not math.isclose(length / window, factor, rel_tol=1e-9):
        raise RopextError(
            f"--native: {what} times initial_window {window} is no whole number of "
            f"tokens, which stock YaRN needs; set scaling_factor to {length / window!r}."
        )
    return length


def _attention_keys(scaling: Mapping[str, Any], wanted: float) -> dict[str, float]:
    """Return the keys that make runtimes multiply queries and keys by a number."""
    if scaling.get("mscale") and scaling.get("mscale_all_dim") and _same(attention_factor(scaling), wanted):
        return {}  # every runtime that knows these two takes their ratio
    usual = usual_attention_factor(float(scaling["factor"]))
    # vLLM's name is a multiple of the usual one.
    return {"attention_factor": wanted} | ({} if _same(wanted, usual) else {"attn_factor": wanted / usual})


def _same(one: float, other: float) -> bool:
    return math.isclose(one, other, rel_tol=1e-6)


METHOD = Method(
    about=(
        "[YaRN](https://arxiv.org/abs/2309.00071) keeps rotary pairs that turn often within the initial window, "
        "divides the frequency of those that hardly turn, and mixes the rest. "
        "It multiplies queries and keys by an attention factor, and changes short prompts too."
    ),
    reason="Nearly every runtime reads it from stock keys; it changes short prompts too.",
    measured=-4.08,
    suggest=_suggest,
    bake=_bake,
    faults=_faults,
    scaled_faults=_scaled_faults,
    spell=_spell,
    grid=Grid({"scaling_factor": (1, 1.5, 2)}, derived=("attention_factor",)),
)
