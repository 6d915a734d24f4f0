"""StarCoder2 with a method that reads further than it was trained to: the entry file of an emitted checkpoint.

It adds to transformers' own classes what `rope_ext` in `config.json` describes. Made by ropext.
"""

from __future__ import annotations

from torch import Tensor, nn
from transformers.models.starcoder2.configuration_starcoder2 import Starcoder2Config
from transformers.models.starcoder2.modeling_starcoder2 import (
    Starcoder2Attention,
    Starcoder2ForCausalLM,
    Starcoder2ForSequenceClassification,
    Starcoder2ForTokenClassification,
    Starcoder2Model,
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


class Starcoder2RopeExtConfig(RopeExtConfigMixin, Starcoder2Config):
    """StarCoder2's configuration with a `rope_ext` block."""


class Starcoder2RopeExtAttention(RopeExtAttentionMixin, Starcoder2Attention):
    """StarCoder2's attention by a method."""

    rotate_exact = staticmethod(apply_rotary_pos_emb)
    eager_attention = staticmethod(eager_attention_forward)

    def output(self, attended: Tensor) -> Tensor:
        """As the mixin's, with a dropout when training."""
        return nn.functional.dropout(super().output(attended), p=self.residual_dropout, training=self.training)


class Starcoder2RopeExtModel(RopeExtModelMixin, Starcoder2Model):
    """StarCoder2's decoder with the method of its configuration."""

    config_class = Starcoder2RopeExtConfig
    rope_ext_attention_class = Starcoder2RopeExtAttention


class Starcoder2RopeExtForCausalLM(RopeExtHeadMixin, Starcoder2ForCausalLM):
    """StarCoder2's language model with the method of its configuration."""

    config_class = Starcoder2RopeExtConfig
    rope_ext_model_class = Starcoder2RopeExtModel


class Starcoder2RopeExtForSequenceClassification(RopeExtHeadMixin, Starcoder2ForSequenceClassification):
    """StarCoder2's sequence classifier with the method of its configuration."""

    config_class = Starcoder2RopeExtConfig
    rope_ext_model_class = Starcoder2RopeExtModel


class Starcoder2RopeExtForTokenClassification(RopeExtHeadMixin, Starcoder2ForTokenClassification):
    """StarCoder2's token classifier with the method of its configuration."""

    config_class = Starcoder2RopeExtConfig
    rope_ext_model_class = Starcoder2RopeExtModel
