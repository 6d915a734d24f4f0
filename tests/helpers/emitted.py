"""A type of the zoo as a checkpoint with remote code, written and loaded as a stranger does."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
import transformers

from ropext.converter import model_code
from ropext.converter.checkpoint.facts import facts_of
from ropext.converter.convert.config import dump_json, extended_config
from ropext.converter.methods.base import Baked
from ropext.converter.presets.load import make_preset
from tests.helpers import tiny
from tests.reference.regions import FREQUENCY_METHODS

from .zoo_subject import Specimen


def emit(of: Specimen, case: tiny.Case, folder: Path) -> dict[str, Any]:
    """Write a type's stock checkpoint with a method on it; returns its configuration."""
    of.base.save_pretrained(folder)
    config = json.loads((folder / "config.json").read_text())
    facts = facts_of(config, of.name)
    preset = make_preset(
        {
            "name": "tiny",
            "description": "tiny",
            "base_model": of.name,
            "initial_window": tiny.INITIAL_WINDOW,
            "target_window": 200,
            "method": case.method,
            "parameters": case.parameters,
        }
    )
    baked = Baked(case.parameters, case.inv_freq, case.tables, ())
    written = extended_config(config, facts, preset, baked)
    if case.method not in FREQUENCY_METHODS:
        written["rope_ext"]["inv_freq"] = written["rope_ext"]["pairs"]["inv_freq"]
    (folder / "config.json").write_bytes(dump_json(written))
    for name, text in model_code.code(facts.model_type, case.method).items():
        (folder / name).write_bytes(text)
    return written


def autos(config: dict[str, Any]) -> list[Any]:
    """The Auto classes of this transformers that load the whole model."""
    names = ("AutoModelForCausalLM", "AutoModelForImageTextToText", "AutoModelForMultimodalLM")
    return [getattr(transformers, name) for name in names if name in config["auto_map"] and hasattr(transformers, name)]


def without_trust(folder: Path, of: Specimen, config: dict[str, Any]) -> dict[str, str]:
    """What came of each way to load the checkpoint as if it were stock, by name."""
    found = {}
    for kind in [*autos(config), transformers.AutoModel, type(of.base)]:
        try:
            kind.from_pretrained(folder, trust_remote_code=False)
        except Exception as error:
            found[kind.__name__] = f"{type(error).__name__}: {error}"
        else:
            found[kind.__name__] = "loaded in silence"
    return found


def largest(difference: torch.Tensor) -> float:
    """The largest number, as a float."""
    return float(difference.abs().max())
