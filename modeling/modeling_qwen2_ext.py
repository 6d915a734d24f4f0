"""Qwen2 with a method that reads further than it was trained to: the entry file of an emitted checkpoint.

It adds to transformers' own classes what `rope_ext` in `config.json` describes. Made by ropext.
"""

from __future__ import annotations

from transformers.models.qwen2.configuration_qwen2 import Qwen2Config
from transformers.models.qwen2.modeling_qwen2 import (
    Qwen2Attention,
    Qwen2ForCausalLM,
    Qwen2ForQuestionAnswering,
    Qwen2ForSequenceClassification,
    Qwen2ForTokenClassification,
    Qwen2Model,
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


class Qwen2RopeExtConfig(RopeExtConfigMixin, Qwen2Config):
    """Qwen2's configuration with a `rope_ext` block."""


class Qwen2RopeExtAttention(RopeExtAttentionMixin, Qwen2Attention):
    """Qwen2's attention by a method."""

    rotate_exact = staticmethod(apply_rotary_pos_emb)
    eager_attention = staticmethod(eager_attention_forward)


class Qwen2RopeExtModel(RopeExtModelMixin, Qwen2Model):
    """Qwen2's decoder with the method of its configuration."""

    config_class = Qwen2RopeExtConfig
    rope_ext_attention_class = Qwen2RopeExtAttention


class Qwen2RopeExtForCausalLM(RopeExtHeadMixin, Qwen2ForCausalLM):
    """Qwen2's language model with the method of its configuration."""

    config_class = Qwen2RopeExtConfig
    rope_ext_model_class = Qwen2RopeExtModel


class Qwen2RopeExtForSequenceClassification(RopeExtHeadMixin, Qwen2ForSequenceClassification):
    """Qwen2's sequence classifier with the method of its configuration."""

    config_class = Qwen2RopeExtConfig
    rope_ext_model_class = Qwen2RopeExtModel


class Qwen2RopeExtForTokenClassification(RopeExtHeadMixin, Qwen2ForTokenClassification):
    """Qwen2's token classifier with the method of its configuration."""

    config_class = Qwen2RopeExtConfig
    rope_ext_model_class = Qwen2RopeExtModel


class Qwen2RopeExtForQuestionAnswering(RopeExtHeadMixin, Qwen2ForQuestionAnswering):
    """Qwen2's question answering with the method of its configuration."""

    config_class = Qwen2RopeExtConfig
    rope_ext_model_class = Qwen2RopeExtModel
