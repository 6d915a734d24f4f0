"""Whether a preset is sound in itself, and whether it fits a model."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ropext.converter.checkpoint.families import FAMILIES
from ropext.converter.errors import Fault, Problem
from ropext.converter.methods import registry
from ropext.converter.methods.base import Settings
from ropext.converter.methods.layers import layers_beyond
from ropext.converter.methods.schemas import METHODS, fill_defaults, schema_for
from ropext.converter.preset import Preset

from .wording import schema_faults

if TYPE_CHECKING:
    from ropext.converter.checkpoint.facts import ModelFacts

__all__ = ["check_fit", "preset_faults"]


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


def check_fit(preset: Preset, facts: ModelFacts) -> list[Problem]:
    """What the preset demands that the model is not; empty when it fits."""
    unmet = [key for key, wanted in preset.requires.items() if not _equal(wanted, getattr(facts, key))]
    problems = [preset.problem(_unmet(preset, facts, key), "requires", key) for key in unmet]
    if preset.initial_window > facts.longest_length:
        message = f"is {preset.initial_window}, but {facts.source} was trained to {facts.longest_length} tokens"
        problems.append(preset.problem(f"{message}; set it to at most that", "initial_window"))
    faults = [] if "rope_type" in unmet else list(registry.base_faults(preset.method, facts.rope_type))
    faults += [] if "rope_type" in unmet else registry.method(preset.method).scaled_faults(preset, facts)
    if "head_dim" not in unmet:
        faults += registry.size_faults(preset.method, preset.parameters, facts.head_dim, facts.rotary_dim)
    faults += layers_beyond(preset.parameters, facts)
    problems += [preset.problem(fault.message, *fault.path) for fault in faults]
    return problems or list(registry.method(preset.method).file_problems(preset, facts))


def _unmet(preset: Preset, facts: ModelFacts, key: str) -> str:
    found = f"is {preset.requires[key]}, but {facts.source} has {getattr(facts, key)}"
    return f"{found}; `ropext inspect {facts.source}` lists the presets that fit"


def _equal(wanted: object, found: object) -> bool:
    if isinstance(wanted, (int, float)) and isinstance(found, (int, float)):
        return math.isclose(wanted, found, rel_tol=1e-9)
    return wanted == found


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
    method, requires = preset.get("method"), preset.get("requires", {})
    settings = Settings(parameters, preset.get("initial_window"), preset.get("target_window"), directory)
    faults = list(registry.faults(method, settings))
    # How many dimensions of a head are turned, some families' configurations say, not their head_dim.
    if method in METHODS and requires.get("head_dim") and not _turns_a_part(requires.get("model_type")):
        faults += registry.size_faults(method, parameters, requires["head_dim"], requires["head_dim"])
    return faults


def _turns_a_part(model_type: object) -> bool:
    """Whether a family's RoPE turns fewer dimensions than a head has, or can."""
    family = FAMILIES.get(model_type) if isinstance(model_type, str) else None
    return family is not None and (family.partial is not None or family.latent is not None)
