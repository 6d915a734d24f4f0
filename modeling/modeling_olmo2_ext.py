"""OLMo 2 with a method that reads further than it was trained to: the entry file of an emitted checkpoint.

It adds to transformers' own classes what `rope_ext` in `config.json` describes. Made by ropext.
"""

from __future__ import annotations

from torch import Tensor
from transformers.models.olmo2.configuration_olmo2 import Olmo2Config
from transformers.models.olmo2.modeling_olmo2 import (
    Olmo2Attention,
    Olmo2ForCausalLM,
    Olmo2Model,
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


class Olmo2RopeExtConfig(RopeExtConfigMixin, Olmo2Config):
    """OLMo 2's configuration with a `rope_ext` block."""


class Olmo2RopeExtAttention(RopeExtAttentionMixin, Olmo2Attention):
    """OLMo 2's attention by a method."""

    rotate_exact = staticmethod(apply_rotary_pos_emb)
    eager_attention = staticmethod(eager_attention_forward)

    def project(self, hidden_states: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """As the mixin's, with queries and keys normalised across their heads."""
        query, key = self.q_norm(self.q_proj(hidden_states)), self.k_norm(self.k_proj(hidden_states))
        return self.heads(query), self.heads(key), self.heads(self.v_proj(hidden_states))


class Olmo2RopeExtModel(RopeExtModelMixin, Olmo2Model):
    """OLMo 2's decoder with the method of its configuration."""

    config_class = Olmo2RopeExtConfig
    rope_ext_attention_class = Olmo2RopeExtAttention


class Olmo2RopeExtForCausalLM(RopeExtHeadMixin, Olmo2ForCausalLM):
    """OLMo 2's language model with the method of its configuration."""

    config_class = Olmo2RopeExtConfig
    rope_ext_model_class = Olmo2RopeExtModel
