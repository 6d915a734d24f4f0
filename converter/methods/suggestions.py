"""Which parameters of a method fit a model and a length: the publications' rules, in one place.

M is the trained length, N the target, both in tokens. No weights are read: everything follows from the configuration.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from . import dprope, frequencies
from .rules import base_faults, group_size, self_extend_reach

if TYPE_CHECKING:
    from ropext.converter.checkpoint.facts import ModelFacts

__all__ = ["Suggestion", "suggest"]

_UNBOUNDED = None


@dataclass(frozen=True)
class Suggestion:
    """A method's parameters for a model and a length.

    Attributes:
        method: its name.
        parameters: as a preset has them; None where the method cannot do it, or nobody published numbers.
        reach: the longest context whose distances are all as trained, tokens; None: any, or not known.
        why: how the numbers come about, or why there are none.
        source: who says so.
    """

    method: str
    parameters: Mapping[str, Any] | None
    reach: int | None
    why: str
    source: str


@dataclass(frozen=True)
class _Wish:
    """What is asked for."""

    facts: ModelFacts
    inv_freq: list[float]
    trained: int
    target: int

    @property
    def factor(self) -> float:
        """N / M."""
        return self.target / self.trained

    def window(self, published: int) -> int:
        """A window published for models trained to 4096 tokens or more; a quarter of M for shorter ones."""
        return min(published, max(1, self.trained // 4))


def suggest(facts: ModelFacts, inv_freq: list[float], target: int, trained: int | None = None) -> list[Suggestion]:
    """Parameters of every method for a model and a length.

    Args:
        facts: the model.
        inv_freq: its frequencies, its own scaling included, radians per token [pairs].
        target: N, tokens.
        trained: M, tokens; the model's own by default.

    Returns:
        One for each method, in alphabetic order; `original` has nothing to suggest.
    """
    wish = _Wish(facts, inv_freq, trained or facts.trained_length, target)
    return [_one(method, wish) for method in sorted(_RULES)]


def _one(method: str, wish: _Wish) -> Suggestion:
    for fault in base_faults(method, wish.facts.rope_type):
        return Suggestion(method, None, None, f"the base's own scaling stands against it: {fault.message}", "")
    return _RULES[method](wish)


def _self_extend(wish: _Wish) -> Suggestion:
    window = wish.window(1024)
    group = group_size(wish.trained, wish.target, window)
    farthest = window + (wish.target - window) / group
    share = farthest / wish.trained
    return Suggestion(
        "self_extend",
        {"group_size": group, "local_window": window},
        self_extend_reach(wish.trained, group, window),
        f"the farthest token is seen at w + (N - w) / G = {farthest:.0f}, {share:.0%} of M; advised: under 50 to 67%",
        "arXiv 2401.01325, and its authors' advice on choosing G and w",
    )


def _jet_long(wish: _Wish) -> Suggestion:
    window = wish.window(2048)
    outer = wish.trained - window
    return Suggestion(
        "jet_long",
        {"window": outer, "local_window": window},
        _UNBOUNDED,
        f"the base up to {outer} tokens; beyond, G = ceil(L / {outer}) keeps every distance under M",
        "arXiv 2607.07740; local window as published, where M allows it",
    )


def _rerope(wish: _Wish) -> Suggestion:
    window = wish.window(1024)
    return Suggestion(
        "rerope", {"local_window": window}, _UNBOUNDED, f"no distance is over {window}", "J. Su, 2023: w 512 or 1024"
    )


def _dca(wish: _Wish) -> Suggestion:
    chunk, window = wish.trained * 3 // 4, wish.trained // 8
    return Suggestion(
        "dca",
        {"chunk_size": chunk, "local_window": window},
        _UNBOUNDED,
        f"chunks of 3/4 M, a local window of M/8: no distance is over {chunk}",
        "arXiv 2402.17463, its authors' program",
    )


def _string(wish: _Wish) -> Suggestion:
    shift, window = wish.trained // 3, wish.window(128)
    reach = wish.trained + shift - window
    why = f"S = M/3: distances beyond it come {shift - window} nearer"
    if reach < wish.target:
        return Suggestion("string", None, reach, f"{why}, which reaches {reach} tokens and not {wish.target}", _STRING)
    return Suggestion("string", {"shift": shift, "local_window": window}, reach, why, _STRING)


_STRING = "arXiv 2410.18745: S from M/7 to M/2, W of 32 or more"


def _gali(wish: _Wish) -> Suggestion:
    window, chunk = min(128, wish.trained // 8), min(1000, wish.trained // 4)
    group = math.ceil((wish.target - window) / (wish.trained - window))
    return Suggestion(
        "gali",
        {"chunk_size": chunk, "local_window": window},
        _UNBOUNDED,
        f"{wish.target} tokens on M positions, at most {group} on one; a smaller initial_window often scores better",
        "arXiv 2502.02659: chunks of 1000 to 3000, local windows of 128 to 1024",
    )


def _linear(wish: _Wish) -> Suggestion:
    why = f"every frequency divided by N / M = {wish.factor:g}"
    return Suggestion("linear", {"scaling_factor": wish.factor}, wish.target, why, "arXiv 2306.15595")


def _ntk(wish: _Wish) -> Suggestion:
    theta = frequencies.ntk_theta(wish.facts.rope_theta, wish.factor, wish.facts.rotary_dim)
    why = f"theta raised to {theta:g}: the lowest frequency is divided by N / M, the highest kept"
    return Suggestion("ntk", {"scaling_factor": wish.factor}, wish.target, why, "arXiv 2309.00071, section 3.1")


def _dynamic_ntk(wish: _Wish) -> Suggestion:
    why = "the base up to M; beyond, theta grows with the length, faster by N / M"
    source = "arXiv 2309.00071, section 3.3"
    return Suggestion("dynamic_ntk", {"scaling_factor": wish.factor}, _UNBOUNDED, why, source)


def _yarn(wish: _Wish) -> Suggestion:
    attention = frequencies.yarn_attention_factor(wish.factor)
    why = f"factor N / M; attention times 0.1 ln(N / M) + 1 = {attention:.4f} on both sides"
    parameters = {"scaling_factor": wish.factor, "attention_factor": round(attention, 6)}
    return Suggestion("yarn", parameters, wish.target, why, "arXiv 2309.00071")


def _dprope(wish: _Wish) -> Suggestion:
    solved = dprope.solve(wish.inv_freq, wish.trained, wish.target)
    kept, all_divided = (1000 * float(row.mean()) * 360 for row in solved.divergences)
    chosen = 1000 * float(solved.divergences.min(axis=0).mean()) * 360
    divided = int((solved.choice == 1).sum())
    why = (
        f"{divided} of {len(solved.factors)} pairs divided by {wish.factor:g}; angles are disturbed by {chosen:.2f}, "
        f"by {kept:.2f} with none and {all_divided:.2f} with all divided (thousandths)"
    )
    return Suggestion("dprope", {}, wish.target, why, "arXiv 2410.01490, by its authors' program")


def _dpe(wish: _Wish) -> Suggestion:
    from ropext.converter.presets.load import check_fit, list_presets

    for preset in list_presets():
        if preset.method == "dpe" and preset.target_window >= wish.target and not check_fit(preset, wish.facts):
            why = f"the factors of the preset {preset.name}, for up to {preset.target_window} tokens"
            return Suggestion("dpe", dict(preset.parameters), None, why, "; ".join(preset.references))
    why = "factors differ from model to model, and none are published for this one"
    return Suggestion("dpe", None, None, why, "arXiv 2504.18857")


_RULES: Mapping[str, Callable[[_Wish], Suggestion]] = {
    "dca": _dca,
    "dpe": _dpe,
    "dprope": _dprope,
    "dynamic_ntk": _dynamic_ntk,
    "gali": _gali,
    "jet_long": _jet_long,
    "linear": _linear,
    "ntk": _ntk,
    "rerope": _rerope,
    "self_extend": _self_extend,
    "string": _string,
    "yarn": _yarn,
}
