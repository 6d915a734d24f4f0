"""Settings of a method worth trying for a model and a length: the suggested ones first, then others near them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ropext.converter.methods.rules import preset_faults
from ropext.converter.methods.suggestions import suggest

if TYPE_CHECKING:
    from ropext.converter.checkpoint.facts import ModelFacts

__all__ = ["SEARCHED", "settings"]


def settings(method: str, facts: ModelFacts, inv_freq: list[float], trained: int, target: int) -> list[dict[str, Any]]:
    """Settings to try, each as the keys of a preset that differ: `initial_window` and `parameters`.

    Args:
        method: one of `SEARCHED`.
        facts: the model.
        inv_freq: its frequencies, radians per token [pairs].
        trained: initial window to begin with, tokens.
        target: length to read in the end, tokens.

    Returns:
        Valid ones only, the suggested one first; none where the method cannot reach the target.
    """
    found = []
    for window in (trained, trained // 2) if method in _WITH_SMALLER_WINDOW else (trained,):
        (suggested,) = (each for each in suggest(facts, inv_freq, target, window) if each.method == method)
        if suggested.parameters is not None:
            for parameters in _near(method, suggested.parameters):
                found.append({"initial_window": window, "parameters": parameters})
    return [each for n, each in enumerate(found) if each not in found[:n] and _valid(each, method, target)]


_AROUND: Mapping[str, Mapping[str, tuple[float, ...]]] = {
    "dca": {"chunk_size": (1, 2 / 3), "local_window": (1, 0.5)},
    "dynamic_ntk": {"scaling_factor": (1, 1.5, 2)},
    "gali": {"chunk_size": (1, 2, 3), "local_window": (1, 8)},
    "jet_long": {"window": (1, 2 / 3, 0.5), "local_window": (1, 0.5)},
    "linear": {"scaling_factor": (1, 1.5, 2)},
    "ntk": {"scaling_factor": (1, 1.5, 2)},
    "rerope": {"local_window": (1, 0.5, 2, 4)},
    "self_extend": {"group_size": (1, 0.75, 1.5, 2), "local_window": (1, 0.5, 2)},
    "string": {"shift": (1, 1.5), "local_window": (1, 0.25, 4)},
    "yarn": {"scaling_factor": (1, 1.5, 2)},
}
"""What suggested values are multiplied by: the ranges that publications searched, about the suggested value."""

_WITH_SMALLER_WINDOW = ("gali",)
"""GALI's authors: an initial window under the trained length often scores better."""

SEARCHED = tuple(_AROUND)
"""Methods with a few numbers, that a search goes through one setting after the other."""


def _near(method: str, suggested: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    around = _AROUND[method]
    for shares in product(*around.values()):
        changed = {key: _times(suggested[key], share) for key, share in zip(around, shares, strict=True)}
        # What the formula derives from a scaling factor is derived anew.
        kept = {key: value for key, value in suggested.items() if key != "attention_factor"}
        yield {**kept, **changed}


def _times(value: float, share: float) -> float:
    return max(1, round(value * share)) if isinstance(value, int) else value * share


def _valid(setting: Mapping[str, Any], method: str, target: int) -> bool:
    preset = {
        "name": method,
        "description": method,
        "base_model": method,
        "target_window": target,
        "method": method,
        **setting,
    }
    return not preset_faults(preset, Path())
