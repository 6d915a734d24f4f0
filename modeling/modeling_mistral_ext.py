"""Mistral with a method that reads further than it was trained to: the entry file of an emitted checkpoint.

It adds to transformers' own classes what `rope_ext` in `config.json` describes. Made by ropext.
"""

from __future__ import annotations

from transformers.models.mistral.configuration_mistral import MistralConfig
from transformers.models.mistral.modeling_mistral import (
    MistralAttention,
    MistralForCausalLM,
    MistralForQuestionAnswering,
    MistralForSequenceClassification,
    MistralForTokenClassification,
    MistralModel,
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


class MistralRopeExtConfig(RopeExtConfigMixin, MistralConfig):
    """Mistral's configuration with a `rope_ext` block."""


class MistralRopeExtAttention(RopeExtAttentionMixin, MistralAttention):
    """Mistral's attention by a method."""

    rotate_exact = staticmethod(apply_rotary_pos_emb)
    eager_attention = staticmethod(eager_attention_forward)


class MistralRopeExtModel(RopeExtModelMixin, MistralModel):
    """Mistral's decoder with the method of its configuration."""

    config_class = MistralRopeExtConfig
    rope_ext_attention_class = MistralRopeExtAttention


class MistralRopeExtForCausalLM(RopeExtHeadMixin, MistralForCausalLM):
    """Mistral's language model with the method of its configuration."""

    config_class = MistralRopeExtConfig
    rope_ext_model_class = MistralRopeExtModel


class MistralRopeExtForSequenceClassification(RopeExtHeadMixin, MistralForSequenceClassification):
    """Mistral's sequence classifier with the method of its configuration."""

    config_class = MistralRopeExtConfig
    rope_ext_model_class = MistralRopeExtModel


class MistralRopeExtForTokenClassification(RopeExtHeadMixin, MistralForTokenClassification):
    """Mistral's token classifier with the method of its configuration."""

    config_class = MistralRopeExtConfig
    rope_ext_model_class = MistralRopeExtModel


class MistralRopeExtForQuestionAnswering(RopeExtHeadMixin, MistralForQuestionAnswering):
    """Mistral's question answering with the method of its configuration."""

    config_class = MistralRopeExtConfig
    rope_ext_model_class = MistralRopeExtModel
