"""Other numbers in some layers: what a calibration moves once it has found those of all layers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from .search import Scores, ascend, blocks

__all__ = ["LayerSearch", "Values"]

Values = tuple[tuple[float, ...], ...]
"""Of each group of layers, from the first to the last, the numbers that are moved."""

_STEP = 2
"""What a number is multiplied or divided by, to go one step."""


@dataclass(frozen=True)
class LayerSearch:
    """A search from one setting for all layers.

    Attributes:
        setting: of all layers.
        keys: the parameters that are moved.
        layers: the model's layers that the method acts on, ascending.
        groups: of layers, which are moved together.
        fits: whether a setting makes a valid preset.
    """

    setting: Mapping[str, Any]
    keys: Sequence[str]
    layers: Sequence[int]
    groups: int
    fits: Callable[[Mapping[str, Any]], bool]

    def expected(self) -> int:
        """About how many settings are tried: two for each number and block, the setting of all layers left out."""
        return 2 * len(self.keys) * sum(1 for _ in blocks(self.groups))

    def find(self, scores: Scores[Values], samples: int) -> Values:
        """Move halves of the layers, then quarters, down to single groups, each as long as that is better."""
        best: Values = (self._common(),) * self.groups
        for block in blocks(self.groups):
            best = ascend(best, partial(self._moved, block=block), scores, samples)
        return best

    def with_values(self, values: Values) -> dict[str, Any]:
        """The setting in which groups of layers have these numbers."""
        common = self._common()
        entries: list[dict[str, Any]] = []
        for group, own in enumerate(values):
            start, stop = (round(len(self.layers) * edge / self.groups) for edge in (group, group + 1))
            changed = {key: value for key, value, of_all in zip(self.keys, own, common, strict=True) if value != of_all}
            before = entries[-1] if entries and entries[-1]["layers"][1] == self.layers[start - 1] else {}
            if changed and {key: value for key, value in before.items() if key != "layers"} == changed:
                before["layers"][1] = self.layers[stop - 1]
            elif changed:
                entries.append({"layers": [self.layers[start], self.layers[stop - 1]], **changed})
        own_layers = {"by_layer": entries} if entries else {}
        return {**self.setting, "parameters": {**self.setting["parameters"], **own_layers}}

    def _common(self) -> tuple[float, ...]:
        return tuple(self.setting["parameters"][key] for key in self.keys)

    def _moved(self, values: Values, block: range) -> Iterator[Values]:
        """The values with one number of a block of groups a step up or down, where that is valid."""
        for index in range(len(self.keys)):
            for step in (_STEP, 1 / _STEP):
                moved = [list(own) for own in values]
                for group in block:
                    number = moved[group][index]
                    moved[group][index] = max(1, round(number * step)) if isinstance(number, int) else number * step
                found = tuple(map(tuple, moved))
                if found != values and self.fits(self.with_values(found)):
                    yield found
