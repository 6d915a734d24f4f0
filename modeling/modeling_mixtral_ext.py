"""Mixtral with a method that reads further than it was trained to: the entry file of an emitted checkpoint.

It adds to transformers' own classes what `rope_ext` in `config.json` describes. Made by ropext.
"""

from __future__ import annotations

from transformers.models.mixtral.configuration_mixtral import MixtralConfig
from transformers.models.mixtral.modeling_mixtral import (
    MixtralAttention,
    MixtralForCausalLM,
    MixtralForQuestionAnswering,
    MixtralForSequenceClassification,
    MixtralForTokenClassification,
    MixtralModel,
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


class MixtralRopeExtConfig(RopeExtConfigMixin, MixtralConfig):
    """Mixtral's configuration with a `rope_ext` block."""


class MixtralRopeExtAttention(RopeExtAttentionMixin, MixtralAttention):
    """Mixtral's attention by a method."""

    rotate_exact = staticmethod(apply_rotary_pos_emb)
    eager_attention = staticmethod(eager_attention_forward)


class MixtralRopeExtModel(RopeExtModelMixin, MixtralModel):
    """Mixtral's decoder with the method of its configuration."""

    config_class = MixtralRopeExtConfig
    rope_ext_attention_class = MixtralRopeExtAttention


class MixtralRopeExtForCausalLM(RopeExtHeadMixin, MixtralForCausalLM):
    """Mixtral's language model with the method of its configuration."""

    config_class = MixtralRopeExtConfig
    rope_ext_model_class = MixtralRopeExtModel


class MixtralRopeExtForSequenceClassification(RopeExtHeadMixin, MixtralForSequenceClassification):
    """Mixtral's sequence classifier with the method of its configuration."""

    config_class = MixtralRopeExtConfig
    rope_ext_model_class = MixtralRopeExtModel


class MixtralRopeExtForTokenClassification(RopeExtHeadMixin, MixtralForTokenClassification):
    """Mixtral's token classifier with the method of its configuration."""

    config_class = MixtralRopeExtConfig
    rope_ext_model_class = MixtralRopeExtModel


class MixtralRopeExtForQuestionAnswering(RopeExtHeadMixin, MixtralForQuestionAnswering):
    """Mixtral's question answering with the method of its configuration."""

    config_class = MixtralRopeExtConfig
    rope_ext_model_class = MixtralRopeExtModel
