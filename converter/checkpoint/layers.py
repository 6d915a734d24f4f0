"""Which layers of a model a method acts on: those with full attention and rotary positions.

How a configuration says so (`Family.layers`):

| rule | full attention |
|---|---|
| every | every layer |
| double | every layer, of which each of `num_layers` blocks has two |
| window | every layer that has attention; all of them slide if `sliding_window` is set |
| types | those that `layer_types` calls full; by default the family's pattern |
| tail | the same; by default the first `max_window_layers`, and all without a window |
| alternate | the same; by default every other one of the first `max_window_layers`, and all beyond them |
| indices | the same; by default those in a list |

A window counts only with `use_sliding_window` where a family has that (`Family.window_switch`).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import cycle, islice
from typing import Any

from ropext.converter.errors import RopextError

from .config_values import count, optional_count, refuse
from .family import Family

__all__ = ["MAX_LAYERS", "Layers", "kinds_of", "layers_of"]

MAX_LAYERS = 65_536


@dataclass(frozen=True)
class Layers:
    """The layers of a model.

    Attributes:
        count: layers in all.
        full: indices of those with full attention and rotary positions.
        window: tokens that those see, where a sliding window has to be turned off to make their attention full.
    """

    count: int
    full: tuple[int, ...]
    window: int | None = None


def layers_of(config: Mapping[str, Any], family: Family, place: str = "") -> Layers:
    """Find the layers that a method acts on.

    Args:
        config: the configuration of the (text) model.
        family: its family.
        place: where that configuration is, for messages.

    Returns:
        The layers. If all attention layers slide, they are the sliding ones, with the window; not where sliding
        layers have frequencies of their own.

    Raises:
        RopextError: there are none, or the configuration does not say.
    """
    total = _total(config, family, place)
    kinds = _kinds(config, family, place, total)
    window = _window(config, family, place)
    full = [index for index, kind in enumerate(kinds) if kind == "f"]
    sliding = [index for index, kind in enumerate(kinds) if kind == "s"]
    if full:
        rotary = [index for index in full if _is_rotary(config, family, place, index)]
        if not rotary:
            raise RopextError(f"config.json: {_where(place)}its layers with full attention have no rotary positions.")
        return Layers(total, tuple(rotary))
    if sliding and window and not family.per_type:
        return Layers(total, tuple(sliding), window)
    raise RopextError(f"config.json: {_where(place)}none of its {total} layers has full attention.")


def kinds_of(config: Mapping[str, Any], family: Family, place: str = "") -> tuple[str, int | None]:
    """Find what attention every layer has.

    Args:
        config: the configuration of the (text) model.
        family: its family.
        place: where that configuration is, for messages.

    Returns:
        One letter for each layer: f(ull), s(liding), l(inear), c(onvolution); and the window of those that slide.

    Raises:
        RopextError: the configuration does not say.
    """
    kinds, window = _kinds(config, family, place, _total(config, family, place)), _window(config, family, place)
    return (kinds, window) if window else (kinds.replace("s", "f"), None)


def _where(place: str) -> str:
    return f"{place}: " if place else ""


def _total(config: Mapping[str, Any], family: Family, place: str) -> int:
    key, times = ("num_layers", 2) if family.layers == "double" else ("num_hidden_layers", 1)
    total = times * count(config, place, key, family.sizes.num_hidden_layers if family.sizes else None)
    if total > MAX_LAYERS:
        raise refuse(place, key, f"{total} layers are more than any model has")
    return total


def _window(config: Mapping[str, Any], family: Family, place: str) -> int | None:
    if family.window_switch:
        switch = config.get("use_sliding_window")
        if not isinstance(switch, bool | None):
            raise refuse(place, "use_sliding_window", f"{json.dumps(switch)} is neither true nor false; write one")
        if not switch:
            return None
    if config.get("sliding_window") == 0:
        zero = json.dumps(config["sliding_window"])
        raise refuse(place, "sliding_window", f"is {zero}, by which a layer would see no token; null turns it off")
    return optional_count(config, place, "sliding_window", family.window)


# Kinds of layers


_KINDS = {
    "full_attention": "f",
    "attention": "f",
    "sliding_attention": "s",
    "linear_attention": "l",
    "mamba": "l",
    "conv": "c",
}
"""Letters for the names in `layer_types`; transformers 5 renamed `attention` and `mamba`."""


def _kinds(config: Mapping[str, Any], family: Family, place: str, total: int) -> str:
    """Return one letter for each layer: f(ull), s(liding), l(inear), c(onvolution)."""
    if family.layers in ("every", "double"):
        return "f" * total
    if family.layers == "window":
        kinds = "f" * total if family.pattern == "f" else _typed_kinds(config, family, place, total)
        return kinds.replace("f", "s") if _window(config, family, place) else kinds
    return _typed_kinds(config, family, place, total)


def _typed_kinds(config: Mapping[str, Any], family: Family, place: str, total: int) -> str:
    for key in ("layer_types", "layers_block_type"):
        if config.get(key) is not None:
            kinds = _written_kinds(config[key], family, place, key, total)
            if family.layers == "indices" and config.get(family.layers_key) is not None:
                _require_same(kinds, _by_indices(config, family, place, total), family, place)
            return kinds
    return _DEFAULTS.get(family.layers, _by_pattern)(config, family, place, total)


def _require_same(written: str, listed: str, family: Family, place: str) -> None:
    """Refuse a list of full layers that is not that of the names of all.

    Raises:
        RopextError: they name different layers.
    """
    if [kind == "f" for kind in written] != [kind == "f" for kind in listed]:
        why = "names other layers than layer_types: they contradict each other. Keep the right one"
        raise refuse(place, family.layers_key, why)


def _written_kinds(names: object, family: Family, place: str, key: str, total: int) -> str:
    if not isinstance(names, list) or len(names) != total:
        raise refuse(place, key, f"expected one name for each of the {total} layers")
    allowed = set("fs" + family.pattern)
    for name in names:
        if not isinstance(name, str) or _KINDS.get(name) not in allowed:
            raise refuse(place, key, f"{name!r} is no kind of layer that {family.model_type} has")
    return "".join(_KINDS[name] for name in names)


def _by_pattern(config: Mapping[str, Any], family: Family, place: str, total: int) -> str:
    pattern = family.pattern
    if family.layers_key and config.get(family.layers_key) is not None:
        pattern = pattern[0] * (count(config, place, family.layers_key) - 1) + "f"
    pattern = pattern.replace("w", "s" if _window(config, family, place) else "f")
    first, _, repeated = pattern.rpartition("|")
    return "".join(islice([*first, *islice(cycle(repeated), total)], total))


def _by_tail(config: Mapping[str, Any], family: Family, place: str, total: int) -> str:
    if not _window(config, family, place):
        return "f" * total
    kept = min(total, _window_layers(config, family, place))
    return "f" * kept + "s" * (total - kept)


def _by_turns(config: Mapping[str, Any], family: Family, place: str, total: int) -> str:
    if not _window(config, family, place):
        return "f" * total
    kept = _window_layers(config, family, place)
    return "".join("s" if index % 2 == 0 and index < kept else "f" for index in range(total))


def _window_layers(config: Mapping[str, Any], family: Family, place: str) -> int:
    value = config.get("max_window_layers", family.window_layers)
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise refuse(place, "max_window_layers", f"{value!r} is not a number of layers")
    return value


def _by_indices(config: Mapping[str, Any], family: Family, place: str, total: int) -> str:
    indices = config.get(family.layers_key)
    if indices is None:
        return family.pattern[0] * total
    if not isinstance(indices, list) or not all(type(each) is int and 0 <= each < total for each in indices):
        raise refuse(place, family.layers_key, f"expected indices of the {total} layers")
    return "".join("f" if index in indices else family.pattern[-1] for index in range(total))


_Default = Callable[[Mapping[str, Any], Family, str, int], str]
_DEFAULTS: Mapping[str, _Default] = {
    "tail": _by_tail,
    "alternate": _by_turns,
    "indices": _by_indices,
}


# Rotary positions of full layers


def _is_rotary(config: Mapping[str, Any], family: Family, place: str, index: int) -> bool:
    """Whether a layer with full attention turns its queries and keys."""
    if family.nope == "sliding_window":
        return _window(config, family, place) is None
    if family.nope == "position_embedding_type":
        return config.get("position_embedding_type") == "rope"
    if family.nope == "no_rope_layers" and config.get(family.nope) is None:
        return (index + 1) % count(config, place, "no_rope_layer_interval", 4) != 0
    if not family.nope or config.get(family.nope) is None:
        return True
    marks = config[family.nope]
    if not isinstance(marks, list) or len(marks) <= index:
        raise refuse(place, family.nope, "expected one number for each layer")
    return bool(marks[index])
