"""Gemma with a method that reads further than it was trained to: the entry file of an emitted checkpoint.

It adds to transformers' own classes what `rope_ext` in `config.json` describes. Made by ropext.
"""

from __future__ import annotations

from transformers.models.gemma.configuration_gemma import GemmaConfig
from transformers.models.gemma.modeling_gemma import (
    GemmaAttention,
    GemmaForCausalLM,
    GemmaForSequenceClassification,
    GemmaForTokenClassification,
    GemmaModel,
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


class GemmaRopeExtConfig(RopeExtConfigMixin, GemmaConfig):
    """Gemma's configuration with a `rope_ext` block."""


class GemmaRopeExtAttention(RopeExtAttentionMixin, GemmaAttention):
    """Gemma's attention by a method."""

    rotate_exact = staticmethod(apply_rotary_pos_emb)
    eager_attention = staticmethod(eager_attention_forward)


class GemmaRopeExtModel(RopeExtModelMixin, GemmaModel):
    """Gemma's decoder with the method of its configuration."""

    config_class = GemmaRopeExtConfig
    rope_ext_attention_class = GemmaRopeExtAttention


class GemmaRopeExtForCausalLM(RopeExtHeadMixin, GemmaForCausalLM):
    """Gemma's language model with the method of its configuration."""

    config_class = GemmaRopeExtConfig
    rope_ext_model_class = GemmaRopeExtModel


class GemmaRopeExtForSequenceClassification(RopeExtHeadMixin, GemmaForSequenceClassification):
    """Gemma's sequence classifier with the method of its configuration."""

    config_class = GemmaRopeExtConfig
    rope_ext_model_class = GemmaRopeExtModel


class GemmaRopeExtForTokenClassification(RopeExtHeadMixin, GemmaForTokenClassification):
    """Gemma's token classifier with the method of its configuration."""

    config_class = GemmaRopeExtConfig
    rope_ext_model_class = GemmaRopeExtModel
