"""Example presets, and the facts of a tiny model that they fit."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ropext.converter.checkpoint.facts import ModelFacts
from ropext.converter.preset import Preset
from ropext.converter.presets.load import load_preset

EXAMPLES = Path(__file__).parents[1] / "examples"


TINY = ModelFacts(
    source="tiny",
    model_type="llama",
    architecture="LlamaForCausalLM",
    head_dim=16,
    num_hidden_layers=3,
    num_attention_heads=4,
    num_key_value_heads=2,
    rope_theta=10000.0,
    rope_type="default",
    trained_length=64,
)


def frequencies(facts: ModelFacts) -> list[float]:
    """An unscaled model's, radians per token [pairs]."""
    made: list[float] = (facts.rope_theta ** -(np.arange(0, facts.rotary_dim, 2) / facts.rotary_dim)).tolist()
    return made


def example(name: str, *overrides: str) -> Preset:
    """A valid preset of `tests/examples`."""
    return load_preset(str(EXAMPLES / "valid" / f"{name}.yaml"), overrides)
