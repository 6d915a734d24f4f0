"""What a schema finds wrong with a preset, in words."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from typing import Any

from jsonschema import Draft7Validator
from jsonschema.exceptions import ValidationError
from jsonschema.validators import extend

from ropext.converter.errors import Fault, KeyPath
from ropext.converter.methods.schemas import preset_schema
from ropext.converter.text import did_you_mean

__all__ = ["schema_faults"]


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
    wanted = " or ".join(_TYPES[each] for each in ([wanted] if isinstance(wanted, str) else wanted))
    yield Fault(path, f"must be {wanted}, not {_show(value)}{hint}")


def _missing(path: KeyPath, wanted: Any, value: Any, schema: Any) -> Iterator[Fault]:
    for key in wanted:
        if key not in value:
            description = schema["properties"][key]["description"]
            yield Fault((*path, key), f"is missing; add it: {description}")


_ELSEWHERE = {
    "activate_beyond": (
        ": this method acts at every length; local_profile, with code, is the base bit for bit up to a length, and "
        "docs/native.md says why stock keys cannot be."
    )
}
"""Keys that users look for where they have no meaning."""


def _unknown(path: KeyPath, _: Any, value: Any, schema: Any) -> Iterator[Fault]:
    known = schema["properties"]
    for key in value:
        if key not in known:
            near = _ELSEWHERE.get(key) or did_you_mean(key, known) or "."
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
    "maxItems": _says("takes at most {limit} items, not {value}"),
    "minProperties": _says("needs {limit} keys at least, not {value}"),
    "minLength": _says("must not be empty"),
    "maxLength": _says("must be at most {limit} characters long, not {value}"),
    "uniqueItems": _says("names something twice: {value}; name each once"),
}
