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

__all__ = ["PART", "TABLE", "TEXT_PARTS", "known_generation_keys", "known_keys", "unknown_keys", "without_unknown"]

TABLE = "config_keys.json"

_EVERY = "every: "
"""How the rows begin that are written by hand, and hold for every family."""
PART = "part: "
"""How the rows begin of what sees or hears, beside a text model."""
_OURS = frozenset(("auto_map", "model_file", "rope_ext", "dual_chunk_attention_config"))
"""Keys that ropext writes; what stands under them is checked on its own."""

TEXT_PARTS = ("text_config",)
_NO_PARTS = ("quantization_config", "dual_chunk_attention_config", "per_layer_config")
_OF_ELSEWHERE = frozenset(
    (
        *("auto_map", "configuration_files", "custom_pipelines", "experts_implementation", "fusion_config"),
        *("kernel_config", "name_or_path", "transformers_weights", "trust_remote_code"),
    )
)
"""Keys by which transformers loads code, kernels, weights or settings from elsewhere."""


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
    for part, inner in _parts(config):
        kind = str(inner.get("model_type", _text_type(config) if part in TEXT_PARTS else ""))
        strange = (key for key, value in inner.items() if value is not None and not _is_known(key, part, kind))
        yield from (f"{part}.{key}" for key in strange)


def without_unknown(config: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Drop the keys that are in no table.

    Returns:
        The configuration, and the dotted names of the keys that were dropped.
    """
    dropped = list(unknown_keys(config))
    kept = {key: value for key, value in config.items() if key not in dropped}
    for part, inner in _parts(kept):
        kept[part] = {key: value for key, value in inner.items() if f"{part}.{key}" not in dropped}
    return kept, dropped


def _parts(config: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    """The configurations inside one: of the text model, and of what sees or hears."""
    found = [(key, value) for key, value in config.items() if key.endswith("_config") and isinstance(value, Mapping)]
    return [(key, value) for key, value in found if key not in _NO_PARTS]


def _is_known(key: str, part: str, kind: str) -> bool:
    """Whether the class of a part knows a key; of a class without a row, whether it names nothing from elsewhere."""
    row = _table().get(PART + kind)
    if part in TEXT_PARTS:
        return key in known_keys(kind)
    return key not in _OF_ELSEWHERE if row is None else key in row or key in known_keys("")


def _text_type(config: Mapping[str, Any]) -> str:
    family = FAMILIES.get(str(config.get("model_type")))
    return family.text[0] if family and family.text else ""
