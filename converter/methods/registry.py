"""Every method by its name: `yarn` is the file `yarn.py` beside this one, and what it calls `METHOD`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from ropext.converter.errors import Fault

from .base import Heads, Settings, Suggestion, Wish, parameter_fault
from .layers import KEY, by_layer, faults_by_layer, of_other_layers
from .schemas import METHODS

if TYPE_CHECKING:
    from ropext.converter.checkpoint.facts import ModelFacts
    from ropext.converter.preset import Preset

    from .base import Baked, Method, Rope

__all__ = [
    "FIXED_FREQUENCIES",
    "FREQUENCY_METHODS",
    "SEARCHED",
    "bake",
    "base_faults",
    "faults",
    "method",
    "size_faults",
    "spell",
    "suggest",
]


def method(name: str) -> Method:
    """What a method's file says.

    Raises:
        KeyError: there is no such method.
    """
    if name not in METHODS:
        raise KeyError(name)
    found: Method = import_module(f"{__package__}.{name}").METHOD
    return found


# A schema whose file is still missing here is named by tests/test_completeness.py.
_FOUND = {name: method(name) for name in METHODS if find_spec(f"{__package__}.{name}")}

FREQUENCY_METHODS = tuple(name for name, each in _FOUND.items() if each.spell)
"""The methods that change inverse frequencies and nothing else: what stock configuration keys can say."""

FIXED_FREQUENCIES = tuple(name for name in FREQUENCY_METHODS if not _FOUND[name].grows)
"""Those of them whose frequencies are the same at every length."""

SEARCHED = tuple(name for name, each in _FOUND.items() if each.grid)
"""The methods with a few numbers, which a calibration tries one setting after the other."""


def faults(name: str | None, settings: Settings) -> Iterator[Fault]:
    """What is wrong with a preset beyond its schema; None stands for a method that is not known."""
    yield from _window_faults(settings, within_trained=name is None or method(name).within_trained)

    def rules(parameters: Mapping[str, Any]) -> Iterator[Fault]:
        of_layer = replace(settings, parameters=parameters)
        yield from _length_faults(of_layer)
        if name is not None:
            yield from method(name).faults(of_layer)

    yield from rules(of_other_layers(settings.parameters))
    if name is not None:
        yield from faults_by_layer(name, settings.parameters, rules)


def _window_faults(settings: Settings, *, within_trained: bool) -> Iterator[Fault]:
    initial, target = settings.initial, settings.target
    if initial and target and (target < initial or (target == initial and not within_trained)):
        least = "at least" if within_trained else "more than"
        yield Fault(("target_window",), f"is {target}; it must be {least} initial_window ({initial})")


def _length_faults(settings: Settings) -> Iterator[Fault]:
    """Faults of the numbers of tokens that several methods have."""
    initial, target = settings.initial, settings.target
    window, beyond = settings.parameters.get("local_window"), settings.parameters.get("activate_beyond")
    if initial and window and window >= initial:
        yield parameter_fault("local_window", f"is {window}; it must be under initial_window ({initial})")
    if target and beyond and beyond >= target:
        message = f"is {beyond}: with target_window {target} the method would never act"
        yield parameter_fault("activate_beyond", f"{message}; lower it or leave it out")


def size_faults(name: str, parameters: Mapping[str, Any], head_dim: int, rotary_dim: int) -> Iterator[Fault]:
    """What does not fit heads of `head_dim` dimensions of which RoPE turns `rotary_dim`, two to a frequency pair."""
    heads = Heads(head_dim, rotary_dim)

    def rules(parameters: Mapping[str, Any]) -> Iterator[Fault]:
        return method(name).size_faults(parameters, heads)

    yield from rules(of_other_layers(parameters))
    yield from faults_by_layer(name, parameters, rules)


def base_faults(name: str, rope_type: str) -> Iterator[Fault]:
    """What does not go on top of a base whose RoPE is scaled already, by `rope_type`."""
    why = method(name).plain_base
    if why and rope_type != "default":
        *most, last = (each for each in FREQUENCY_METHODS if not method(each).plain_base)
        others = f"{', '.join(most)} and {last} go on top of such a scaling"
        yield Fault(("method",), f"is {name}, but the base is scaled by rope_type {rope_type}: {why}; {others}")


def bake(preset: Preset, facts: ModelFacts, base_inv_freq: Sequence[float]) -> Baked:
    """Compute what a preset leaves to be computed.

    Args:
        preset: one that fits the model.
        facts: the model.
        base_inv_freq: the base's frequencies, its own scaling included, radians per token [pairs].

    Raises:
        InvalidPreset: when a file that the preset names does not suit the model.
    """
    rule, inv_freq = method(preset.method).bake, [float(each) for each in base_inv_freq]
    baked = rule(replace(preset, parameters=of_other_layers(preset.parameters)), facts, inv_freq)
    own: dict[str, Any] = {KEY: []}
    for _, layers, parameters in by_layer(preset.method, preset.parameters):
        of_layers = rule(replace(preset, parameters=parameters), facts, inv_freq)
        own[KEY].append({"layers": layers, "parameters": of_layers.parameters})
    return replace(baked, parameters=baked.parameters | own) if own[KEY] else baked


def suggest(name: str, wish: Wish) -> Suggestion | None:
    """Parameters of a method for a model and a length, by its publication's rule; None for `original`."""
    rule = method(name).suggest
    if rule is None:
        return None
    for fault in base_faults(name, wish.facts.rope_type):
        return Suggestion(name, None, None, f"the base's own scaling stands against it: {fault.message}", "")
    return replace(rule(wish), reason=method(name).reason, measured=method(name).measured)


def spell(preset: Preset, facts: ModelFacts, baked: Baked) -> Rope:
    """The frequencies of one of `FREQUENCY_METHODS` in stock configuration keys.

    Raises:
        RopextError: stock keys cannot say these numbers.
    """
    rule = method(preset.method).spell
    if rule is None:
        raise KeyError(preset.method)
    return rule(preset, facts, baked)
