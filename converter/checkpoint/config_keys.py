"""Which keys of a `config.json` are kept: those that the family's stock classes know, and a few that do no harm.

By a key that is unknown today a later transformers may load code, weights or settings from elsewhere: so what is not in
the table is dropped on conversion, and refused by `verify`. The table lies beside this file and needs no transformers;
`python -m tools.config_keys` makes it, of every supported version, and `test_config_keys.py` holds it to the installed
one.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from functools import cache
from importlib import resources
from typing import Any

from .families import FAMILIES

__all__ = ["TABLE", "TEXT_PARTS", "known_generation_keys", "known_keys", "unknown_keys", "without_unknown"]

TABLE = "config_keys.json"

_EVERY = "every: "
"""How the rows begin that are written by hand, and hold for every family."""
_OURS = frozenset(("auto_map", "model_file", "rope_ext", "dual_chunk_attention_config"))
"""Keys that ropext writes; what stands under them is checked on its own."""

TEXT_PARTS = ("text_config",)


@cache
def _table() -> Mapping[str, frozenset[str]]:
    text = resources.files(__package__).joinpath(TABLE).read_text("utf-8")
    return {name: frozenset(keys.split()) for name, keys in json.loads(text).items()}


@cache
def known_keys(model_type: str) -> frozenset[str]:
    """Return the keys that a family's configuration may have."""
    family = FAMILIES.get(model_type)
    read = (family.theta_key, family.head_key, family.layers_key, family.nope, *family.partial_keys) if family else ()
    common = (keys for name, keys in _table().items() if name.startswith(_EVERY))
    return frozenset().union(*common, _table().get(model_type, frozenset()), read)


def known_generation_keys() -> frozenset[str]:
    """Return the keys that `generation_config.json` may have."""
    return _table()["generation"] | {"transformers_version", "_from_model_config"}


def unknown_keys(config: Mapping[str, Any], *, converted: bool = False) -> Iterator[str]:
    """Yield the dotted names of keys that are in no table; one without a value is as good as none.

    Args:
        config: a `config.json`.
        converted: whether it is of a converted checkpoint, with the keys that ropext writes.
    """
    known = known_keys(str(config.get("model_type"))) | (_OURS if converted else frozenset())
    yield from (key for key, value in config.items() if key not in known and value is not None)
    for part in TEXT_PARTS:
        inner = config.get(part)
        if isinstance(inner, Mapping):
            kind = inner.get("model_type", _text_type(config))
            strange = (key for key, value in inner.items() if key not in known_keys(str(kind)) and value is not None)
            yield from (f"{part}.{key}" for key in strange)


def without_unknown(config: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Drop the keys that are in no table.

    Returns:
        The configuration, and the dotted names of the keys that were dropped.
    """
    dropped = list(unknown_keys(config))
    kept = {key: value for key, value in config.items() if key not in dropped}
    for part in TEXT_PARTS:
        if isinstance(kept.get(part), Mapping):
            kept[part] = {key: value for key, value in kept[part].items() if f"{part}.{key}" not in dropped}
    return kept, dropped


def _text_type(config: Mapping[str, Any]) -> str:
    family = FAMILIES.get(str(config.get("model_type")))
    return family.text[0] if family and family.text else ""
