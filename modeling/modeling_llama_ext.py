"""Llama with a method that reads further than it was trained to: the entry file of an emitted checkpoint.

The classes are transformers' own, with what `rope_ext` in `config.json` describes attached to their decoder. Made by
ropext.
"""

from __future__ import annotations

from transformers.models.llama import modeling_llama

from .configuration_llama_ext import LlamaRopeExtConfig
from .rope_ext_contacts import Attachment
from .rope_ext_dpe import Dpe
from .rope_ext_model import RopeExtMixin, head_class


class LlamaRopeExtModel(RopeExtMixin, modeling_llama.LlamaModel):
    """Llama's decoder with the method of its configuration."""

    config_class = LlamaRopeExtConfig
    rope_ext_parts = Dpe, Attachment


class LlamaRopeExtForCausalLM(RopeExtMixin, modeling_llama.LlamaForCausalLM):
    """Llama's language model with the method of its configuration."""

    config_class = LlamaRopeExtConfig
    rope_ext_parts = Dpe, Attachment


def __getattr__(name: str) -> type:
    """Make the class of another stock head, such as `LlamaRopeExtForSequenceClassification`."""
    return head_class(name, modeling_llama, LlamaRopeExtModel)
