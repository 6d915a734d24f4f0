"""A tiny model of each family, stock and converted: seeded weights, three layers, 64 trained tokens."""

from __future__ import annotations

from functools import cache
from importlib import import_module
from typing import Any

import torch
from transformers import CONFIG_MAPPING, AutoModelForCausalLM

from ropext.converter import model_code
from ropext.converter.checkpoint.families import FAMILIES as FAMILY_ROWS
from ropext.converter.model_classes import configuration_class, model_class
from ropext.modeling.configuration_llama_ext import GUARD
from tests.helpers import tiny

COMMON = {
    "vocab_size": 128,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": tiny.INITIAL_WINDOW,
    "rope_theta": 10000.0,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
# What a family has of its own; a hidden size that is not the heads' together, where it allows that.
FAMILIES: dict[str, dict[str, Any]] = {
    "gemma": {"head_dim": 16, "hidden_size": 48, "hidden_act": "gelu_pytorch_tanh"},
    "glm4_moe": {
        "head_dim": 32,
        "hidden_size": 48,
        "partial_rotary_factor": 0.5,
        "attention_bias": True,
        "use_qk_norm": True,
        "moe_intermediate_size": 32,
        "n_routed_experts": 4,
        "num_experts_per_tok": 2,
    },
    "granite": {
        "attention_multiplier": 0.3,
        "embedding_multiplier": 3.0,
        "residual_multiplier": 0.6,
        "logits_scaling": 2.0,
    },
    "llama": {"head_dim": 16, "hidden_size": 48},
    "mistral": {"head_dim": 16, "hidden_size": 48, "sliding_window": None},
    "mixtral": {"head_dim": 16, "hidden_size": 48, "num_local_experts": 4},
    "olmo": {"clip_qkv": 1.5},
    "olmo2": {},
    "phi": {"hidden_size": 160, "partial_rotary_factor": 0.4, "qk_layernorm": True},
    # Beyond this length Phi-3 reads a prompt anew: what some methods see would depend on where that falls.
    "phi3": {"original_max_position_embeddings": tiny.TARGET_WINDOW},
    "qwen2": {},
    "qwen3": {"head_dim": 16, "hidden_size": 48},
    "qwen3_moe": {
        "head_dim": 16,
        "hidden_size": 48,
        "moe_intermediate_size": 32,
        "num_experts": 4,
        "num_experts_per_tok": 2,
        "mlp_only_layers": [1],
    },
    "starcoder2": {},
}
MIXTURES = ("glm4_moe", "mixtral", "qwen3_moe")
"""Families with several experts for each token; transformers' experts do not run in float64."""


def shipped_class(family: str, auto_class: str, method: str = "original") -> Any:
    """The class that a family ships for an Auto class."""
    if auto_class == "AutoConfig":
        return configuration_class(family)
    return model_class(family, method, auto_class)


def stock_class(family: str, auto_class: str) -> Any:
    """The class of transformers that the shipped one extends; None where this version has no such head."""
    name = model_code.auto_map(family)[auto_class].rpartition(".")[2].replace("RopeExt", "")
    return getattr(import_module(FAMILY_ROWS[family].stock_module), name, None)


def has_stock_class(family: str, auto_class: str) -> bool:
    """Whether this version of transformers has the head."""
    return stock_class(family, auto_class) is not None


def arguments(family: str) -> dict[str, Any]:
    """Of the stock configuration."""
    return COMMON | FAMILIES[family]


@cache
def weights(family: str) -> dict[str, torch.Tensor]:
    """Seeded, and large enough that every part of a layer matters."""
    model = AutoModelForCausalLM.from_config(CONFIG_MAPPING[family](**arguments(family)))
    generator = torch.Generator().manual_seed(0)

    def draw(name: str, like: torch.Tensor) -> torch.Tensor:
        noise = torch.randn(like.shape, generator=generator)
        if "norm" in name:
            return like + 0.2 * noise
        return noise * (0.3 if like.dim() == 1 else 1.5 * like.shape[-1] ** -0.5)

    state = model.state_dict()
    drawn = {name: draw(name, tensor) for name, tensor in state.items()}
    if model.config.tie_word_embeddings:
        drawn["lm_head.weight"] = drawn["model.embed_tokens.weight"]
    return drawn


def base(family: str, attn: str = "sdpa", dtype: torch.dtype = torch.float32) -> Any:
    """The stock model."""
    config = CONFIG_MAPPING[family](**arguments(family))
    model = AutoModelForCausalLM.from_config(config, attn_implementation=attn)
    return finished(model, family, dtype)


def precise(family: str) -> Any:
    """The stock model as the oracles take it, in the widest type that it runs in."""
    return base(family, "eager", torch.float32 if family in MIXTURES else torch.float64)


def converted(family: str, case: tiny.Case | str, attn: str = "sdpa", dtype: torch.dtype = torch.float32) -> Any:
    """The shipped model with a method."""
    config = configuration(family, case, attn)
    model = shipped_class(family, "AutoModelForCausalLM", config.rope_ext["method"])(config)
    return finished(model, family, dtype)


def configuration(family: str, case: tiny.Case | str, attn: str = "sdpa") -> Any:
    """As a converted checkpoint has it."""
    given = arguments(family)
    block = tiny.block(tiny.CASES[case] if isinstance(case, str) else case)
    block["base"]["hidden_act"] = given.get("hidden_act")
    block["base"]["partial_rotary_factor"] = given.get("partial_rotary_factor")
    guards = {"hidden_act": GUARD, "rope_scaling": {"rope_type": GUARD}}
    given |= guards | {"max_position_embeddings": tiny.TARGET_WINDOW}
    config = shipped_class(family, "AutoConfig")(rope_ext=block, **given)
    config._attn_implementation = attn
    return config


def finished(model: Any, family: str, dtype: torch.dtype) -> Any:
    """With the family's weights, ready to be asked."""
    model.load_state_dict(weights(family))
    model.generation_config.eos_token_id = None
    return model.eval().to(dtype)
