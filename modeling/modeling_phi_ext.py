"""Phi with a method that reads further than it was trained to: the entry file of an emitted checkpoint.

It adds to transformers' own classes what `rope_ext` in `config.json` describes. Made by ropext.
"""

from __future__ import annotations

import torch
from torch import Tensor
from transformers.models.phi.configuration_phi import PhiConfig
from transformers.models.phi.modeling_phi import (
    PhiAttention,
    PhiForCausalLM,
    PhiForSequenceClassification,
    PhiForTokenClassification,
    PhiModel,
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


class PhiRopeExtConfig(RopeExtConfigMixin, PhiConfig):
    """Phi's configuration with a `rope_ext` block."""


class PhiRopeExtAttention(RopeExtAttentionMixin, PhiAttention):
    """Phi's attention by a method."""

    eager_attention = staticmethod(eager_attention_forward)

    def output(self, attended: Tensor) -> Tensor:
        """As the mixin's; the projection is called `dense`."""
        projected: Tensor = self.dense(attended)
        return projected

    def project(self, hidden_states: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """As the mixin's, with each head's query and key normalised where the configuration says so."""
        query, key, value = super().project(hidden_states)
        return (self.q_layernorm(query), self.k_layernorm(key), value) if self.qk_layernorm else (query, key, value)

    def rotate_exact(self, query: Tensor, key: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor]:
        """Phi's rotation, of the first dimensions of each head."""
        turned = cos.shape[-1]
        pair = apply_rotary_pos_emb(query[..., :turned], key[..., :turned], cos, sin)
        return torch.cat((pair[0], query[..., turned:]), -1), torch.cat((pair[1], key[..., turned:]), -1)


class PhiRopeExtModel(RopeExtModelMixin, PhiModel):
    """Phi's decoder with the method of its configuration."""

    config_class = PhiRopeExtConfig
    rope_ext_attention_class = PhiRopeExtAttention


class PhiRopeExtForCausalLM(RopeExtHeadMixin, PhiForCausalLM):
    """Phi's language model with the method of its configuration."""

    config_class = PhiRopeExtConfig
    rope_ext_model_class = PhiRopeExtModel


class PhiRopeExtForSequenceClassification(RopeExtHeadMixin, PhiForSequenceClassification):
    """Phi's sequence classifier with the method of its configuration."""

    config_class = PhiRopeExtConfig
    rope_ext_model_class = PhiRopeExtModel


class PhiRopeExtForTokenClassification(RopeExtHeadMixin, PhiForTokenClassification):
    """Phi's token classifier with the method of its configuration."""

    config_class = PhiRopeExtConfig
    rope_ext_model_class = PhiRopeExtModel
