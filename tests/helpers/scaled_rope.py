"""transformers' own frequencies of a Llama whose RoPE is scaled."""

from __future__ import annotations

from typing import Any

from transformers import LlamaConfig
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

MODELS = [(10000.0, 16, 64), (10000.0, 128, 4096), (100000.0, 64, 8192), (500000.0, 128, 8192)]
"""Theta, head_dim and trained length, tokens."""


def inv_freq_of_transformers(
    theta: float, head_dim: int, length: int, scaling: dict[str, Any]
) -> tuple[list[float], float]:
    """Frequencies, radians per token [pairs], and the factor on queries and keys."""
    sizes = {"hidden_size": head_dim, "num_attention_heads": 1, "max_position_embeddings": length}
    config = LlamaConfig(**sizes, rope_theta=theta, rope_scaling=dict(scaling))  # which it adds to
    inv_freq, attention_factor = ROPE_INIT_FUNCTIONS[scaling["rope_type"]](config, "cpu")
    return inv_freq.tolist(), attention_factor
