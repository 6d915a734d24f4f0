"""The attention primitives that every method is built from.

Shape letters: B batch, H query heads, K key heads, T queries, L keys, D head_dim, P frequency pairs (D / 2, or fewer
where RoPE turns a part of each head only). Pair `d` is made of the dimensions `d` and `d + P`.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from typing import Any

import torch
from torch import Tensor

Part = tuple[Tensor, Tensor]
"""Attention over a part of the keys: output [B, H, T, D] and log-sum-exp of its logits [B, H, T]."""


def angles(positions: Tensor, inv_freq: Tensor) -> Part:
    """Cosine and sine of every pair's angle.

    Args:
        positions: [B, T], one for all pairs, or [B, T, P], one for each (tokens, integral or not).
        inv_freq: [P] (radians per token), float32.

    Returns:
        Two float32 tensors [B, 1, T, P], ready to be broadcast over heads.
    """
    if positions.dim() == 2:
        positions = positions[..., None]
    angle_BTP = positions.float() * inv_freq
    return angle_BTP.cos()[:, None], angle_BTP.sin()[:, None]


def rotate(x_BHTD: Tensor, table: Part) -> Tensor:
    """Rotate the pairs of `x_BHTD` by a table made by `angles`, in float32, back in the type of `x_BHTD`.

    Dimensions beyond the table's pairs, where RoPE turns a part of each head only, stay as they are.
    """
    cos, sin = (part.to(x_BHTD.device) for part in table)  # a model may lie on several
    P = cos.shape[-1]
    first, second, rest = x_BHTD.tensor_split((P, 2 * P), dim=-1)
    return torch.cat((first * cos - second * sin, second * cos + first * sin, rest), dim=-1).to(x_BHTD.dtype)


@cache
def _grouped_heads() -> bool:
    """Whether torch's CPU kernel takes fewer key heads than query heads."""
    q, kv = torch.zeros(1, 2, 1, 8), torch.zeros(1, 1, 1, 8)
    try:
        torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(q, kv, kv, 0.0, False, scale=1.0)
    except RuntimeError:
        return False
    return True


def flash_attention(query_BHTD: Tensor, key_BKLD: Tensor, value_BKLD: Tensor, *, causal: bool, scale: float) -> Part:
    """Softmax attention without a logit matrix, with the log-sum-exp that `merge` needs. No gradient.

    Args:
        query_BHTD: rotated queries.
        key_BKLD: rotated keys, K dividing H.
        value_BKLD: values.
        causal: query t sees keys 0 to t; asks for T == L. Otherwise every query sees every key.
        scale: factor on the logits.

    Raises:
        ValueError: there is no key (torch's CPU kernel would end the process), or `causal` with T != L.
    """
    if key_BKLD.shape[2] == 0 or (causal and query_BHTD.shape[2] != key_BKLD.shape[2]):
        raise ValueError(f"no such attention: {query_BHTD.shape[2]} queries, {key_BKLD.shape[2]} keys, causal={causal}")
    device = query_BHTD.device.type
    if device != "cuda" and not (device == "cpu" and _grouped_heads()):
        repeats = query_BHTD.shape[1] // key_BKLD.shape[1]
        key_BKLD = key_BKLD.repeat_interleave(repeats, dim=1)
        value_BKLD = value_BKLD.repeat_interleave(repeats, dim=1)
    args: tuple[Any, ...] = (query_BHTD, key_BKLD, value_BKLD)
    if device == "cpu":
        out, lse = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(*args, 0.0, causal, scale=scale)
    elif device == "cuda" and query_BHTD.dtype in (torch.float16, torch.bfloat16):
        out, lse = torch.ops.aten._scaled_dot_product_flash_attention(*args, 0.0, causal, False, scale=scale)[:2]
    else:
        out, lse = _blockwise_attention(*args, causal=causal, scale=scale)
    return out, lse


def _blockwise_attention(
    query_BHTD: Tensor, key_BKLD: Tensor, value_BKLD: Tensor, *, causal: bool, scale: float, block: int = 128
) -> Part:
    """What `flash_attention` promises, in plain torch operations: for devices and types without a kernel."""
    outs, lses = [], []
    for start in range(0, query_BHTD.shape[2], block):
        logits = grouped_logits(query_BHTD[:, :, start : start + block], key_BKLD).float() * scale
        if causal:
            rows = torch.arange(start, start + logits.shape[2], device=logits.device)
            columns = torch.arange(logits.shape[3], device=logits.device)
            logits = logits.masked_fill(columns > rows[:, None], -torch.inf)
        lses.append(logits.logsumexp(-1))
        outs.append(weighted_values(logits.softmax(-1).to(value_BKLD.dtype), value_BKLD))
    return torch.cat(outs, dim=2), torch.cat(lses, dim=2)


def merge(parts: Iterable[Part]) -> Tensor:
    """Attention over the union of disjoint sets of keys from the attention over each: [B, H, T, D].

    A part without keys for some query says so by a log-sum-exp of minus infinity there.
    """
    parts = list(parts)
    outs, lses = [out for out, _ in parts], [lse for _, lse in parts]
    if len(outs) == 1:
        return outs[0]
    weights = torch.stack(lses).softmax(0)[..., None]
    merged = outs[0] * weights[0]
    for out, weight in zip(outs[1:], weights[1:], strict=True):
        merged += out * weight
    return merged.to(outs[0].dtype)


def causal_attention(query_BHTD: Tensor, key_BKLD: Tensor, value_BKLD: Tensor, *, scale: float) -> Tensor:
    """Causal attention of the last T of L tokens: query t sees keys 0 to L - T + t."""
    past = key_BKLD.shape[2] - query_BHTD.shape[2]
    if query_BHTD.shape[2] == 1:
        return flash_attention(query_BHTD, key_BKLD, value_BKLD, causal=False, scale=scale)[0]
    parts = [flash_attention(query_BHTD, key_BKLD[:, :, past:], value_BKLD[:, :, past:], causal=True, scale=scale)]
    if past:
        seen = key_BKLD[:, :, :past], value_BKLD[:, :, :past]
        parts.append(flash_attention(query_BHTD, *seen, causal=False, scale=scale))
    return merge(parts)


def grouped_logits(query_BHTD: Tensor, key_BKLD: Tensor) -> Tensor:
    """Dot products [B, H, T, L] of queries with the keys of their group, the keys not repeated."""
    B, H, T, D = query_BHTD.shape
    grouped = query_BHTD.reshape(B, key_BKLD.shape[1], -1, D) @ key_BKLD.transpose(2, 3)
    return grouped.view(B, H, T, -1)


def weighted_values(weights_BHTL: Tensor, value_BKLD: Tensor) -> Tensor:
    """Weighted sums [B, H, T, D] of the values of each query head's group, the values not repeated."""
    B, H, T, L = weights_BHTL.shape
    grouped = weights_BHTL.reshape(B, value_BKLD.shape[1], -1, L) @ value_BKLD
    return grouped.view(B, H, T, -1)


def masked_softmax(logits_BHTL: Tensor, allowed_BTL: Tensor) -> Tensor:
    """Softmax in float32 over the allowed keys, in the type of the logits; a row with none comes out finite."""
    logits = logits_BHTL.masked_fill(~allowed_BTL[:, None], torch.finfo(logits_BHTL.dtype).min)
    return logits.softmax(-1, dtype=torch.float32).to(logits_BHTL.dtype)
