"""YaRN: pairs that turn often are kept, those that hardly turn are divided (arXiv 2309.00071, section 3.4)."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

from ropext.converter.checkpoint.rope import float32
from ropext.converter.errors import Fault, RopextError

from .base import Baked, Grid, Method, Rope, Settings, Suggestion, Wish, parameter_fault, scaling_factor, scaling_faults

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
    if truncate:
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, dim - 1)
    width = float32(high - low if high != low else 0.001)
    mixed = []
    for pair in range(dim // 2):
        turned = float32(float32(theta) ** float32(2 * pair / dim))
        kept, divided = float32(1 / turned), float32(1 / float32(factor * turned))
        share = 1 - min(max(float32(float32(pair - low) / width), 0.0), 1.0)
        mixed.append(float32(float32(divided * float32(1 - share)) + float32(kept * share)))
    return mixed


def usual_attention_factor(factor: float) -> float:
    """YaRN's factor on queries and keys alike: 0.1 ln(s) + 1 (equation 22 is its square on the logits)."""
    return 0.1 * math.log(factor) + 1.0


def _faults(settings: Settings) -> Iterator[Fault]:
    yield from scaling_faults(settings)
    fast, slow = settings.parameters.get("beta_fast"), settings.parameters.get("beta_slow")
    if fast and slow and fast <= slow:
        yield parameter_fault("beta_fast", f"is {fast}; it must be more than beta_slow ({slow})")


def _bake(preset: Preset, facts: ModelFacts, inv_freq: list[float]) -> Baked:
    factor = scaling_factor(preset)
    attention_factor = float(preset.parameters.get("attention_factor", usual_attention_factor(factor)))
    parameters = {**preset.parameters, "scaling_factor": factor, "attention_factor": attention_factor}
    options = {key: parameters[key] for key in ("beta_fast", "beta_slow", "truncate")}
    scaled = frequencies(facts.rope_theta, facts.rotary_dim, preset.initial_window, factor, **options)
    kept = sum(new == old for new, old in zip(scaled, inv_freq, strict=True))
    note = f"{kept} of {len(scaled)} frequency pairs kept; queries and keys times {attention_factor:g}, at every length"
    return Baked(parameters, scaled, {}, (note,))


def _suggest(wish: Wish) -> Suggestion:
    attention = usual_attention_factor(wish.factor)
    why = f"factor N / M; attention times 0.1 ln(N / M) + 1 = {attention:.4f} on both sides"
    parameters = {"scaling_factor": wish.factor, "attention_factor": round(attention, 6)}
    return Suggestion("yarn", parameters, wish.target, why, "arXiv 2309.00071")


def _spell(preset: Preset, facts: ModelFacts, baked: Baked) -> Rope:
    factor, attention_factor = (float(baked.parameters[key]) for key in ("scaling_factor", "attention_factor"))
    # Some versions take the ratio of the two lengths for the factor, whatever `factor` says.
    length = round(factor * preset.initial_window)
    if not math.isclose(length / preset.initial_window, factor, rel_tol=1e-9):
        raise RopextError(
            f"--native: scaling_factor {factor:g} times initial_window {preset.initial_window} is no whole number of "
            f"tokens, which stock YaRN needs; set scaling_factor to {length / preset.initial_window!r}."
        )
    usual = usual_attention_factor(factor)
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
    return Rope(facts.rope_theta, scaling, length)


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
    plain_base="it finds the pairs to keep from theta, which no longer says how often they turn",
    spell=_spell,
    grid=Grid({"scaling_factor": (1, 1.5, 2)}, derived=("attention_factor",)),
)
