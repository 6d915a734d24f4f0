"""What the oracles share: one logit, and a Llama whose attention is a loop over pairs of tokens."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from numpy.typing import NDArray

Array = NDArray[np.float64]
Logit = Callable[[int, Array, Array, int, int], Array]
"""(layer, query [heads, head_dim], key [heads, head_dim], i, j) to one unscaled logit for each head."""


def logit(query: Array, key: Array, distance: Array | float, inv_freq: Array) -> Array:
    """Dot product of each head's query with its key, `distance` tokens apart: [heads].

    Dimensions beyond the pairs, where RoPE turns a part of each head only, know no distance.
    """
    pairs = len(inv_freq)
    q = query[:, :pairs] + 1j * query[:, pairs : 2 * pairs]
    k = key[:, :pairs] + 1j * key[:, pairs : 2 * pairs]
    turned = np.real((q * k.conj() * np.exp(1j * distance * inv_freq)).sum(-1))
    return turned + (query[:, 2 * pairs :] * key[:, 2 * pairs :]).sum(-1)


def attention(
    layer: int, query: Array, key: Array, value: Array, pair_logit: Logit, scale: float | None = None
) -> Array:
    """Causal attention of [heads, length, head_dim] arrays, one pair of tokens at a time."""
    heads, length, head_dim = query.shape
    out = np.zeros_like(query)
    scale = 1 / np.sqrt(head_dim) if scale is None else scale
    for i in range(length):
        logits = np.stack([pair_logit(layer, query[:, i], key[:, j], i, j) for j in range(i + 1)], -1)
        weights = np.exp((logits - logits.max(-1, keepdims=True)) * scale)
        out[:, i] = np.einsum("hj,hjd->hd", weights / weights.sum(-1, keepdims=True), value[:, : i + 1])
    assert out.shape[0] == heads
    return out


@torch.no_grad()
def llama_logits(base: Any, input_ids: torch.Tensor, pair_logit: Logit) -> torch.Tensor:
    """Logits [length, vocabulary] of a stock float64 Llama for one row, its attention replaced by the loop."""
    model = base.model
    hidden = model.embed_tokens(input_ids[None])[0]
    for index, layer in enumerate(model.layers):
        attn, normed = layer.self_attn, layer.input_layernorm(hidden)
        query, key, value = (
            linear(normed).view(len(normed), -1, attn.head_dim).transpose(0, 1)
            for linear in (attn.q_proj, attn.k_proj, attn.v_proj)
        )
        key, value = (x.repeat_interleave(attn.num_key_value_groups, 0) for x in (key, value))
        out = torch.from_numpy(attention(index, query.numpy(), key.numpy(), value.numpy(), pair_logit))
        hidden = hidden + attn.o_proj(out.transpose(0, 1).reshape(len(normed), -1))
        hidden = hidden + layer.mlp(layer.post_attention_layernorm(hidden))
    return base.lm_head(model.norm(hidden))  # type: ignore[no-any-return]


@torch.no_grad()
def stock_logits(base: Any, input_ids: torch.Tensor, pair_logit: Logit) -> torch.Tensor:
    """Logits [length, vocabulary] of any stock float64 model for one row, its attention function replaced by the loop.

    All else, projections, norms and scales, is the stock module's own; its rotation is left out. The model has to be
    loaded with the attention implementation `eager`.
    """

    def looped(attn: Any, query: Any, key: Any, value: Any, mask: Any, scaling: float, **kwargs: Any) -> Any:
        groups = attn.num_key_value_groups
        key, value = (x.repeat_interleave(groups, 1) for x in (key, value))
        arrays = (x[0].numpy() for x in (query, key, value))
        out = torch.from_numpy(attention(attn.layer_idx, *arrays, pair_logit, scaling))
        return out.transpose(0, 1)[None], None

    def unrotated(query: Any, key: Any, *table: Any, **kwargs: Any) -> Any:
        return query, key

    replaced = {"eager_attention_forward": looped, "apply_rotary_pos_emb": unrotated}
    with patch.multiple(sys.modules[type(base).__module__], **replaced):
        return base(input_ids[None], use_cache=False).logits[0]  # type: ignore[no-any-return]
