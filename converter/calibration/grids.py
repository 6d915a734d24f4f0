"""Settings of a method worth trying for a model and a length: the suggested ones first, then others near them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ropext.converter.methods import registry
from ropext.converter.methods.base import Grid, Wish
from ropext.converter.presets.fit import preset_faults

if TYPE_CHECKING:
    from ropext.converter.checkpoint.facts import ModelFacts

__all__ = ["settings"]


def settings(method: str, facts: ModelFacts, inv_freq: list[float], trained: int, target: int) -> list[dict[str, Any]]:
    """Settings to try, each as the keys of a preset that differ: `initial_window` and `parameters`.

    Args:
        method: one of `registry.SEARCHED`.
        facts: the model.
        inv_freq: its frequencies, radians per token [pairs].
        trained: initial window to begin with, tokens.
        target: length to read in the end, tokens.

    Returns:
        Valid ones only, the suggested one first; none where the method cannot reach the target.
    """
    grid, found = registry.method(method).grid, []
    for share in grid.windows if grid else ():
        window = int(trained * share)
        wish = Wish(facts, inv_freq, window, target)
        suggested = registry.suggest(method, wish)
        if grid and suggested and suggested.parameters is not None:
            others = grid.others(wish) if grid.others else ()
            for parameters in (*_near(grid, suggested.parameters), *others):
                found.append({"initial_window": window, "parameters": parameters})
    return [each for n, each in enumerate(found) if each not in found[:n] and _valid(each, method, target)]


def _near(grid: Grid, suggested: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for shares in product(*grid.around.values()):
        changed = {key: _times(suggested[key], share) for key, share in zip(grid.around, shares, strict=True)}
        kept = {key: value for key, value in suggested.items() if key not in grid.derived}
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
