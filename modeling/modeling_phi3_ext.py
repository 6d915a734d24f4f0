"""Phi-3 with a method that reads further than it was trained to: the entry file of an emitted checkpoint.

It adds to transformers' own classes what `rope_ext` in `config.json` describes. Made by ropext.
"""

from __future__ import annotations

import torch
from torch import Tensor
from transformers import GenerationMixin
from transformers.models.phi3.configuration_phi3 import Phi3Config
from transformers.models.phi3.modeling_phi3 import (
    Phi3Attention,
    Phi3ForCausalLM,
    Phi3ForSequenceClassification,
    Phi3ForTokenClassification,
    Phi3Model,
    apply_rotary_pos_emb,
    eager_attention_forward,
)

# Every file that is shipped, named here: up to transformers 5.9 the loader copies only what this file imports.
from .rope_ext_attention import rotate  # noqa: F401
from .rope_ext_band import BandMethod  # noqa: F401
from .rope_ext_config import RopeExtConfigMixin
from .rope_ext_dca import Dca  # noqa: F401
from .rope_ext_dpe import Dpe  # noqa: F401
from .rope_ext_dprope import Dprope  # noqa: F401
from .rope_ext_dynamic_ntk import DynamicNtk  # noqa: F401
from .rope_ext_frequencies import FrequencyMethod  # noqa: F401
from .rope_ext_gali import Gali  # noqa: F401
from .rope_ext_geometry import Geometry  # noqa: F401
from .rope_ext_jet_long import JetLong  # noqa: F401
from .rope_ext_linear import Linear  # noqa: F401
from .rope_ext_method import Method  # noqa: F401
from .rope_ext_methods import build_method  # noqa: F401
from .rope_ext_model import RopeExtAttentionMixin, RopeExtHeadMixin, RopeExtModelMixin
from .rope_ext_moved import MovedKeys  # noqa: F401
from .rope_ext_noise import gaussian_noise  # noqa: F401
from .rope_ext_ntk import Ntk  # noqa: F401
from .rope_ext_original import Original  # noqa: F401
from .rope_ext_rerope import Rerope  # noqa: F401
from .rope_ext_self_extend import SelfExtend  # noqa: F401
from .rope_ext_self_test import self_test  # noqa: F401
from .rope_ext_string import String  # noqa: F401
from .rope_ext_yarn import Yarn  # noqa: F401


class Phi3RopeExtConfig(RopeExtConfigMixin, Phi3Config):
    """Phi-3's configuration with a `rope_ext` block."""


class Phi3RopeExtAttention(RopeExtAttentionMixin, Phi3Attention):
    """Phi-3's attention by a method."""

    rotate_exact = staticmethod(apply_rotary_pos_emb)
    eager_attention = staticmethod(eager_attention_forward)

    def project(self, hidden_states: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """As the mixin's, from one matrix."""
        heads, key_heads = self.config.num_attention_heads, self.config.num_key_value_heads
        projected = self.heads(self.qkv_proj(hidden_states))
        query, key, value = torch.split(projected, [heads, key_heads, key_heads], dim=1)
        return query, key, value


class Phi3RopeExtModel(RopeExtModelMixin, Phi3Model):
    """Phi-3's decoder with the method of its configuration."""

    config_class = Phi3RopeExtConfig
    rope_ext_attention_class = Phi3RopeExtAttention


class Phi3RopeExtForCausalLM(RopeExtHeadMixin, Phi3ForCausalLM):
    """Phi-3's language model with the method of its configuration."""

    config_class = Phi3RopeExtConfig
    rope_ext_model_class = Phi3RopeExtModel

    # Phi-3's own drops the cache at `original_max_position_embeddings`, for a RoPE that changes there.
    prepare_inputs_for_generation = GenerationMixin.prepare_inputs_for_generation


class Phi3RopeExtForSequenceClassification(RopeExtHeadMixin, Phi3ForSequenceClassification):
    """Phi-3's sequence classifier with the method of its configuration."""

    config_class = Phi3RopeExtConfig
    rope_ext_model_class = Phi3RopeExtModel


class Phi3RopeExtForTokenClassification(RopeExtHeadMixin, Phi3ForTokenClassification):
    """Phi-3's token classifier with the method of its configuration."""

    config_class = Phi3RopeExtConfig
    rope_ext_model_class = Phi3RopeExtModel
