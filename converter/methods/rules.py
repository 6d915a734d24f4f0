"""What is wrong with a preset: what its schema says, in words, and what no schema can say.

Everything here takes plain data and returns faults; files and lines are put to them by `presets`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

from jsonschema import Draft7Validator
from jsonschema.exceptions import ValidationError
from jsonschema.validators import extend

from ropext.converter.checkpoint.families import FAMILIES
from ropext.converter.errors import Fault, KeyPath
from ropext.converter.text import did_you_mean

from .schemas import METHODS, fill_defaults, preset_schema, schema_for

__all__ = ["base_faults", "group_size", "preset_faults", "self_extend_reach", "size_faults"]


def preset_faults(data: Any, directory: Path) -> list[Fault]:
    """Everything wrong with a preset on its own, before any model is looked at.

    Args:
        data: the parsed preset, of any type.
        directory: where files beside the preset are looked for.
    """
    faults = schema_faults(data)
    if isinstance(data, Mapping):
        faults += _rule_faults(_usable(data, faults), directory)
    return faults


def size_faults(method: str, parameters: Mapping[str, Any], head_dim: int, rotary_dim: int) -> Iterator[Fault]:
    """What does not fit heads of `head_dim` dimensions of which RoPE turns `rotary_dim`, two to a frequency pair."""
    pairs = rotary_dim // 2
    size, half = f"head_dim {head_dim}", "head_dim/2"
    if rotary_dim < head_dim:
        size, half = f"{rotary_dim} of head_dim {head_dim} turned", f"{rotary_dim} turned dimensions/2"
    groups, top_k, factors = (parameters.get(key) for key in ("dimension_groups", "top_k", "scaling_factors"))
    if method in ("ntk", "dynamic_ntk") and pairs < 2:
        yield Fault(("method",), f"is {method}, which has nothing to scale in a single pair of dimensions; take linear")
    if method == "dpe" and groups and groups[-1] != pairs:
        yield _parameter("dimension_groups", f"ends at {groups[-1]}; end it at {half} = {pairs}")
    if method == "dpe" and top_k and top_k > pairs:
        yield _parameter("top_k", f"is {top_k}, but {size} has {pairs} pairs; choose at most {pairs}")
    if method == "dprope" and factors and len(factors) != pairs:
        yield _parameter("scaling_factors", f"has {len(factors)} factors; give one for each of {pairs} pairs")


def base_faults(method: str, rope_type: str) -> Iterator[Fault]:
    """What does not go on top of a base whose RoPE is scaled already, by `rope_type`."""
    why = _PLAIN_ONLY.get(method)
    if why and rope_type != "default":
        others = "linear, ntk and dprope go on top of such a scaling"
        yield Fault(("method",), f"is {method}, but the base is scaled by rope_type {rope_type}: {why}; {others}")


_PLAIN_ONLY = {
    "yarn": "it finds the pairs to keep from theta, which no longer says how often they turn",
    "dynamic_ntk": "its theta grows with the length, and the base's frequencies do not follow from theta alone",
}


# What the schema says


def schema_faults(data: Any) -> list[Fault]:
    """What the preset's schema and its method's find wrong, each fault once."""
    return list(dict.fromkeys(fault for error in _validator().iter_errors(data) for fault in _explain(error)))


@cache
def _validator() -> Draft7Validator:
    # JSON Schema calls 3.0 an integer; what is written into config.json must be one.
    checker = Draft7Validator.TYPE_CHECKER.redefine(
        "integer", lambda _, value: isinstance(value, int) and not isinstance(value, bool)
    )
    strict: type[Draft7Validator] = extend(  # type: ignore[no-untyped-call]
        Draft7Validator, validators={"uniqueItems": _unique}, type_checker=checker
    )
    return strict(preset_schema())


def _unique(validator: Any, wanted: bool, value: Any, schema: Any) -> Iterator[ValidationError]:
    """The library's own compares every pair: minutes for thousands of items."""
    if wanted and isinstance(value, list):
        texts = {json.dumps(item, sort_keys=True) for item in value}
        if len(texts) < len(value):
            yield ValidationError("names something twice")


_TYPES = {
    "integer": "a whole number",
    "number": "a number",
    "string": "text",
    "boolean": "true or false",
    "array": "a list",
    "object": "a group of keys",
}


def _explain(error: ValidationError) -> Iterator[Fault]:
    path: KeyPath = tuple(error.absolute_path)
    explain = _EXPLAIN.get(str(error.validator))
    if explain is None:
        yield Fault(path, error.message)
    else:
        yield from explain(path, error.validator_value, error.instance, error.schema)


def _show(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else text[:57] + "..."


def _wrong_type(path: KeyPath, wanted: Any, value: Any, schema: Any) -> Iterator[Fault]:
    hint = ""
    if wanted == "integer" and isinstance(value, float) and value.is_integer():
        hint = f"; write {int(value)}"
    yield Fault(path, f"must be {_TYPES[wanted]}, not {_show(value)}{hint}")


def _missing(path: KeyPath, wanted: Any, value: Any, schema: Any) -> Iterator[Fault]:
    for key in wanted:
        if key not in value:
            description = schema["properties"][key]["description"]
            yield Fault((*path, key), f"is missing; add it: {description}")


def _unknown(path: KeyPath, _: Any, value: Any, schema: Any) -> Iterator[Fault]:
    known = schema["properties"]
    for key in value:
        if key not in known:
            near = did_you_mean(key, known) or "."
            yield Fault((*path, key), f"unknown key{near} The keys here: {', '.join(known)}")


def _not_among(path: KeyPath, wanted: Any, value: Any, schema: Any) -> Iterator[Fault]:
    near = did_you_mean(value, wanted) if isinstance(value, str) else ""
    yield Fault(path, f"is {_show(value)}, but must be one of: {', '.join(wanted)}{near}")


def _mismatch(path: KeyPath, pattern: Any, value: Any, schema: Any) -> Iterator[Fault]:
    yield Fault(path, f"is {_show(value)}; {schema.get('patternErrorMessage', f'must match {pattern}')}")


def _lonely(path: KeyPath, wanted: Any, value: Any, schema: Any) -> Iterator[Fault]:
    for key, partners in wanted.items():
        for partner in partners:
            if key in value and partner not in value:
                yield Fault((*path, key), f"needs {partner} beside it; add {partner} or remove {key}")


_Explain = Callable[[KeyPath, Any, Any, Any], Iterator[Fault]]


def _says(wording: str) -> _Explain:
    """An explanation that needs only the limit and the value."""

    def explain(path: KeyPath, limit: Any, value: Any, schema: Any) -> Iterator[Fault]:
        yield Fault(path, wording.format(limit=limit, value=_show(value)))

    return explain


_EXPLAIN: Mapping[str, _Explain] = {
    "type": _wrong_type,
    "required": _missing,
    "additionalProperties": _unknown,
    "enum": _not_among,
    "pattern": _mismatch,
    "dependencies": _lonely,
    "minimum": _says("must be at least {limit}, not {value}"),
    "maximum": _says("must be at most {limit}, not {value}"),
    "exclusiveMinimum": _says("must be more than {limit}, not {value}"),
    "multipleOf": _says("must be a multiple of {limit}, not {value}"),
    "minItems": _says("needs at least {limit} items, not {value}"),
    "minLength": _says("must not be empty"),
    "uniqueItems": _says("names something twice: {value}; name each once"),
}


# What no schema can say


def _usable(data: Mapping[str, Any], faults: Iterable[Fault]) -> dict[str, Any]:
    """What the schema does not object to, defaults filled in: rules may trust its types."""
    bad = {fault.path[:2] if fault.path[:1] == ("parameters",) else fault.path[:1] for fault in faults}
    if () in bad or ("parameters",) in bad or ("method",) in bad:
        data = {key: value for key, value in data.items() if key not in ("parameters", "method")}
    usable = {key: value for key, value in data.items() if (key,) not in bad}
    parameters = data.get("parameters", {})
    sound = {key: value for key, value in parameters.items() if ("parameters", key) not in bad}
    schema = schema_for(usable["method"]) if "method" in usable else {}
    return {**usable, "parameters": fill_defaults(schema, sound)}


def _rule_faults(preset: Mapping[str, Any], directory: Path) -> list[Fault]:
    parameters: Mapping[str, Any] = preset["parameters"]
    method = preset.get("method")
    initial, target = preset.get("initial_window"), preset.get("target_window")
    head_dim = preset.get("requires", {}).get("head_dim")
    faults = [*_window_faults(method, initial, target, parameters)]
    if method == "dpe":
        faults += [*_group_faults(parameters), *_file_faults(parameters, directory)]
    if method in ("dprope", "linear", "ntk", "yarn"):
        faults += _scaling_faults(initial, target, parameters)
    if method == "yarn":
        faults += _turn_faults(parameters)
    if method == "self_extend":
        faults += _reach_faults(initial, target, parameters)
    faults += _order_faults(initial, parameters)
    # How many dimensions of a head are turned, some families' configurations say, not their head_dim.
    if method in METHODS and head_dim and not _turns_a_part(preset.get("requires", {}).get("model_type")):
        faults += size_faults(method, parameters, head_dim, head_dim)
    return faults


def _turns_a_part(model_type: object) -> bool:
    """Whether a family's RoPE turns fewer dimensions than a head has, or can."""
    family = FAMILIES.get(model_type) if isinstance(model_type, str) else None
    return family is not None and (family.partial is not None or family.latent is not None)


def _parameter(key: str, message: str) -> Fault:
    return Fault(("parameters", key), message)


def _window_faults(
    method: str | None, initial: int | None, target: int | None, parameters: Mapping[str, Any]
) -> Iterator[Fault]:
    if initial and target:
        yield from _extent_faults(method, initial, target)
    window, beyond = parameters.get("local_window"), parameters.get("activate_beyond")
    if initial and window and window >= initial:
        yield _parameter("local_window", f"is {window}; it must be under initial_window ({initial})")
    if target and beyond and beyond >= target:
        message = f"is {beyond}: with target_window {target} the method would never act"
        yield _parameter("activate_beyond", f"{message}; lower it or leave it out")


def _extent_faults(method: str | None, initial: int, target: int) -> Iterator[Fault]:
    # DPE and STRING are published for the trained window itself too (Llama 3.1).
    least, bound = (
        (initial, "at least") if method in ("dpe", "string", "original", None) else (initial + 1, "more than")
    )
    if target < least:
        yield Fault(("target_window",), f"is {target}; it must be {bound} initial_window ({initial})")


def _group_faults(parameters: Mapping[str, Any]) -> Iterator[Fault]:
    groups, factors = parameters.get("dimension_groups"), parameters.get("scale_factors")
    if not groups:
        return
    if groups[0] != 0:
        yield _parameter("dimension_groups", f"starts at {groups[0]}; start it at 0")
    for left, right in pairwise(groups):
        if right <= left:
            yield _parameter("dimension_groups", f"must rise strictly; {right} follows {left}")
    if factors and len(factors) != len(groups) - 1:
        wanted = len(groups) - 1
        yield _parameter("scale_factors", f"has {len(factors)} factors for {wanted} groups; give {wanted}")


def _file_faults(parameters: Mapping[str, Any], directory: Path) -> Iterator[Fault]:
    name = parameters.get("dimension_scores")
    if name and not (directory / name).is_file():
        yield _parameter("dimension_scores", f"there is no file {directory / name}; put it there or name another")


def _scaling_faults(initial: int | None, target: int | None, parameters: Mapping[str, Any]) -> Iterator[Fault]:
    factor = parameters.get("scaling_factor")
    if not (initial and target and factor) or "scaling_factors" in parameters:
        return
    # A hair of slack, for a factor written with few digits.
    if initial * factor < target and not math.isclose(initial * factor, target, rel_tol=1e-3):
        message = f"is {factor}: that reaches {initial * factor:g} tokens of target_window's {target}"
        yield _parameter("scaling_factor", f"{message}; set at least {target / initial:g}, or leave it out")


def _turn_faults(parameters: Mapping[str, Any]) -> Iterator[Fault]:
    fast, slow = parameters.get("beta_fast"), parameters.get("beta_slow")
    if fast and slow and fast <= slow:
        yield _parameter("beta_fast", f"is {fast}; it must be more than beta_slow ({slow})")


def self_extend_reach(initial: int, group: int, window: int) -> int:
    """Tokens up to which SelfExtend meets only trained distances: (M - w) G + w (arXiv 2401.01325, section 3)."""
    return (initial - window) * group + window


def _reach_faults(initial: int | None, target: int | None, parameters: Mapping[str, Any]) -> Iterator[Fault]:
    """SelfExtend meets only trained distances up to a length."""
    group, window = parameters.get("group_size"), parameters.get("local_window")
    if not (initial and target and group and window) or window >= initial:
        return
    reach = self_extend_reach(initial, group, window)
    if reach < target:
        least = math.ceil((target - window) / (initial - window))
        message = f"is {group}: that reaches {reach} tokens of target_window's {target}"
        yield _parameter("group_size", f"{message}; set at least {least}")


def _order_faults(initial: int | None, parameters: Mapping[str, Any]) -> Iterator[Fault]:
    """Windows within windows: `shift`, `window` and `chunk_size` hold the local one and fit the trained one."""
    window = parameters.get("local_window")
    for key in ("shift", "window", "chunk_size"):
        outer = parameters.get(key)
        if not isinstance(outer, int) or (key == "chunk_size" and "logit_interpolation" in parameters):
            continue  # GALI's chunks are of another kind
        if initial and outer > initial:
            yield _parameter(key, f"is {outer}; it must be at most initial_window ({initial})")
        if window and window >= outer:
            yield _parameter("local_window", f"is {window}; it must be under {key} ({outer})")


def group_size(trained: int, target: int, local_window: int) -> int:
    """The smallest G with w + (N - w) / G within half of M; where w leaves no room for that, within M.

    SelfExtend's authors ask for less than half to two thirds of M: what is farthest was seen most seldom in training.
    """
    room = trained / 2 - local_window
    if room <= 0:
        room = trained - local_window
    return max(2, math.ceil((target - local_window) / room))
