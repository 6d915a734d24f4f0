"""What a configuration says of RoPE, in the spellings of transformers 4 and 5.

| | transformers 4 | transformers 5 |
|---|---|---|
| base | `rope_theta` | `rope_parameters.rope_theta` |
| scaling | `rope_scaling` | `rope_parameters` |
| part of a head | `partial_rotary_factor` | `rope_parameters.partial_rotary_factor` |
| layers of two kinds | `rope_scaling`, `rope_theta`: the full ones | `rope_parameters.full_attention` |

Transformers 5 reads both, and takes `rope_scaling` in place of the whole of `rope_parameters`; transformers 4 reads its
own alone. A configuration in which two places contradict each other is two models, and refused.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from .config_values import count, place_of, positive, refuse
from .errors import RopextError
from .family import Family
from .rope import attention_factor

__all__ = ["Rope", "read_rope"]

_ORIGINAL = "original_max_position_embeddings"
_FULL = "full_attention"
_LAYER_TYPES = (_FULL, "sliding_attention", "chunked_attention", "linear_attention", "hybrid", "hybrid_sliding")

_Stated = tuple[str, float]
"""A dotted place and what it says."""


@dataclass(frozen=True)
class Rope:
    """RoPE of a model's full layers, as the base has it.

    Attributes:
        theta: its base.
        scaling: `rope_type`, `default` where there is no scaling, and the numbers that go with it.
        partial: the part of each head that is turned.
        place: the dotted place of `scaling`, for messages.
    """

    theta: float
    scaling: dict[str, Any]
    partial: float
    place: str

    @property
    def attention_factor(self) -> float:
        """What stock code multiplies turned queries and keys by, each."""
        return attention_factor(self.scaling)

    @property
    def kind(self) -> str:
        """The `rope_type`."""
        return str(self.scaling["rope_type"])


def read_rope(config: Mapping[str, Any], family: Family, place: str = "", head_dim: int | None = None) -> Rope:
    """Read RoPE of the layers with full attention.

    Args:
        config: the configuration of the (text) model.
        family: its family.
        place: where that configuration is, for messages.
        head_dim: the width of a head, for families that write how many of its dimensions are turned.

    Raises:
        RopextError: two places contradict each other, a number is missing or out of range, or what is written is not
            what the family's class reads.
    """
    old, new = _dictionaries(config, family, place)
    where, used = _effective(old, new, family, place)
    _same_scaling(old, new, place)
    theta = _agreed(_stated_thetas(config, family, place, old, new), where, _theta(config, family, place, used), "base")
    partial = _partial(config, family, place, (old, new), used, head_dim)
    scaling = {key: value for key, value in used.items() if key != "rope_theta"}
    if scaling["rope_type"] != "proportional":
        scaling.pop("partial_rotary_factor", None)
    return Rope(theta, _complete(scaling, config, family, place, where), partial, where)


# Dictionaries


def _dictionaries(config: Mapping[str, Any], family: Family, place: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return what `rope_scaling` and `rope_parameters` say of the full layers; empty where nothing."""
    old = _dictionary(config.get("rope_scaling"), place, "rope_scaling", family)
    value = config.get("rope_parameters")
    nested = isinstance(value, Mapping) and any(_is_of_a_type(key, entry) for key, entry in value.items())
    if not family.per_type:
        if nested:
            why = f"one dictionary for each layer type, which {family.model_type} does not read; expected one for all"
            raise refuse(place, "rope_parameters", why)
        return old, _dictionary(value, place, "rope_parameters", family)
    if value and not nested:
        why = f"one dictionary for all layers, which {family.model_type} does not read; write {_FULL} and the others"
        raise refuse(place, "rope_parameters", why)
    if old and family.per_type != "legacy":
        raise refuse(place, "rope_scaling", f"{family.model_type} reads rope_parameters.{_FULL}; write it there")
    if not isinstance(value, Mapping):
        return old, {}
    full = _dictionary(value.get(_FULL), place, f"rope_parameters.{_FULL}", family)
    if not full and family.per_type != "legacy":
        raise refuse(place, f"rope_parameters.{_FULL}", "is missing, so its full layers have no rotary positions")
    if full.get("truncate") is False:
        raise refuse(place, f"rope_parameters.{_FULL}.truncate", "is false, which transformers 5 does not read there")
    return old, full


def _is_of_a_type(key: str, entry: object) -> bool:
    return key in _LAYER_TYPES or isinstance(entry, Mapping)


def _dictionary(value: object, place: str, key: str, family: Family) -> dict[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, Mapping) or any(_is_of_a_type(name, entry) for name, entry in value.items()):
        raise refuse(place, key, "expected one dictionary of numbers")
    found = {name: entry for name, entry in value.items() if entry is not None and name != "type"}
    kind = found.get("rope_type", value.get("type"))
    if value and not isinstance(found.setdefault("rope_type", "default" if kind is None else kind), str):
        raise refuse(place, f"{key}.rope_type", f"{kind!r} is not a name")
    if found.get("rope_type") == "mrope" and family.multi_axis:
        found["rope_type"] = "default"
    return found


def _effective(old: dict[str, Any], new: dict[str, Any], family: Family, place: str) -> tuple[str, dict[str, Any]]:
    """Return the dictionary that transformers 5 goes by, and its dotted place."""
    new_place = place_of(place, f"rope_parameters.{_FULL}" if family.per_type else "rope_parameters")
    if old:
        return place_of(place, "rope_scaling"), {**new, **old} if family.per_type else dict(old)
    if new:
        return new_place, dict(new)
    default = dict(family.rope or {})
    return new_place, {"rope_type": "default", **(default.get(_FULL, default))}


def _same_scaling(old: dict[str, Any], new: dict[str, Any], place: str) -> None:
    """Refuse two dictionaries that differ in more than what `read_rope` compares one by one."""
    apart = ("rope_theta", "partial_rotary_factor")
    first, second = ({key: each[key] for key in each if key not in apart} for each in (old, new))
    if old and new and first != second:
        key = next(key for key in sorted({**first, **second}) if first.get(key) != second.get(key))
        raise RopextError(
            f"config.json: {place_of(place, 'rope_scaling')} and {place_of(place, 'rope_parameters')} contradict each "
            f"other ({key}: {first.get(key)!r} and {second.get(key)!r}); transformers 4 and 5 would load two different "
            "models. Keep the right one and remove the other."
        )


# Numbers


def _agreed(stated: Iterable[_Stated], where: str, value: float, what: str) -> float:
    """Return a number, if no place says another."""
    for place, other in stated:
        if other != value:
            raise RopextError(
                f"config.json: {place} is {other:g}, but by {where} RoPE's {what} is {value:g}: they contradict each "
                "other, and transformers 4 and 5 would load two different models. Write the right one in both places."
            )
    return value


def _theta(config: Mapping[str, Any], family: Family, place: str, used: Mapping[str, Any]) -> float:
    if used.get("rope_theta") is not None:
        return _above_one(used["rope_theta"], place, "rope_theta")
    if config.get(family.theta_key) is not None:
        return _above_one(config[family.theta_key], place, family.theta_key)
    if family.theta is None:
        why = f"has to be written: versions of transformers differ in what {family.model_type} means without it"
        raise refuse(place, family.theta_key, why)
    return family.theta


def _stated_thetas(
    config: Mapping[str, Any], family: Family, place: str, old: Mapping[str, Any], new: Mapping[str, Any]
) -> list[_Stated]:
    new_name = f"rope_parameters.{_FULL}" if family.per_type else "rope_parameters"
    places: list[tuple[str, Any]] = [(key, config.get(key)) for key in dict.fromkeys(("rope_theta", family.theta_key))]
    places += [
        (f"{name}.rope_theta", each.get("rope_theta")) for name, each in (("rope_scaling", old), (new_name, new))
    ]
    return [(place_of(place, key), _above_one(value, place, key)) for key, value in places if value is not None]


def _above_one(value: object, place: str, key: str) -> float:
    theta = positive(value, place, key)
    if theta <= 1:
        raise refuse(place, key, f"{value!r} is not above 1: no pair would turn slower")
    return theta


def _partial(
    config: Mapping[str, Any],
    family: Family,
    place: str,
    dictionaries: tuple[Mapping[str, Any], Mapping[str, Any]],
    used: Mapping[str, Any],
    head_dim: int | None,
) -> float:
    """Return which part of each head RoPE turns, 1.0 for whole heads."""
    if used.get("rope_type") == "proportional":
        return 1.0
    stated = _stated_partials(config, family, place, dictionaries, head_dim)
    inside = used.get("partial_rotary_factor")
    if inside is not None:
        value = positive(inside, place, "partial_rotary_factor")
    elif stated and not family.per_type:
        value = stated[0][1]
    else:
        value = 1.0 if family.partial is None else family.partial
    _agreed(stated, "what is read first", value, "part of each head")
    if value > 1 or (value < 1 and family.partial is None):
        why = f"is {value:g}, but {family.model_type} turns whole heads"
        raise refuse(place, "partial_rotary_factor", why)
    return value


def _stated_partials(
    config: Mapping[str, Any],
    family: Family,
    place: str,
    dictionaries: tuple[Mapping[str, Any], Mapping[str, Any]],
    head_dim: int | None,
) -> list[_Stated]:
    key, names = "partial_rotary_factor", ("rope_scaling", "rope_parameters")
    places: list[tuple[str, Any]] = [(family.partial_key, config.get(family.partial_key))]
    if family.partial_key != key:
        places.append((key, config.get(key)))
    places += [(f"{name}.{key}", each.get(key)) for name, each in zip(names, dictionaries, strict=True)]
    stated = [(place_of(place, name), positive(value, place, name)) for name, value in places if value is not None]
    if family.partial_key == "rotary_dim" and head_dim:
        return [(name, value / head_dim if name.endswith("rotary_dim") else value) for name, value in stated]
    return stated


def _complete(
    scaling: dict[str, Any], config: Mapping[str, Any], family: Family, place: str, where: str
) -> dict[str, Any]:
    """Fill in the numbers that a scaling takes from beside its dictionary."""
    if scaling["rope_type"] not in ("llama3", "yarn", "longrope"):
        return scaling
    inside, beside = scaling.get(_ORIGINAL), config.get(_ORIGINAL)
    if inside is not None and beside is not None and inside != beside:
        raise RopextError(
            f"config.json: {place_of(place, _ORIGINAL)} is {beside!r} and {where}.{_ORIGINAL} is {inside!r}: they "
            "contradict each other, and transformers 4 and 5 go by different ones. Write the right one in both places."
        )
    longest = count(config, place, "max_position_embeddings", family.sizes and family.sizes.max_position_embeddings)
    original = beside if inside is None else inside
    original = longest if original is None else original
    completed = {**scaling, _ORIGINAL: original}
    if scaling["rope_type"] in ("yarn", "longrope") and scaling.get("factor") is None:
        completed["factor"] = longest / positive(original, where, _ORIGINAL)
    return completed
