"""A tiny, random, seeded stock model of every rotary language model of transformers: one row of `ROWS` each.

`python -m tools.zoo` runs the methods on them. The configurations are those of four layers with four heads; weights
are so large that what a method changes shows in the logits.
"""

from __future__ import annotations

import inspect
from functools import cache
from typing import Any

import torch
import transformers
from packaging.version import Version
from transformers import CONFIG_MAPPING, AutoModelForCausalLM
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING, MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

V4 = Version(transformers.__version__) < Version("5")
Row = dict[str, Any]


def rope(rope_type: str = "default", rope_theta: float = 10000.0, **parameters: Any) -> Row:
    """Rotary parameters, in the spelling of the installed transformers."""
    if not V4:
        return {"rope_parameters": {"rope_type": rope_type, "rope_theta": rope_theta, **parameters}}
    top = {k: parameters.pop(k) for k in ("partial_rotary_factor",) if k in parameters}
    scaled = {"rope_scaling": {"rope_type": rope_type, **parameters}} if parameters or rope_type != "default" else {}
    return {"rope_theta": rope_theta, **top, **scaled}


COMMON: Row = {
    "vocab_size": 128,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "attention_dropout": 0.0,
    "hidden_dropout": 0.0,
    "tie_word_embeddings": False,
}
WHERE_KNOWN: Row = {
    "head_dim": 16,
    "sliding_window": 24,
    "resid_pdrop": 0.0,
    "embd_pdrop": 0.0,
    "resid_dropout": 0.0,
    # Experts
    "moe_intermediate_size": 32,
    "shared_expert_intermediate_size": 32,
    "shared_intermediate_size": 32,
    "num_experts": 4,
    "num_local_experts": 4,
    "n_routed_experts": 4,
    "moe_num_experts": 4,
    "num_experts_per_tok": 2,
    "moe_topk": 2,
    "moe_k": 2,
    "n_shared_experts": 1,
    "n_group": 1,
    "topk_group": 1,
    "first_k_dense_replace": 1,
    # Latent keys and values
    "kv_lora_rank": 16,
    "q_lora_rank": 24,
    "qk_rope_head_dim": 8,
    "qk_nope_head_dim": 16,
    "v_head_dim": 16,
    # Linear attention
    "linear_num_value_heads": 4,
    "linear_num_key_heads": 2,
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 8,
    # Gemma 3n and 4
    "hidden_size_per_layer_input": 8,
    "vocab_size_per_layer_input": 128,
    "num_kv_shared_layers": 0,
}
"""What a configuration is given where its class knows the name."""

SLIDING = {"layer_types": ["sliding_attention", "full_attention"] * 2}
LINEAR = {"layer_types": ["linear_attention", "full_attention"] * 2}
FULL = {"sliding_window": None}
LATENT = {"head_dim": 8, "num_key_value_heads": 4}
MAMBA = {"mamba_n_heads": 4, "mamba_d_head": 32, "mamba_n_groups": 1, "mamba_d_state": 8}
DEFAULT = {"rope_type": "default", "rope_theta": 10000.0}
BY_KIND = {**SLIDING, "rope_parameters": {"full_attention": DEFAULT, "sliding_attention": DEFAULT}}
GEMMA_3N = {
    **SLIDING,
    "laurel_rank": 8,
    "altup_num_inputs": 2,
    "altup_active_idx": 0,
    "activation_sparsity_pattern": [0.0] * 4,
    "intermediate_size": [96] * 4,
}
GEMMA_4 = {**SLIDING, "global_head_dim": 32, "num_global_key_value_heads": 2}
QWEN3_5 = {**LINEAR, **rope(mrope_section=[2, 1, 1], mrope_interleaved=True, partial_rotary_factor=0.5)}
LLAMA_3 = {"factor": 4.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 128}
YARN = {"factor": 4.0, "beta_fast": 32.0, "beta_slow": 1.0, "original_max_position_embeddings": 128}

ROWS: dict[str, Row] = {
    "afmoe": SLIDING,
    "apertus": {},
    "apertus1p5_text": {},
    "arcee": {},
    "aria_text": {},
    "axk1": LATENT,
    "axk2": LATENT,
    "bailing_hybrid": {**LATENT, **LINEAR},
    "bamba": {"attn_layer_indices": [1, 3], "mamba_expand": 2, **MAMBA},
    "beam": {},
    "bitnet": {},
    "codegen": {"n_embd": 64, "n_layer": 4, "n_head": 4, "rotary_dim": 8, "n_positions": 512, "n_inner": 96},
    "cohere": {"logit_scale": 1.0},
    "cohere2": {"logit_scale": 1.0, **SLIDING},
    "cohere2_moe": {"logit_scale": 1.0, **SLIDING},
    "cohere_compass_text": BY_KIND,
    "cwm": SLIDING,
    "dbrx": {
        "d_model": 64,
        "n_heads": 4,
        "n_layers": 4,
        "max_seq_len": 512,
        "attn_config": {"kv_n_heads": 2, "rope_theta": 10000.0, "clip_qkv": 8.0},
        "ffn_config": {"ffn_hidden_size": 32, "moe_num_experts": 4, "moe_top_k": 2},
    },
    "deepseek_v2": LATENT,
    "deepseek_v3": LATENT,
    "deepseek_v3+halves": {"rope_interleave": False, **LATENT},
    "deepseek_v32": LATENT,
    "diffllama": {},
    "doge": {},
    "dory": {
        "num_hidden_layers": 8,
        "layer_types": ["sliding_attention", "mlp", "full_attention", "mlp"] * 2,
        "n_input_layers": 2,
        "n_recurrent_layers": 4,
        "n_output_layers": 2,
    },
    "dots1": SLIDING,
    "ernie4_5": {},
    "ernie4_5_moe": {},
    "exaone": {},
    "exaone4": {**FULL, "layer_types": ["full_attention"] * 4},
    "exaone4+hybrid": SLIDING,
    "exaone_moe": SLIDING,
    "falcon": {"new_decoder_architecture": True, "num_kv_heads": 2, "alibi": False},
    "falcon_h1": {"mamba_d_ssm": 128, **MAMBA},
    "flint": {},
    "flex_olmo": {},
    "gemma": {},
    "gemma2": SLIDING,
    "gemma3_text": {**SLIDING, "query_pre_attn_scalar": 16},
    "gemma3n_text": GEMMA_3N,
    "gemma3n_text+shared": {**GEMMA_3N, "num_kv_shared_layers": 2},
    "gemma4_text": GEMMA_4,
    "gemma4_text+shared": {**GEMMA_4, "num_kv_shared_layers": 2},
    "gemma4_unified_text": GEMMA_4,
    "glm": {},
    "glm4": {},
    "glm4_moe": {"use_qk_norm": True, "partial_rotary_factor": 0.5},
    "glm4_moe_lite": LATENT,
    "glm_moe_dsa": LATENT,
    "gpt_neox": {},
    "gpt_neox_japanese": {},
    "gpt_oss": {**SLIDING, **rope()},
    "gpt_oss+yarn": {**SLIDING, **rope("yarn", truncate=False, **YARN)},
    "gptj": {"n_embd": 64, "n_layer": 4, "n_head": 4, "rotary_dim": 8, "n_positions": 512, "n_inner": 96},
    "granite": {},
    "granite_swa": {},
    "granitemoe": {},
    "granitemoe_swa": {},
    "granitemoehybrid": {
        "layer_types": ["mamba", "attention"] * 2,
        "position_embedding_type": "rope",
        "mamba_expand": 2,
        **MAMBA,
    },
    "granitemoeshared": {},
    "helium": {},
    "hrm_text": {},
    "hunyuan_v1_dense": rope(),
    "hunyuan_v1_moe": rope(),
    "hy_v3": {},
    "hy_v4": {},
    "hyperclovax": {},
    "internlm3": {},
    "iquestcoder": {},
    "jais2": {},
    "jamba": {"attn_layer_period": 2, "attn_layer_offset": 1, "mamba_d_state": 8, "use_mamba_kernels": False},
    "jetmoe": {},
    "kolibri1": {},
    "laguna": SLIDING,
    "lara_mini": {},
    "lfm2": {"layer_types": ["conv", "full_attention"] * 2, "block_ff_dim": 96},
    "lfm2_moe": {"layer_types": ["conv", "full_attention"] * 2},
    "lfm3": {},
    "llama": {},
    "llama+llama3": rope("llama3", **LLAMA_3),
    "llama4_text": {
        "intermediate_size_mlp": 96,
        "attention_chunk_size": 32,
        "num_local_experts": 2,
        "num_experts_per_tok": 1,
        "moe_layers": [1, 3],
        "no_rope_layers": [1, 0, 1, 0],
        "layer_types": ["chunked_attention", "full_attention"] * 2,
    },
    "longcat_flash": {
        "num_layers": 2,
        "ffn_hidden_size": 96,
        "expert_ffn_hidden_size": 32,
        "zero_expert_num": 1,
        **LATENT,
    },
    "mellum": SLIDING,
    "mimo_v2_flash": {"head_dim": 24},
    "minicpm3": LATENT,
    "minimax": {"block_size": 16, **FULL, **LINEAR},
    "minimax+sliding": {"block_size": 16, **LINEAR},
    "minimax_m2": {},
    "minimax_m3_vl_text": {},
    "ministral": SLIDING,
    "ministral3": FULL,
    "mistral": FULL,
    "mixtral": FULL,
    "modernbert-decoder": {"local_attention": 24, **SLIDING},
    "nanochat": {},
    "nemotron": {},
    "olmo": {},
    "olmo2": {},
    "olmo3": SLIDING,
    "olmo_hybrid": LINEAR,
    "olmoe": {},
    "persimmon": {},
    "phi": {"partial_rotary_factor": 0.5, "qk_layernorm": True},
    "phi3": {**FULL, "original_max_position_embeddings": 512},
    "phimoe": FULL,
    "qwen2": {"use_sliding_window": False},
    "qwen2+sliding": {"use_sliding_window": True, "max_window_layers": 2},
    "qwen2_moe": {"use_sliding_window": False},
    "qwen3": {"use_sliding_window": False},
    "qwen3_5_moe_text": QWEN3_5,
    "qwen3_5_text": QWEN3_5,
    "qwen3_moe": {"use_sliding_window": False},
    "qwen3_next": {"partial_rotary_factor": 0.5, **LINEAR},
    "recurrent_gemma": {},
    "sarvam_mla": LATENT,
    "sarvam_moe": {},
    "seed_oss": {},
    "smollm3": {"no_rope_layers": [1, 1, 1, 0], "use_sliding_window": False, **FULL},
    "solar_open": {},
    "stablelm": {"use_qkv_bias": True, "qk_layernorm": not V4},
    "starcoder2": FULL,
    "vaultgemma": SLIDING,
    "youtu": LATENT,
    "zaya": {"num_experts_per_tok": 1, "layer_types": ["hybrid"] * 4, "router_hidden_size": 16},
    "zamba2": {"layer_types": ["mamba", "hybrid"] * 2, "hybrid_layer_ids": [1, 3], "use_mem_rope": True},
}
"""What a type needs beside `COMMON` and `WHERE_KNOWN`; after a plus sign, a variant of it."""


def available(name: str) -> bool:
    """Whether the installed transformers has the type."""
    model_type = name.partition("+")[0]
    return model_type in CONFIG_MAPPING and model_type in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES


def config(name: str) -> Any:
    """The tiny configuration of a type."""
    made = CONFIG_MAPPING[name.partition("+")[0]]
    fields = set(inspect.signature(made.__init__).parameters) | set(getattr(made, "__dataclass_fields__", {}))
    fields |= set(vars(made()))
    return made(**COMMON | {k: v for k, v in WHERE_KNOWN.items() if k in fields} | ROWS[name])


@cache
def weights(name: str) -> dict[str, torch.Tensor]:
    """Seeded weights, of a size at which every part of a layer matters."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(config(name))
    fill(model)
    return model.state_dict()


@torch.no_grad()
def fill(model: Any) -> None:
    """Draw new parameters; those of recurrences, which have to stay in a range, keep what they were made with."""
    generator = torch.Generator().manual_seed(1)
    for name, parameter in model.named_parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        if parameter.dim() > 1:
            parameter.copy_(1.2 * parameter.shape[-1] ** -0.5 * noise)
        elif name.endswith("sinks"):
            parameter.copy_(noise)
        elif name.endswith("temp"):
            parameter.fill_(1.0)
        elif not name.endswith(("A_log", "dt_bias", ".D")):
            parameter.add_((0.1 if parameter.any() else 0.2) * noise)  # gains stay near what they are


def build(name: str, attn: str = "sdpa", dtype: torch.dtype = torch.float32) -> Any:
    """The tiny stock model of a type; `eager` where its class has no `sdpa`."""
    of_type = config(name)
    known = MODEL_FOR_CAUSAL_LM_MAPPING[type(of_type)]._supports_sdpa
    model = AutoModelForCausalLM.from_config(of_type, attn_implementation=attn if known else "eager")
    model.load_state_dict(weights(name))
    model.generation_config.eos_token_id = None
    return model.eval().to(dtype)


def inputs(name: str, length: int, seed: int = 0) -> dict[str, torch.Tensor]:
    """One row of random tokens above the special ones."""
    return {"input_ids": torch.randint(4, 120, (1, length), generator=torch.Generator().manual_seed(seed))}
