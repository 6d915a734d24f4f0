"""Llama with a method that reads further than it was trained to: the entry file of an emitted checkpoint.

It adds to transformers' own classes what `rope_ext` in `config.json` describes. Made by ropext.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.models.llama.configuration_llama import LlamaConfig
from transformers.models.llama.modeling_llama import (
    LlamaAttention,
    LlamaForCausalLM,
    LlamaModel,
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
from .rope_ext_noise import gaussian_noise  # noqa: F401
from .rope_ext_ntk import Ntk  # noqa: F401
from .rope_ext_original import Original  # noqa: F401
from .rope_ext_rerope import Rerope  # noqa: F401
from .rope_ext_self_extend import SelfExtend  # noqa: F401
from .rope_ext_string import String  # noqa: F401
from .rope_ext_yarn import Yarn  # noqa: F401


class LlamaRopeExtConfig(RopeExtConfigMixin, LlamaConfig):
    """Llama's configuration with a `rope_ext` block."""

    # Not only inherited: transformers 5 makes a new one for a configuration class without its own.
    def __init__(self, rope_ext: dict[str, Any] | None = None, **kwargs: Any) -> None:
        super().__init__(rope_ext=rope_ext, **kwargs)


class LlamaRopeExtAttention(RopeExtAttentionMixin, LlamaAttention):
    """Llama's attention by a method."""

    def project(self, hidden_states: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Query [B, H, T, D], key and value [B, K, T, D] of hidden states [B, T, hidden]."""
        shape = (*hidden_states.shape[:-1], -1, self.head_dim)
        query, key, value = (
            linear(hidden_states).view(shape).transpose(1, 2) for linear in (self.q_proj, self.k_proj, self.v_proj)
        )
        return query, key, value

    def rotate_exact(self, query: Tensor, key: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor]:
        """Llama's own rotation."""
        rotated: tuple[Tensor, Tensor] = apply_rotary_pos_emb(query, key, cos, sin)
        return rotated

    def attention_interface(self) -> Callable[..., Any]:
        """Llama's own attention function."""
        name = self.config._attn_implementation
        interface: Callable[..., Any] = eager_attention_forward if name == "eager" else ALL_ATTENTION_FUNCTIONS[name]
        return interface


class _Backends:
    # Not one call of an attention function: backends that bring their own cannot run it.
    _supports_attention_backend = False
    _supports_flash_attn = False
    _supports_flash_attn_2 = False
    _supports_flex_attn = False


class LlamaRopeExtModel(_Backends, RopeExtModelMixin, LlamaModel):
    """Llama's decoder with the method of its configuration."""

    config_class = LlamaRopeExtConfig
    rope_ext_attention_class = LlamaRopeExtAttention


class LlamaRopeExtForCausalLM(_Backends, RopeExtHeadMixin, LlamaForCausalLM):
    """Llama's language model with the method of its configuration."""

    config_class = LlamaRopeExtConfig
    rope_ext_model_class = LlamaRopeExtModel
