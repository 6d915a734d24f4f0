"""The model's part that all families share, as mixins for a family's own classes.

A family's file says how hidden states become queries, keys and values; the rest is here.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from typing import Any, NoReturn

import torch
import transformers
from torch import Tensor
from transformers import AutoModel
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from .rope_ext_geometry import Geometry
from .rope_ext_method import Method, Tokens
from .rope_ext_methods import build_method
from .rope_ext_moved import moved_keys
from .rope_ext_self_test import is_due, self_test

BACKENDS = ("sdpa", "flash_attention_2", "eager")
"""Values of `attn_implementation`: torch's kernels, those of the package flash-attn, and the dense reference."""

_UNPADDED = "_rope_ext_unpadded"
"""Attribute of a cache: how many of its columns are known to have no padding."""


class RopeExtAttentionMixin:
    """Attention by a method. Goes before the family's attention class among the bases.

    Attributes:
        rotate_exact: the family's own rotation, of (query, key, cos, sin).
        eager_attention: its attention function for the backend `eager`.
    """

    rotate_exact: Callable[[Tensor, Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]
    eager_attention: Callable[..., Any]
    rope_ext_method: Method
    # The family's class has these.
    config: Any
    layer_idx: int
    head_dim: int
    q_proj: Callable[[Tensor], Tensor]
    k_proj: Callable[[Tensor], Tensor]
    v_proj: Callable[[Tensor], Tensor]
    scaling: float
    attention_dropout: float
    training: bool
    o_proj: Callable[[Tensor], Tensor]

    def project(self, hidden_states: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Query [B, H, T, D], key and value [B, K, T, D] of hidden states [B, T, hidden], not rotated."""
        query, key, value = (linear(hidden_states) for linear in (self.q_proj, self.k_proj, self.v_proj))
        return self.heads(query), self.heads(key), self.heads(value)

    def heads(self, x: Tensor) -> Tensor:
        """[B, heads, T, D] of [B, T, heads times D]."""
        return x.view(*x.shape[:-1], -1, self.head_dim).transpose(1, 2)

    def output(self, attended: Tensor) -> Tensor:
        """The layer's output [B, T, hidden] of what the heads attended to [B, T, H times D]."""
        return self.o_proj(attended)

    def attention_interface(self) -> Callable[..., Any]:
        """The family's own attention function for the configured backend."""
        name = self.config._attn_implementation
        interface: Callable[..., Any] = self.eager_attention if name == "eager" else ALL_ATTENTION_FUNCTIONS[name]
        return interface

    def forward(
        self,
        hidden_states: Tensor,
        position_embeddings: tuple[Tensor, Tensor] | None = None,
        attention_mask: Tensor | None = None,
        past_key_values: Any = None,
        *,
        rope_ext: Geometry | None = None,
        **kwargs: Any,
    ) -> tuple[Tensor, Tensor | None]:
        """As the family's attention; `rope_ext` says where the tokens of this forward stand."""
        if rope_ext is None or position_embeddings is None:
            raise ValueError("a layer of this model runs by the model's own forward only, which passes rope_ext")
        geometry: Geometry = rope_ext
        cache = _cache_of(past_key_values, kwargs)
        method, layer = self.rope_ext_method, self.layer_idx
        query, key, value = self.project(hidden_states)
        exact_query, exact_key = self.rotate_exact(query, key, *position_embeddings)

        stored: Tensor = method.stored_key(key, exact_key, geometry)
        fresh_key: Tensor | None = exact_key
        if cache is not None:
            if geometry.static and stored.shape[-1] != value.shape[-1] and transformers.__version__.startswith("4."):
                raise ValueError(
                    "this method keeps two rotations of each key, for which the static cache of transformers 4 has "
                    "no room; use the dynamic cache, or transformers 5"
                )
            stored, value = cache.update(stored, value, layer, {"cache_position": kwargs.get("cache_position")})
            if geometry.static and key.shape[2] > 1 and not geometry.exact:
                filled = int(geometry.past) + key.shape[2]
                stored, value = stored[:, :, :filled], value[:, :, :filled]
            if stored.shape[2] != key.shape[2]:
                fresh_key = None
        backend = self.config._attn_implementation
        padded = geometry.key_valid is not None
        moved = moved_keys(cache, layer, key, padded=padded) if method.moves_keys_by_length else None
        tokens = Tokens(layer, query, exact_query, stored, fresh_key, value, geometry, self.scaling, backend, moved)

        if geometry.exact:
            kwargs.pop("cache_position", None)
            dropout = self.attention_dropout if self.training else 0.0
            out, weights = self.attention_interface()(
                self,
                exact_query,
                method.exact_keys(tokens),
                value,
                attention_mask,
                dropout=dropout,
                scaling=self.scaling,
                **kwargs,
            )
        else:
            if self.training and self.attention_dropout:
                raise ValueError("this method has no attention dropout; set attention_dropout to 0 to train")
            out, weights = method.attend(tokens, weights=backend == "eager")
            out = out.transpose(1, 2)
        out = out.reshape(*hidden_states.shape[:-1], -1).contiguous()
        return self.output(out), weights


class _Backends:
    # Not one call of an attention function: backends that bring their own cannot run it.
    _supports_attention_backend = False
    _supports_flex_attn = False


class RopeExtModelMixin(_Backends):
    """A family's model with the method of its configuration. Goes before the family's model among the bases.

    Attributes:
        rope_ext_attention_class: the family's attention with `RopeExtAttentionMixin`.
    """

    rope_ext_attention_class: type

    _rope_ext_method: Method | None = None

    def __init__(self, config: Any) -> None:
        method = build_method(config)
        _convert_weights_as_stock(config.model_type)
        super().__init__(config)
        self._rope_ext_untested = is_due()
        stock = inspect.signature(super().forward).parameters
        self._rope_ext_cache_name = next(name for name in CACHE_NAMES if name in stock)
        if isinstance(method, Method):
            self._rope_ext_method = method
            for layer in self.layers:
                layer.self_attn.__class__ = self.rope_ext_attention_class
                layer.self_attn.rope_ext_method = method
        else:
            self.rotary_emb = method.rotary()

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        past_key_values: Any = None,
        inputs_embeds: Tensor | None = None,
        **kwargs: Any,
    ) -> Any:
        """As the family's model."""
        if self._rope_ext_untested:
            self._rope_ext_untested = False
            self_test(self)
        method, cache = self._rope_ext_method, _cache_of(past_key_values, kwargs)
        if method is not None:
            backend = self.config._attn_implementation
            if backend not in BACKENDS:
                raise ValueError(f"attention backend {backend!r} cannot run this method; use one of {BACKENDS}")
            tokens = input_ids if inputs_embeds is None else inputs_embeds
            if tokens is None:
                raise ValueError("pass input_ids or inputs_embeds")
            if isinstance(attention_mask, dict):  # `generate` with a static cache: one mask for each kind of layer
                attention_mask = attention_mask["full_attention"]
            geometry = locate(tokens, attention_mask, position_ids, cache)
            geometry.exact = method.is_base(geometry.input_end)
            if not geometry.exact:
                # What the mask says is in the geometry. A four-dimensional one is passed on as it is: so the family's
                # forward makes no [T, L] mask.
                attention_mask = torch.ones((1, 1, 1, 1), dtype=torch.bool, device=tokens.device)
            position_ids = geometry.query_positions
            kwargs["rope_ext"] = geometry
        kwargs[self._rope_ext_cache_name] = cache
        return super().forward(
            input_ids=input_ids,
            attention_mask=attention_mask,
            position_ids=position_ids,
            inputs_embeds=inputs_embeds,
            **kwargs,
        )


CACHE_NAMES = ("cache", "past_key_values", "past_key_value")
"""What transformers calls the cache: from 5.24 on, up to 5.23, and in attention up to 4.55."""


def _cache_of(cache: Any, kwargs: dict[str, Any]) -> Any:
    """Take the cache out of keyword arguments, under whichever name it came."""
    for name in CACHE_NAMES:
        given = kwargs.pop(name, None)
        cache = given if cache is None else cache
    return cache


def _convert_weights_as_stock(model_type: str) -> None:
    """Let transformers 5 rename and join weights of the checkpoint as for its own class of the family.

    Later ones leave code of ours out unless the family's mapping is registered; mixtures of experts cannot do without.
    """
    mappings: Any = sys.modules.get("transformers.conversion_mapping")
    mapping = None if mappings is None else mappings.get_checkpoint_conversion_mapping(model_type)
    if mapping is not None:
        mappings.register_checkpoint_conversion_mapping(model_type, mapping, overwrite=True)


def locate(tokens: Tensor, attention_mask: Tensor | None, position_ids: Tensor | None, cache: Any) -> Geometry:
    """Where the tokens of a forward stand.

    Args:
        tokens: [B, T] or [B, T, hidden]: only its shape and device count.
        attention_mask: [B, L] or [B, 1, T, L], True, 1 or 0.0 where a key is seen; None: all are tokens.
        position_ids: [B or 1, T]; None: counted from the mask, so that padding does not move a token.
        cache: of transformers, before this forward; or None.

    Raises:
        ValueError: the mask is four-dimensional and more than causality and padding.
    """
    batch, count = tokens.shape[:2]
    static = cache is not None and bool(getattr(cache, "is_compileable", False))
    past = 0 if cache is None else cache.get_seq_length()
    if isinstance(past, Tensor):
        past = past.clone()  # some static caches return the tensor that they count in
    if static and count > 1:
        past = int(past)
    columns = past + torch.arange(count, device=tokens.device)
    valid = None if attention_mask is None else _valid_keys(attention_mask, columns)
    if position_ids is not None:
        positions = position_ids.expand(batch, count)
    elif valid is None:
        positions = columns.expand(batch, count)
    else:
        positions = (valid.long().cumsum(-1) - 1).clamp(min=0)[:, columns]
    end = None if isinstance(past, Tensor) else past + count
    if not isinstance(past, Tensor) and not torch.compiler.is_compiling():
        valid = _without_needless(valid, past, count, cache)
    return Geometry(positions, past, valid, static=static, input_end=end)


def _without_needless(valid: Tensor | None, past: int, count: int, cache: Any) -> Tensor | None:
    """The mask [B, L], or None when it masks nothing. An accelerator is asked at a prefill, not at each token.

    What was found is noted in the cache. One more token is then none of padding: nothing would read that, and padding
    before another token is refused.
    """
    if valid is not None:
        end = past + count
        if valid.shape[1] < end:
            raise ValueError(
                f"attention_mask covers {valid.shape[1]} columns of {end}; it must cover the cached ones too"
            )
        known = getattr(cache, _UNPADDED, None)
        if count == 1 and valid.device.type != "cpu" and known is not None:
            needless = past <= known
        else:
            needless = bool(valid[:, :end].all())
        if needless:
            valid = None
    if cache is not None:
        setattr(cache, _UNPADDED, past + count if valid is None else -1)
    return valid


def _valid_keys(mask: Tensor, columns: Tensor) -> Tensor:
    """[B, L] booleans of a mask of either kind."""
    if mask.dim() == 2:
        return mask.bool()
    seen = mask[:, 0] if mask.dtype == torch.bool else mask[:, 0] >= 0
    valid = seen[:, -1]
    if columns.shape[0] > 1:
        keys = torch.arange(seen.shape[-1], device=mask.device)
        expected = valid[:, None] & (keys <= columns[:, None])
        # A query of padding sees nothing, or everything where a kernel needs that.
        blank = seen.all(-1) | ~seen.any(-1)
        if not bool(torch.where(valid[:, columns], (seen == expected).all(-1), blank).all()):
            raise ValueError(
                "this model takes masks of causality and padding only; pass a two-dimensional attention_mask"
            )
    return valid


class RopeExtHeadMixin(_Backends):
    """A family's model with a head. Goes before the family's class among the bases.

    Attributes:
        rope_ext_model_class: the family's model with `RopeExtModelMixin`.
    """

    config_class: type
    rope_ext_model_class: type

    def __init__(self, config: Any) -> None:
        # Stock heads other than the language model's make their base model by its Auto class.
        AutoModel.register(self.config_class, self.rope_ext_model_class, exist_ok=True)
        super().__init__(config)
        # In place of the one that the family's class made; both cost nothing on the meta device, where loading happens.
        setattr(self, self.base_model_prefix, self.rope_ext_model_class(config))
        self.post_init()

    def generate_batch(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Refused: continuous batching reads keys from a cache of its own, which no method here could use."""
        raise NotImplementedError(
            "continuous batching (generate_batch) does not run a checkpoint made by ropext; call generate with a "
            "left-padded batch instead"
        )

    def init_continuous_batching(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Refused, as `generate_batch`."""
        self.generate_batch()
