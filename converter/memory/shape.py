"""The sizes of a model that its memory depends on, from `config.json`.

What a layer keeps of a text is counted in numbers: of each token, or, for recurrent layers, once. Latent attention
(MLA) keeps a latent and the turned part of a key, which all heads share.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from ropext.converter.checkpoint.config_values import count, optional_count
from ropext.converter.checkpoint.description import TextModel, text_model
from ropext.converter.checkpoint.layers import kinds_of

__all__ = ["WITHOUT_SDPA", "Kind", "Layer", "Shape", "shape_of"]

Kind = Literal["full", "sliding", "latent", "recurrent", "shared"]
"""`shared`: it reads another layer's keys and keeps none."""

WITHOUT_SDPA = frozenset({"gemma2", "gpt_oss", "granite_swa", "granitemoe_swa", "mimo_v2_flash", "vaultgemma"})
"""Families whose stock attention holds all scores, as torch's fused kernel cannot compute it."""

_AS_MANY_KEY_HEADS = ("gpt_neox", "persimmon")
"""Families that have as many key heads as query heads, whatever is written."""


@dataclass(frozen=True)
class Layer:
    """What one layer keeps.

    Attributes:
        kind: what attention it has.
        keys: numbers of a token's keys; of a latent, all of it.
        values: numbers of its values.
        window: tokens that a sliding layer sees.
        state: numbers that a recurrent layer keeps, in the model's type.
        state_float32: those that it keeps in float32 whatever that type.
    """

    kind: Kind
    keys: int = 0
    values: int = 0
    window: int | None = None
    state: int = 0
    state_float32: int = 0


@dataclass(frozen=True)
class Shape:
    """The sizes of a model.

    Attributes:
        model_type: of its text model.
        hidden: width of the hidden states.
        queries: numbers of a token's queries in a layer, all heads.
        heads: query heads of a layer.
        head_dim: the width of a query.
        feed_forward: numbers of a token that a layer's feed-forward part holds at once.
        vocabulary: tokens that the model knows.
        layers: what each keeps.
        dtype: the number type of its weights, as the configuration says; empty where it does not.
    """

    model_type: str
    hidden: int
    queries: int
    heads: int
    head_dim: int
    feed_forward: int
    vocabulary: int
    layers: tuple[Layer, ...]
    dtype: str = ""


def shape_of(config: Mapping[str, Any], *, windows: bool = True) -> Shape:
    """Read the sizes of a model.

    Args:
        config: the `config.json` of a base or of a converted model.
        windows: keep the sliding window of models in which every layer has one; a conversion turns it off.

    Raises:
        RopextError: its family is not known, or a size is missing.
    """
    text = text_model(config)
    kinds, window = kinds_of(text.config, text.family, text.place)
    if not windows and "f" not in kinds:
        kinds = kinds.replace("s", "f")
    own = _Own(text)
    keeping = len(kinds) - own.optional("num_kv_shared_layers", 0)
    layers = [
        own.layer(index, kind, window) if index < keeping else Layer("shared") for index, kind in enumerate(kinds)
    ]
    return Shape(
        model_type=text.family.model_type,
        hidden=text.size("hidden_size"),
        queries=text.size("num_attention_heads") * own.query_width(),
        heads=text.size("num_attention_heads"),
        head_dim=own.query_width(),
        feed_forward=own.feed_forward(),
        vocabulary=own.optional("vocab_size", 0),
        layers=tuple(layers),
        dtype=str(_first(text.config, config, keys=("dtype", "torch_dtype")) or ""),
    )


def _first(*parts: Mapping[str, Any], keys: tuple[str, ...]) -> object:
    return next((part[key] for part in parts for key in keys if part.get(key)), None)


class _Own:
    """The configuration of a text model, asked for sizes."""

    def __init__(self, text: TextModel) -> None:
        self._text, self._config = text, text.config
        per_layer = text.config.get("per_layer_config")
        self._per_layer: Mapping[str, Any] = per_layer if isinstance(per_layer, Mapping) else {}

    def size(self, key: str) -> int:
        return count(self._config, self._text.place, key)

    def optional(self, key: str, default: int) -> int:
        return optional_count(self._config, self._text.place, key, default or None) or default

    def layer(self, index: int, kind: str, window: int | None) -> Layer:
        """Return what a layer keeps, by the letter of its kind."""
        if kind == "c":
            return Layer("recurrent", state=self._text.size("hidden_size") * self.optional("conv_L_cache", 3))
        if kind == "l":
            return self._recurrent()
        if self._text.family.latent:
            widths = self.size("kv_lora_rank"), self.optional("qk_rope_head_dim", self._text.family.latent[1])
            return Layer("latent", *widths)
        if self._text.family.model_type == "minimax":  # its own cache keeps all tokens of a sliding layer
            kind = "f"
        heads, key, value = self._key_heads(index, sliding=kind == "s")
        beside = self._recurrent() if self._text.family.model_type == "falcon_h1" else Layer("full")
        return Layer(
            "sliding" if kind == "s" else "full",
            keys=heads * key,
            values=heads * value,
            window=window if kind == "s" else None,
            state=beside.state,
            state_float32=beside.state_float32,
        )

    def _key_heads(self, index: int, *, sliding: bool) -> tuple[int, int, int]:
        """Return the key heads of a layer, and the widths of a key and a value."""
        own = self._per_layer.get(str(index))
        own = own if isinstance(own, Mapping) else {}
        family, width = self._text.family, self.query_width()
        heads = self._text.key_value_heads()
        if family.model_type in _AS_MANY_KEY_HEADS:
            heads = self._text.size("num_attention_heads")
        if family.head_key == "global_head_dim":
            if sliding:
                width = self.optional("head_dim", 256)
            elif self._config.get("attention_k_eq_v"):
                heads = self.optional("num_global_key_value_heads", heads)
        if family.model_type == "mimo_v2_flash" and sliding:
            heads = self.optional("swa_num_key_value_heads", 2 * heads)
        heads = own.get("num_key_value_heads") or heads
        width = own.get("head_dim") or width
        value = self.optional("v_head_dim", width) if family.model_type == "mimo_v2_flash" else width
        return heads, width, value

    def query_width(self) -> int:
        """Return the width of a query, in the layers with full attention."""
        family = self._text.family
        if family.latent:
            return self.optional("qk_nope_head_dim", family.latent[0]) + self.optional(
                "qk_rope_head_dim", family.latent[1]
            )
        whole = self._text.size("hidden_size") // self._text.size("num_attention_heads")
        return self.optional(family.head_key, family.head_dim or whole)

    def feed_forward(self) -> int:
        """Return what the widest feed-forward part holds for a token: the gate and all that is made of it."""
        dense = self._widest("intermediate_size", "ffn_hidden_size", "block_ff_dim")
        inner = self._widest("moe_intermediate_size", "expert_ffn_hidden_size") or dense
        chosen = self._widest("num_experts_per_tok", "moe_topk", "moe_k")
        experts = self._widest("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts")
        hidden = self._text.size("hidden_size")
        fused = self._text.family.model_type in ("phi3", "phi4_multimodal")
        of_experts = chosen * max(4 * inner + hidden, 2 * inner + 3 * hidden) if chosen and experts else 0
        return max((4 if fused else 3) * dense, of_experts)

    def _widest(self, *keys: str) -> int:
        found = [each for key in keys for each in _numbers(self._config.get(key))]
        return max(found, default=0)

    def _recurrent(self) -> Layer:
        config, family = self._config, self._text.family
        if family.model_type == "minimax":
            heads, width = self._text.size("num_attention_heads"), self.query_width()
            return Layer("recurrent", state=heads * width * width)
        if family.model_type == "bailing_hybrid":
            heads = self._text.size("num_attention_heads")
            width = self.optional("head_dim", self._text.size("hidden_size") // heads)
            kernel = self.optional("short_conv_kernel_size", 4)
            return Layer("recurrent", state=3 * heads * width * kernel, state_float32=heads * width * width)
        if config.get("mamba_n_heads") is not None:
            return self._mamba()
        keys = self.size("linear_num_key_heads") * self.size("linear_key_head_dim")
        values = self.size("linear_num_value_heads") * self.size("linear_value_head_dim")
        kernel = self.optional("linear_conv_kernel_dim", 4)
        return Layer(
            "recurrent",
            state=(2 * keys + values) * kernel,
            state_float32=values * self.size("linear_key_head_dim"),
        )

    def _mamba(self) -> Layer:
        expanded = int(self._config.get("mamba_expand") or 2) * self._text.size("hidden_size")
        inner = self.optional("mamba_d_ssm", expanded)
        width = self._config.get("mamba_d_head")
        head = width if isinstance(width, int) else inner // self.size("mamba_n_heads")
        wide = inner + 2 * self.size("mamba_n_groups") * self.size("mamba_d_state")
        return Layer(
            "recurrent",
            state=wide * self.optional("mamba_d_conv", 4),
            state_float32=self.size("mamba_n_heads") * head * self.size("mamba_d_state"),
        )


def _numbers(value: object) -> list[int]:
    values = value if isinstance(value, list) else [value]
    return [each for each in values if isinstance(each, int) and not isinstance(each, bool)]
