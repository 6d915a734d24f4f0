"""Which method to take for a model and a length, the best first.

The rule, in this order:

1. Methods that do not apply come last, each with its reason.
2. Methods that keep near distances exact and compress only those beyond stand before tables of frequencies, which
   change every distance. Where another runtime has to read stock keys, only tables apply, and those that are the same
   at every length stand first: not every runtime computes the others (docs/native.md).
3. Within these, by how sure SmolLM2 is of the right answers beyond its trained length (docs/smollm2.md); what was
   not measured comes after what was.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from ropext.converter.methods import registry
from ropext.converter.methods.base import Suggestion, Wish
from ropext.converter.methods.schemas import METHODS

from .bound import rope_bound
from .fit import check_fit
from .load import list_presets, make_preset

if TYPE_CHECKING:
    from ropext.converter.checkpoint.facts import ModelFacts
    from ropext.converter.preset import Preset

__all__ = ["recommend"]


def recommend(
    facts: ModelFacts, inv_freq: list[float], target: int, trained: int | None = None, *, native: bool = False
) -> list[Suggestion]:
    """Suggest parameters of every method for a model and a length, the best first.

    Args:
        facts: the model.
        inv_freq: its frequencies, its own scaling included, radians per token [pairs].
        target: N, tokens.
        trained: M, tokens; the model's own by default.
        native: whether stock configuration keys have to say it all.

    Returns:
        One for each method but `original`; those without parameters do not apply.
    """
    trained = trained or facts.trained_length
    wish = Wish(facts, inv_freq, trained, target, tuple(_fitting(facts, trained, target)))
    found = [_suggestion(name, wish, native=native) for name in METHODS]
    return sorted(filter(None, found), key=lambda each: _place(each, native=native))


def _fitting(facts: ModelFacts, trained: int, target: int) -> list[Preset]:
    """The shipped presets that fit a model and reach a length, the nearest target first."""
    reaching = [each for each in list_presets() if each.target_window >= target and each.initial_window <= trained]
    return sorted((each for each in reaching if not check_fit(each, facts)), key=lambda each: each.target_window)


def _suggestion(name: str, wish: Wish, *, native: bool) -> Suggestion | None:
    found = registry.suggest(name, wish)
    if found is None:
        return None
    if native and name not in registry.FREQUENCY_METHODS:
        return replace(found, parameters=None, reach=None, why="it changes attention, which stock keys cannot say")
    bound = _bound(found, wish) if found.parameters is not None and name in registry.FIXED_FREQUENCIES else None
    return replace(found, bound=bound, presets=tuple(each.name for each in wish.presets if each.method == name))


def _bound(found: Suggestion, wish: Wish) -> int | None:
    keys = {"name": found.method, "description": found.method, "base_model": found.method, "method": found.method}
    windows = {"initial_window": wish.trained, "target_window": wish.target, "parameters": found.parameters}
    baked = registry.bake(make_preset({**keys, **windows}), wish.facts, wish.inv_freq)
    return rope_bound(baked.inv_freq, 2 * wish.target)


def _place(suggestion: Suggestion, *, native: bool) -> tuple[bool, bool, float, str]:
    measured = -suggestion.measured if suggestion.measured is not None else float("inf")
    behind = registry.method(suggestion.method).grows if native else suggestion.method in registry.FREQUENCY_METHODS
    return suggestion.parameters is None, behind, measured, suggestion.method
