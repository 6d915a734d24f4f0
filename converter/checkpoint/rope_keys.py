"""What a configuration says of RoPE, in the spellings of transformers 4 and 5.

| | transformers 4 | transformers 5 |
|---|---|---|
| base | `rope_theta` | `rope_parameters.rope_theta` |
| scaling | `rope_scaling` | `rope_parameters` |
| part of a head | `partial_rotary_factor` | `rope_parameters.partial_rotary_factor` |
| layers of two kinds | `rope_scaling`, `rope_theta`: the full ones | `rope_parameters.full_attention` |

Transformers 5 reads both, and takes `rope_scaling` in place of the whole of `rope_parameters`; transformers 4 reads its
own alone. What is returned is as transformers 5 reads it. A configuration in which another place says something else is
two models, or has a number that is never read, and is refused.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ropext.converter.errors import RopextError

from .config_values import count, place_of, positive, refuse
from .family import Family
from .rope import attention_factor

__all__ = ["Rope", "read_rope"]

_ORIGINAL = "original_max_position_embeddings"
_FULL = "full_attention"
_LAYER_TYPES = (_FULL, "sliding_attention", "chunked_attention", "linear_attention", "hybrid", "hybrid_sliding")


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
        return attention_factor(self.scaling, self.place)

    @property
    def kind(self) -> str:
        """The `rope_type`."""
        return str(self.scaling["rope_type"])


_LOCAL_BASE = 10_000.0
"""What transformers 4 takes for layers with a window, where they have a base of their own and none is written."""


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
    _same_scaling(old, new, place)
    _same_local_base(config, family, place)
    return _Keys(config, family, place, head_dim, old, new).rope()


def _same_local_base(config: Mapping[str, Any], family: Family, place: str) -> None:
    """Refuse a base of layers with a window that only transformers 5 reads, beside keys of 4.

    Raises:
        RopextError: they say two.
    """
    nested, old = config.get("rope_parameters"), config.get("rope_scaling") or config.get("rope_theta")
    if family.per_type != "legacy" or family.theta is None or not old or not isinstance(nested, Mapping):
        return
    sliding = nested.get("sliding_attention")
    found = sliding.get("rope_theta") if isinstance(sliding, Mapping) else None
    if found is not None and found != (config.get("rope_local_base_freq") or _LOCAL_BASE):
        inside = place_of(place, "rope_parameters.sliding_attention.rope_theta")
        raise refuse(
            place, "rope_local_base_freq", f"has to be written, as {inside}: transformers 4 reads it nowhere else"
        )


@dataclass(frozen=True)
class _Keys:
    """RoPE's keys of a configuration.

    Attributes:
        config, family, place, head_dim: as given to `read_rope`.
        old: what `rope_scaling` says of the full layers.
        new: what `rope_parameters` says of them.
    """

    config: Mapping[str, Any]
    family: Family
    place: str
    head_dim: int | None
    old: Mapping[str, Any]
    new: Mapping[str, Any]

    def rope(self) -> Rope:
        """Return what the keys come to."""
        used = self._used()
        theta = self._agreed("base", self._theta(used), self._thetas())
        if self.old and theta != self.family.theta and not self._beside("rope_theta", self.family.theta_key):
            raise self._unread_by_4(self.family.theta_key, theta)
        partial = 1.0 if used["rope_type"] == "proportional" else self._part(used)
        scaling = {key: value for key, value in used.items() if key != "rope_theta"}
        if used["rope_type"] != "proportional":
            scaling.pop("partial_rotary_factor", None)
        return Rope(theta, self._completed(scaling), partial, self._where())

    def _used(self) -> dict[str, Any]:
        """Return the dictionary that transformers 5 goes by: the class's own where there is none."""
        if self.old:
            return {**self.new, **self.old} if self.family.per_type else dict(self.old)
        default = dict(self.family.rope or {})
        return dict(self.new) or {"rope_type": "default", **default.get(_FULL, default)}

    def _where(self) -> str:
        return place_of(self.place, "rope_scaling" if self.old else _new_key(self.family))

    def _beside(self, *keys: str) -> list[tuple[str, Any]]:
        """Return the values of keys outside the dictionaries, by dotted place."""
        return [(place_of(self.place, key), self.config[key]) for key in keys if self.config.get(key) is not None]

    def _inside(self, key: str) -> list[tuple[str, Any]]:
        """Return the values of a key of the dictionaries, by dotted place."""
        named = (("rope_scaling", self.old), (_new_key(self.family), self.new))
        return [(place_of(self.place, f"{name}.{key}"), found[key]) for name, found in named if key in found]

    def _agreed(self, what: str, value: float, stated: Sequence[tuple[str, float]]) -> float:
        """Return a number, if no place says another."""
        for place, other in stated:
            if other != value:
                raise RopextError(
                    f"config.json: {place} is {other:g}, but by {self._where()} RoPE's {what} is {value:g}: they "
                    "contradict each other, and versions of transformers would load two different models. Write the "
                    "right one in both places."
                )
        return value

    def _unread_by_4(self, key: str, value: float) -> RopextError:
        where = place_of(self.place, "rope_scaling")
        why = f"has to be written beside {where}, as {value:g}: transformers 4 reads it nowhere else"
        return refuse(self.place, key, why)

    # The base

    def _theta(self, used: Mapping[str, Any]) -> float:
        family = self.family
        beside = () if family.per_type is True else (family.theta_key,)
        stated = [(self._where(), used.get("rope_theta")), *self._beside(*beside)]
        for place, value in stated:
            if value is not None:
                return _above_one(place, value)
        if family.theta is None:
            why = f"has to be written: versions of transformers differ in what {family.model_type} means without it"
            raise refuse(self.place, family.theta_key, why)
        return float(family.theta)

    def _thetas(self) -> list[tuple[str, float]]:
        stated = [*self._beside(*{"rope_theta", self.family.theta_key}), *self._inside("rope_theta")]
        return [(place, _above_one(place, value)) for place, value in stated]

    # The part of each head

    def _part(self, used: Mapping[str, Any]) -> float:
        """Return which part of each head RoPE turns, 1.0 for whole heads."""
        family, key = self.family, "partial_rotary_factor"
        default = 1.0 if family.partial is None else family.partial
        if family.per_type and default != 1 and used["rope_type"] != "default" and key not in used:
            raise refuse(
                "", f"{self._where()}.{key}", f"has to be written, {default:g} by {family.model_type}'s default"
            )
        beside = [] if family.per_type else self._parts(self._beside(*family.partial_keys))
        inside = self._parts(self._inside(key))
        first = [*self._parts([(f"{self._where()}.{key}", used[key])] if key in used else []), *beside, ("", default)]
        everywhere = [*inside, *self._parts(self._beside(*{key, *family.partial_keys}))]
        value = self._agreed("part of each head", first[0][1], everywhere)
        if value > 1 or (value < 1 and family.partial is None):
            raise refuse(self.place, key, f"is {value:g}, but {family.model_type} turns whole heads")
        if key in self.old and value != default and not beside:
            raise self._unread_by_4(family.partial_keys[0] if family.partial_keys else key, value)
        return value

    def _parts(self, stated: Sequence[tuple[str, Any]]) -> list[tuple[str, float]]:
        """Return numbers of dimensions as parts of a head."""
        parts = [(place, positive(value, "", place)) for place, value in stated]
        width = self.head_dim or 1
        return [(place, value / width if place.endswith("rotary_dim") else value) for place, value in parts]

    # Numbers of a scaling

    def _completed(self, scaling: dict[str, Any]) -> dict[str, Any]:
        """Fill in the numbers that a scaling takes from beside its dictionary."""
        if scaling["rope_type"] not in ("llama3", "yarn", "longrope"):
            return scaling
        sizes = self.family.sizes
        longest = count(self.config, self.place, "max_position_embeddings", sizes and sizes.max_position_embeddings)
        beside = self._beside(_ORIGINAL)
        if scaling.get(_ORIGINAL) is None:
            # Only longrope's is read beside the dictionary by every version.
            scaling[_ORIGINAL] = beside[0][1] if beside and scaling["rope_type"] == "longrope" else longest
        original = positive(scaling[_ORIGINAL], self._where(), _ORIGINAL)
        self._agreed("original length", original, [(place, positive(value, "", place)) for place, value in beside])
        if scaling["rope_type"] in ("yarn", "longrope") and scaling.get("factor") is None:
            scaling["factor"] = longest / original
        return scaling


def _new_key(family: Family) -> str:
    return f"rope_parameters.{_FULL}" if family.per_type else "rope_parameters"


def _above_one(place: str, value: object) -> float:
    theta = positive(value, "", place)
    if theta <= 1:
        raise refuse("", place, f"{value!r} is not above 1: no pair would turn slower")
    return theta


# Dictionaries


def _dictionaries(config: Mapping[str, Any], family: Family, place: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return what `rope_scaling` and `rope_parameters` say of the full layers; empty where nothing."""
    written = config.get("rope_scaling")
    old = _dictionary(written, place, "rope_scaling", family)
    new = config.get("rope_parameters")
    if new is not None and not isinstance(new, Mapping):
        raise refuse(place, "rope_parameters", "expected a dictionary")
    nested = new is not None and any(_is_of_a_type(key, entry) for key, entry in new.items())
    if not family.per_type:
        if nested:
            why = f"one dictionary for each layer type, which {family.model_type} does not read; expected one for all"
            raise refuse(place, "rope_parameters", why)
        return old, _dictionary(new, place, "rope_parameters", family)
    if new and not nested:
        why = f"one dictionary for all layers, which {family.model_type} does not read; write {_FULL} and the others"
        raise refuse(place, "rope_parameters", why)
    if old and family.per_type != "legacy":
        raise refuse(place, "rope_scaling", f"{family.model_type} reads rope_parameters.{_FULL}; write it there")
    for kind, entry in (new or {}).items():
        _dictionary(entry, place, f"rope_parameters.{kind}", family)
    full = _of_full_layers(new, family, place) if new is not None else {}
    _refuse_unread(written, full, place)
    return old, full


def _of_full_layers(parameters: Mapping[str, Any], family: Family, place: str) -> dict[str, Any]:
    full = _dictionary(parameters.get(_FULL), place, f"rope_parameters.{_FULL}", family)
    if not full and family.per_type != "legacy":
        raise refuse(place, f"rope_parameters.{_FULL}", "is missing, so its full layers have no rotary positions")
    return full


def _refuse_unread(old: object, full: Mapping[str, Any], place: str) -> None:
    """Refuse what transformers 5 does not read where each layer type has a dictionary, and transformers 4 does."""
    if isinstance(old, Mapping) and old and "rope_type" not in old:
        raise refuse(
            place, "rope_scaling.rope_type", "is missing, and transformers 5 does not read type here; write it"
        )
    for name, found in (("rope_scaling", old), (f"rope_parameters.{_FULL}", full)):
        if isinstance(found, Mapping) and found.get("truncate") is False:
            raise refuse(place, f"{name}.truncate", "is false, which transformers 5 does not read here")


def _is_of_a_type(key: str, entry: object) -> bool:
    return key in _LAYER_TYPES or isinstance(entry, Mapping)


def _dictionary(value: object, place: str, key: str, family: Family) -> dict[str, Any]:
    """Return one of the dictionaries, with its `rope_type` and without what is null."""
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
    _refuse_doubtful(value, found, place_of(place, key))
    return found


_OLD_NAMES = {"mrope": "default", "su": "longrope"}
"""Names of kinds that `type` had, by what they are called today."""


def _refuse_doubtful(written: Mapping[str, Any], found: Mapping[str, Any], place: str) -> None:
    """Refuse a dictionary that says two things, or one that stock classes do not read.

    Args:
        written: the dictionary.
        found: what it comes to.
        place: its dotted place.

    Raises:
        RopextError: it says which and what to do.
    """
    old, kind = written.get("type"), found.get("rope_type")
    if old is not None and kind not in (old, _OLD_NAMES.get(str(old))):
        raise refuse(
            place,
            "type",
            f"is {old!r} and rope_type is {kind!r}: they contradict each other, and versions of transformers and other "
            "runtimes read one or the other. Keep the right one",
        )
    if kind == "default" and found.get("factor", 1) != 1:
        raise refuse(
            place,
            "factor",
            f"is {found['factor']!r}, which unscaled RoPE does not read: write the rope_type that it belongs to, or "
            "remove it",
        )
    if not isinstance(written.get("truncate", True), bool):
        raise refuse(place, "truncate", f"{json.dumps(written['truncate'])} is neither true nor false; write one")


def _same_scaling(old: Mapping[str, Any], new: Mapping[str, Any], place: str) -> None:
    """Refuse two dictionaries that differ in more than what `_Keys` compares one by one."""
    apart = ("rope_theta", "partial_rotary_factor")
    first, second = ({key: each[key] for key in each if key not in apart} for each in (old, new))
    if old and new and first != second:
        key = next(key for key in sorted({**first, **second}) if first.get(key) != second.get(key))
        raise RopextError(
            f"config.json: {place_of(place, 'rope_scaling')} and {place_of(place, 'rope_parameters')} contradict each "
            f"other ({key}: {first.get(key)!r} and {second.get(key)!r}); transformers 4 and 5 would load two different "
            "models. Keep the right one and remove the other."
        )
