"""Profiles: frequencies divided by a named shape over how often each pair turns in the trained window."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ropext.converter.checkpoint.rope import float32
from ropext.converter.errors import Fault, RopextError

from . import yarn
from .base import (
    Baked,
    Heads,
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

BANDS: dict[str, Callable[[int, int], float]] = {
    "uniform": lambda q, n: q / n,
    "progressive": lambda q, n: q * (q + 1) / (n * (n + 1)),
    "tail": lambda q, n: q * (3 * n * (n + 1) - (q - 1) * (q + 1)) / (n * (n + 1) * (2 * n + 1)),
}
"""The logarithm to base S of what the q-th of the n pairs of the band is divided by: the sum of its first q exponents.

`uniform` and `progressive` are MrRoPE's (arXiv 2601.22181). `tail` is TailSpline, unpublished: its exponents fall.
"""

TINIEST = 1e-12
"""What a frequency is multiplied by that fades to nothing: stock keys hold divisors, which cannot be infinite."""


def banded(turns: Sequence[float], shape: str, factor: float, beta_fast: float, beta_slow: float) -> list[float]:
    """Return what each pair's frequency is multiplied by, with a shape of `BANDS`.

    Args:
        turns: of each pair in the trained window, [pairs], falling.
        shape: its name.
        factor: S.
        beta_fast: pairs that turn more often are kept.
        beta_slow: pairs that turn less often are divided by S.
    """
    last_kept = max((pair for pair, turned in enumerate(turns) if turned > beta_fast), default=-1)
    first_slow = next((pair for pair, turned in enumerate(turns) if turned < beta_slow), len(turns))
    count = first_slow - last_kept
    shares = (min(max(pair - last_kept, 0), count) for pair in range(len(turns)))
    return [factor ** -BANDS[shape](share, count) for share in shares]


def clipped(turns: Sequence[float], beta_slow: float) -> list[float]:
    """Return what each pair's frequency is multiplied by: slow pairs fade to no rotation by a half cosine.

    CoPE (arXiv 2602.05258) clips the pairs whose period is longer than the trained window: `beta_slow` is 1.

    Args:
        turns: of each pair in the trained window, [pairs], falling.
        beta_slow: pairs that turn less often fade.
    """
    slow = sum(turned < beta_slow for turned in turns)
    fading = [0.5 * (1 + math.cos(math.pi * rank / max(slow - 1, 1))) for rank in range(slow)]
    return [1.0] * (len(turns) - slow) + [max(each, TINIEST) for each in fading]


def _faults(settings: Settings) -> Iterator[Fault]:
    given, shape = settings.parameters, settings.parameters["shape"]
    if ("divisors" in given) != (shape == "list"):
        yield parameter_fault("divisors", "goes with shape list, and with no other: give both or neither")
    unused = {"list": ("scaling_factor", "beta_fast", "beta_slow"), "clip": ("scaling_factor", "beta_fast")}
    for key in unused.get(shape, ()):
        if key in given:
            yield parameter_fault(key, f"has no meaning for shape {shape}; leave it out")
    fast, slow = given.get("beta_fast", 32), given.get("beta_slow", 1)
    if shape in (*BANDS, "yarn") and fast <= slow:
        yield parameter_fault("beta_fast", f"is {fast}; it must be more than beta_slow ({slow})")
    yield from scaling_faults(settings)


def _size_faults(parameters: Mapping[str, Any], heads: Heads) -> Iterator[Fault]:
    divisors = parameters.get("divisors")
    if divisors is not None and len(divisors) != heads.pairs:
        message = f"has {len(divisors)} numbers; {heads.size} needs {heads.pairs} ({heads.half})"
        yield parameter_fault("divisors", message)


def shaped(preset: Preset, facts: ModelFacts, inv_freq: list[float]) -> tuple[dict[str, Any], list[float]]:
    """Compute a preset's shape.

    Args:
        preset: of this method, or of one with the same parameters.
        facts: of the model.
        inv_freq: the base's, radians per token [pairs].

    Returns:
        The parameters with the defaults of the shape, the attention factor left as it is; and what each frequency is
        multiplied by, [pairs].

    Raises:
        RopextError: the shape does not go on top of the base's own scaling.
    """
    parameters, shape = dict(preset.parameters), preset.parameters["shape"]
    turns = [preset.initial_window * frequency / (2 * math.pi) for frequency in inv_freq]
    if shape == "list":
        return parameters, [1 / divisor for divisor in parameters.pop("divisors")]
    if shape == "clip":
        parameters = {"beta_slow": 1.0, **parameters}
        return parameters, clipped(turns, parameters["beta_slow"])
    factor = scaling_factor(preset)
    parameters = {"beta_fast": 32.0, "beta_slow": 1.0, **parameters, "scaling_factor": factor}
    if shape == "yarn":
        scaled = _of_yarn(parameters, preset, facts)
        return parameters, [new / old for new, old in zip(scaled, inv_freq, strict=True)]
    return parameters, banded(turns, shape, factor, parameters["beta_fast"], parameters["beta_slow"])


def _bake(preset: Preset, facts: ModelFacts, inv_freq: list[float]) -> Baked:
    parameters, factors = shaped(preset, facts, inv_freq)
    factor = parameters.get("scaling_factor")
    parameters = {"attention_factor": yarn.usual_attention_factor(factor) if factor else 1.0, **parameters}
    scaled = [float32(frequency * each) for frequency, each in zip(inv_freq, factors, strict=True)]
    kept = sum(each == 1 for each in factors)
    note = f"{kept} of {len(scaled)} frequency pairs kept, the slowest divided by {1 / factors[-1]:g}"
    scale = f"queries and keys times {parameters['attention_factor']:g}, at every length"
    return Baked(parameters, scaled, {}, (f"{note}; {scale}",))


def _of_yarn(parameters: Mapping[str, Any], preset: Preset, facts: ModelFacts) -> list[float]:
    if facts.rope_type != "default":
        raise RopextError(
            f"profile: shape yarn does not go on top of rope_type {facts.rope_type}; the method yarn does, by how "
            "often each pair turns."
        )
    return yarn.frequencies(
        facts.rope_theta,
        facts.rotary_dim,
        preset.initial_window,
        parameters["scaling_factor"],
        beta_fast=parameters["beta_fast"],
        beta_slow=parameters["beta_slow"],
    )


def _suggest(wish: Wish) -> Suggestion:
    attention = yarn.usual_attention_factor(wish.factor)
    parameters = {"shape": "uniform", "scaling_factor": wish.factor, "attention_factor": round(attention, 6)}
    why = f"the pairs that turn 32 to 1 times in M divided by growing powers of N / M; attention times {attention:.4f}"
    return Suggestion("profile", parameters, wish.target, why, "MrRoPE-Uni, arXiv 2601.22181")


def _spell(preset: Preset, facts: ModelFacts, baked: Baked) -> Rope:
    if baked.parameters["shape"] == "yarn":
        spelt = replace(baked, parameters={**baked.parameters, "truncate": True})
        return yarn.METHOD.spell(preset, facts, spelt)  # type: ignore[misc]
    return longrope(preset, facts, baked)


METHOD = Method(
    about=(
        "A profile divides the frequency of each rotary pair by a shape, such as that of "
        "[MrRoPE](https://arxiv.org/abs/2601.22181): "
        "pairs that turn often within the initial window are kept, those that hardly turn divided most. "
        "It multiplies queries and keys by an attention factor, and changes short prompts too."
    ),
    reason="A shape of your choice in keys that runtimes read; it changes short prompts too.",
    suggest=_suggest,
    bake=_bake,
    faults=_faults,
    size_faults=_size_faults,
    spell=_spell,
)
