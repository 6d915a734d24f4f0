"""Parameters that some layers have of their own: `by_layer`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from ropext.converter.errors import Fault

from .schemas import schema_for

if TYPE_CHECKING:
    from ropext.converter.checkpoint.facts import ModelFacts

__all__ = ["KEY", "by_layer", "faults_by_layer", "layers_beyond", "of_other_layers"]

KEY = "by_layer"


def of_other_layers(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters of layers that have none of their own."""
    return {key: value for key, value in parameters.items() if key != KEY}


def by_layer(method: str, parameters: Mapping[str, Any]) -> Iterator[tuple[int, list[int], dict[str, Any]]]:
    """The entry's index, layers that are alike, and all of their parameters.

    Args:
        method: its name.
        parameters: valid by its schema.
    """
    properties = schema_for(method)["properties"]
    common = of_other_layers(parameters)
    for index, entry in enumerate(parameters.get(KEY, ())):
        first, last = entry["layers"]
        found: list[tuple[list[int], dict[str, Any]]] = []
        for layer in range(first, last + 1):
            values = _at((layer - first) / max(last - first, 1), entry, common, properties)
            if found and found[-1][1] == values:
                found[-1][0].append(layer)
            else:
                found.append(([layer], values))
        for layers, values in found:
            yield index, layers, values


def faults_by_layer(
    method: str, parameters: Mapping[str, Any], rules: Callable[[Mapping[str, Any]], Iterator[Fault]]
) -> Iterator[Fault]:
    """What is wrong with layers, or with parameters that some have of their own.

    Args:
        method: its name.
        parameters: valid by its schema.
        rules: what is wrong with the parameters of a layer.
    """
    unsound = list(_layer_faults(parameters))
    yield from unsound
    if unsound:
        return
    common = set(rules(of_other_layers(parameters)))
    told = set()
    for index, _, values in by_layer(method, parameters):
        for fault in rules(values):
            place = ("parameters", KEY, index, *fault.path[1:])
            if fault not in common and place not in told:
                told.add(place)
                yield Fault(place, fault.message)


def _layer_faults(parameters: Mapping[str, Any]) -> Iterator[Fault]:
    seen: dict[int, int] = {}
    for index, entry in enumerate(parameters.get(KEY, ())):
        first, last = entry["layers"]
        path = ("parameters", KEY, index, "layers")
        if last < first:
            yield Fault(path, f"is [{first}, {last}]; write the first layer first")
            return
        if last - first >= _MOST:
            yield Fault(path, f"is [{first}, {last}]: {last - first + 1} layers, and there are at most {_MOST}")
            return
        for layer in range(first, last + 1):
            if layer in seen:
                yield Fault(path, f"holds layer {layer}, as entry {seen[layer]} does; name each layer once")
                return
            seen[layer] = index


def layers_beyond(parameters: Mapping[str, Any], facts: ModelFacts) -> Iterator[Fault]:
    """Layers that a model does not have, or that no method acts on."""
    for index, entry in enumerate(parameters.get(KEY, ())):
        first, last = entry["layers"]
        path = ("parameters", KEY, index, "layers")
        if last >= facts.num_hidden_layers:
            yield Fault(path, f"goes to layer {last}, but the last of {facts.source} is {facts.num_hidden_layers - 1}")
        elif not any(first <= layer <= last for layer in facts.acted_layers):
            acted = ", ".join(map(str, facts.acted_layers))
            yield Fault(path, f"is [{first}, {last}], but methods act on these layers of {facts.source} alone: {acted}")


_MOST = 1024
"""Layers of a model."""


def _at(
    share: float, entry: Mapping[str, Any], common: Mapping[str, Any], properties: Mapping[str, Any]
) -> dict[str, Any]:
    """The parameters of a layer: where in its entry it stands is a share from 0, the first, to 1, the last."""
    values = dict(common)
    for key, value in entry.items():
        kind = properties.get(key, {}).get("type")
        if isinstance(value, Mapping):
            values[key] = {**common.get(key, {}), **value}
        elif isinstance(value, list) and kind in ("integer", "number"):
            on_curve = _bezier(value, share)
            values[key] = round(on_curve) if kind == "integer" else on_curve
        elif key != "layers":
            values[key] = value
    return values


def _bezier(points: Sequence[float], share: float) -> float:
    """A Bézier curve by its control points, after de Casteljau."""
    while len(points) > 1:
        points = [(1 - share) * a + share * b for a, b in pairwise(points)]
    return points[0]
