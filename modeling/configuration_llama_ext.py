"""The configuration of a Llama with a `rope_ext` block. It imports no torch: tokenizers of other runtimes load it."""

from __future__ import annotations

from transformers.models.llama.configuration_llama import LlamaConfig

from .rope_ext_config import RopeExtConfigMixin


class LlamaRopeExtConfig(RopeExtConfigMixin, LlamaConfig):
    """Llama's configuration with a `rope_ext` block."""

    # Checkpoints with other methods have other code: in one process, their classes must not be taken for each other.
    rope_ext_method = "dpe"
