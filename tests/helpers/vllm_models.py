"""Stock models of the zoo, of a size that vLLM's CPU kernels take: heads are 32 wide."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

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
    """A type's stock model."""

    @cached_property
    def base(self) -> Any:
        """In float32."""
        config = zoo.config(self.name)
        wide = {"hidden_size": 128, "head_dim": 32} if hasattr(config, "head_dim") else {"hidden_size": 128}
        for key, value in {**wide, **CHANGES.get(self.name, {})}.items():
            setattr(config, key, value)
        model = AutoModelForCausalLM.from_config(config)
        zoo.fill(model)
        return model.eval()

    @cached_property
    def wide(self) -> Any:
        """The same; the oracle is not asked for more than the frequencies."""
        return self.base
