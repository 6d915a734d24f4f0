"""Stock models of the zoo, of a size that vLLM's kernels take."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from transformers import AutoModelForCausalLM

from . import zoo
from .zoo_subject import Specimen

YARN = {"rope_type": "yarn", "rope_theta": 10000.0, "truncate": False, **zoo.YARN}
CHANGES: dict[str, dict[str, Any]] = {
    "cohere": {"tie_word_embeddings": True},
    "gemma": {"tie_word_embeddings": True},
    "gemma2": {"tie_word_embeddings": True},
    "gemma3_text": {"tie_word_embeddings": True},
    "glm4_moe": {"head_dim": 32},
    "gpt_oss": {"rope_parameters": YARN},
    "stablelm": {"qk_layernorm": False},
}
"""What vLLM takes for granted."""


@dataclass(frozen=True)
class Served(Specimen):
    """A type's stock model.

    Attributes:
        head_dim: 32 is what vLLM's CPU kernels take at least.
        dtype: to which its weights are rounded.
    """

    head_dim: int = 32
    dtype: torch.dtype = torch.float32

    @cached_property
    def base(self) -> Any:
        """In float32."""
        config = zoo.config(self.name)
        wide = {"hidden_size": 4 * self.head_dim}
        wide |= {"head_dim": self.head_dim} if hasattr(config, "head_dim") else {}
        for key, value in {**wide, **CHANGES.get(self.name, {})}.items():
            setattr(config, key, value)
        model = AutoModelForCausalLM.from_config(config)
        zoo.fill(model)
        for parameter in model.parameters():  # and not the frequencies, which stay float32
            parameter.data = parameter.data.to(self.dtype).float()
        return model.eval()

    @cached_property
    def wide(self) -> Any:
        """The same; the oracle is not asked for more than the frequencies."""
        return self.base
