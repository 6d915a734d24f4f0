"""Tiny checkpoints with a method, written as a conversion writes them, and what transformers makes of the same."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import CONFIG_MAPPING, AutoModelForCausalLM

from ropext.converter import model_code
from ropext.converter.checkpoint.description import describe
from ropext.converter.checkpoint.facts import facts_of
from ropext.converter.convert.apply import plain
from ropext.converter.convert.config import dump_json, extended_config
from ropext.converter.methods.base import Baked
from ropext.converter.methods.registry import FREQUENCY_METHODS
from ropext.converter.model_classes import parts_of
from ropext.converter.presets.load import make_preset
from ropext.modeling.rope_ext_model import attach, decoder_of
from tests.helpers import tiny, zoo

PATTERN = {"num_hidden_layers": 6, "layer_types": ["sliding_attention"] * 5 + ["full_attention"]}
OWN: dict[str, dict[str, Any]] = {
    "cohere": {"tie_word_embeddings": True},
    "gemma3_text": {**PATTERN, "tie_word_embeddings": True},
    "granite": {"attention_multiplier": 0.3, "logits_scaling": 2.0},
    "granitemoe": {"attention_multiplier": 0.3, "logits_scaling": 2.0},
    "seed_oss": {"head_dim": 64},  # so wide that mlx-lm can quantise keys
    "lfm2": {"tie_word_embeddings": True},
    "lfm2_moe": {"tie_word_embeddings": True},
}
"""What mlx-lm takes for granted of a family, beside the zoo's rows: real checkpoints have it."""
KEYS = {
    "exaone4": {"head_dim": 16},
    "glm4_moe": {"head_dim": 16},
    "lfm2": {"block_dim": 64},
    "mellum": {"num_experts": 4},
    "qwen3_moe": {"head_dim": 16, "num_experts": 4},
    "solar_open": {"first_k_dense_replace": 0},
}
"""Keys that checkpoints have and transformers 5 leaves out when it saves."""


@cache
def base(family: str) -> Any:
    """The stock model."""
    config = zoo.config(family)
    config = CONFIG_MAPPING[family](**config.to_dict() | OWN.get(family, {}))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model: Any = AutoModelForCausalLM.from_config(config)
    zoo.fill(model)
    model.generation_config.eos_token_id = None
    return model.eval()


def fitted(family: str, case: tiny.Case) -> tiny.Case:
    """A case of Llama's 8 frequency pairs, made for as many as this family has."""
    config = base(family).config
    inv_freq = np.array(describe(plain(config.to_dict())).inv_freq)
    parameters, tables, pairs = copy.deepcopy(case.parameters), dict(case.tables), len(inv_freq)
    for of_layers in tiny.sets(parameters):
        fit(of_layers, pairs)
    if tables:
        shape = config.num_hidden_layers, config.num_attention_heads, pairs
        tables["selected_pairs"] = tiny.packed(np.random.default_rng(0).random(shape) < 0.6)
    factors = np.interp(np.linspace(0, 7, pairs), range(8), np.divide(case.inv_freq, tiny.INV_FREQ))
    return replace(case, parameters=parameters, tables=tables, inv_freq=(factors * inv_freq).tolist())


def fit(parameters: dict[str, Any], pairs: int) -> None:
    """Make parameters of 8 frequency pairs those of so many."""
    if groups := parameters.get("dimension_groups"):
        parameters["dimension_groups"] = sorted({group * pairs // groups[-1] for group in groups})
        count = len(parameters["dimension_groups"]) - 1
        for each in (parameters, *parameters.get("regions", ())):
            each |= {
                key: each[key][:count] for key in ("scale_factor", "scale_factors") if isinstance(each.get(key), list)
            }
    if given := parameters.get("factors"):
        parameters["factors"] = np.interp(np.linspace(0, 7, pairs), range(8), given).tolist()


def write(family: str, case_name: str, folder: Path) -> dict[str, Any]:
    """Write a family's checkpoint with a case; returns its configuration."""
    bases = folder.parent / f"base-{family}"
    if not bases.is_dir():
        base(family).save_pretrained(bases)
    folder.mkdir()
    for file in bases.glob("*.safetensors*"):
        (folder / file.name).symlink_to(file)
    config = json.loads((bases / "config.json").read_text()) | KEYS.get(family, {})
    case = fitted(family, tiny.CASES[case_name])
    preset = make_preset(
        {
            "name": "tiny",
            "description": "tiny",
            "base_model": family,
            "initial_window": tiny.INITIAL_WINDOW,
            "target_window": 200,
            "method": "original",
            "parameters": {},
        }
    )
    baked = Baked(case.parameters, case.inv_freq, case.tables, ())
    preset = replace(preset, method=case.method, parameters=case.parameters)
    config = extended_config(config, facts_of(config, family), preset, baked)
    if case.method not in FREQUENCY_METHODS:
        config["rope_ext"]["inv_freq"] = config["rope_ext"]["pairs"]["inv_freq"]
    (folder / "config.json").write_bytes(dump_json(config))
    for name, text in model_code.code(family, case.method).items():
        (folder / name).write_bytes(text)
    return config


def reference(family: str, config: dict[str, Any]) -> Any:
    """The stock model of transformers with the method of a written configuration."""
    model = copy.deepcopy(base(family))
    attach(decoder_of(model), config["rope_ext"], *parts_of(config["rope_ext"]["method"]))
    return model


def log_probabilities(logits: Any) -> torch.Tensor:
    """Of logits [..., vocabulary] of either framework."""
    return torch.as_tensor(np.array(logits)).double().log_softmax(-1)


def fed(model: Any, ids: torch.Tensor, ends: list[int]) -> torch.Tensor:
    """Log-probabilities [T, vocabulary] by transformers, the prompt in pieces."""
    kept, parts, begin = None, [], 0
    for end in ends:
        out = model(ids[:, begin:end], past_key_values=kept, use_cache=len(ends) > 1)
        kept, begin = out.past_key_values, end
        parts.append(out.logits[0])
    return log_probabilities(torch.cat(parts))
