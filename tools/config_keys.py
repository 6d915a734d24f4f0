"""The keys of `config.json` and `generation_config.json` that stock classes know, for the table of those that are kept.

    python -m tools.config_keys

adds what the installed transformers knows to `converter/checkpoint/config_keys.json`, and prints what that was. Run it
with each version that is supported: a key that one of them knows is known. A family's keys are what its configuration
class takes, and what the modules of its classes read from a configuration.
"""

from __future__ import annotations

import inspect
import json
import re
import sys
import warnings
from collections.abc import Iterator, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import transformers

from ropext.converter.checkpoint.config_keys import PART, TABLE
from ropext.converter.checkpoint.families import FAMILIES

_READ = re.compile(r"""\bconfig\.([a-z]\w*)\b(?!\()|attr\((?:\w+\.)*config,\s*"(\w+)\"""")
_TAKEN = re.compile(r"""kwargs\.(?:pop|get)\(\s*"(\w+)\"""")
_NOT_OF_A_FAMILY = {
    *("attn_implementation", "auto_map", "configuration_files", "custom_pipelines", "experts_implementation"),
    *("fusion_config", "name_or_path", "transformers_weights", "trust_remote_code", "kernel_config", "config"),
}
FILE = Path(__file__).parent.parent / "converter" / "checkpoint" / TABLE


def known() -> dict[str, list[str]]:
    """Return the keys by `model_type`, and under `generation` those of generation's settings."""
    found = {"generation": sorted(key for key in vars(transformers.GenerationConfig()) if not key.startswith("_"))}
    converted = [model_type for model_type, family in FAMILIES.items() if not family.refused]
    kinds = {name: transformers.CONFIG_MAPPING[name] for name in converted if name in transformers.CONFIG_MAPPING}
    kinds |= {PART + kind.model_type: kind for kind in _parts(kinds)}
    for name, kind in kinds.items():
        found[name] = sorted(set(_keys(kind)) - _common())
    return found


def _parts(kinds: Mapping[str, Any]) -> Iterator[Any]:
    """Yield the classes of what sees or hears: those that a class names, and those that published models have."""
    names = ("clip_vision_model", "siglip_vision_model", "pixtral", "internvl_vision")
    yield from (transformers.CONFIG_MAPPING[name] for name in names if name in transformers.CONFIG_MAPPING)
    for model_type, kind in kinds.items():
        if FAMILIES[model_type].text:
            parts = kind.sub_configs.items()
            yield from (each for part, each in parts if part != "text_config" and hasattr(each, "model_type"))


def _keys(kind: Any) -> Iterator[str]:
    yield from kind().to_dict().keys() - transformers.PretrainedConfig().to_dict().keys()
    own = [each for each in kind.__mro__ if each.__module__.startswith("transformers.models.")]
    for each in own:
        yield from inspect.signature(each.__init__).parameters
        yield from getattr(each, "__annotations__", {})
        yield from (name for pair in each.attribute_map.items() for name in pair)
        yield from each.sub_configs
        for name in (each.__module__, each.__module__.replace(".configuration_", ".modeling_")):
            try:
                source = inspect.getsource(import_module(name))
            except ImportError:
                continue
            yield from ("".join(groups) for groups in _READ.findall(source))
        yield from _TAKEN.findall(inspect.getsource(each))


def _common() -> set[str]:
    private = {name for name in dir(transformers.PretrainedConfig) if not name.startswith("__")}
    return {*private, *_NOT_OF_A_FAMILY, "self", "kwargs", "args", "torch_dtype"}


def merged() -> tuple[dict[str, str], int]:
    """Return the table with what is known added, and how many keys that were."""
    table = json.loads(FILE.read_text()) if FILE.exists() else {}
    found, added = {key: set(text.split()) for key, text in table.items()}, 0
    for name, keys in known().items():
        of_words = {key for key in keys if re.fullmatch(r"[a-z][a-zA-Z0-9_]*", key)}
        added += len(of_words - found.setdefault(name, set()))
        found[name] |= of_words
    return {key: " ".join(sorted(found[key])) for key in dict.fromkeys([*table, *sorted(found)])}, added


def main() -> int:
    """Write the table."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        table, added = merged()
    FILE.write_text(json.dumps(table, indent=1) + "\n")
    sys.stdout.write(f"transformers {transformers.__version__}: {added} keys added, {len(table)} rows\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
