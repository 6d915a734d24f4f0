"""The attention primitives that every method is built from.

Shape letters: B batch, H query heads, K key heads, T queries, L keys, D head_dim, P frequency pairs (D / 2, or fewer
where RoPE turns a part of each head only). Pair `d` is made of the dimensions `d` and `d + P`.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable
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


def flash_attention(
    query_BHTD: Tensor, key_BKLD: Tensor, value_BKLD: Tensor, *, causal: bool, scale: float, backend: str = "sdpa"
) -> Part:
    """Softmax attention without a logit matrix, with the log-sum-exp that `merge` needs. No gradient.

    Args:
        query_BHTD: rotated queries.
        key_BKLD: rotated keys, K dividing H.
        value_BKLD: values.
        causal: query t sees keys 0 to L - T + t. Otherwise every query sees every key.
        scale: factor on the logits.
        backend: `sdpa`, torch's own kernels; or `flash_attention_2`, those of the package flash-attn.

    Raises:
        ValueError: there is no key (torch's CPU kernel would end the process), or `causal` with T > L.
        ImportError: `flash_attention_2` without the package.
    """
    T, L = query_BHTD.shape[2], key_BKLD.shape[2]
    if L == 0 or (causal and T > L):
        raise ValueError(f"no such attention: {T} queries, {L} keys, causal={causal}")
    if backend == "flash_attention_2":
        return packaged_attention(query_BHTD, key_BKLD, value_BKLD, causal=causal, scale=scale)
    if causal and 1 < T < L:
        parts = [(slice(L - T, L), True), (slice(0, L - T), False)]
        return merge(_torch_kernel(query_BHTD, key_BKLD[:, :, s], value_BKLD[:, :, s], c, scale) for s, c in parts)
    return _torch_kernel(query_BHTD, key_BKLD, value_BKLD, causal and T > 1, scale)


def _torch_kernel(query_BHTD: Tensor, key_BKLD: Tensor, value_BKLD: Tensor, causal: bool, scale: float) -> Part:
    """`flash_attention` by torch; `causal` asks for T == L."""
    B, H, T, D = query_BHTD.shape
    K = key_BKLD.shape[1]
    device = query_BHTD.device.type
    if not causal and K < H:
        # The query heads of a group as more queries of their key head: its keys are read once for all of them.
        folded = query_BHTD.reshape(B, K, -1, D)
        out, lse = _torch_kernel(folded, key_BKLD, value_BKLD, causal, scale)
        return out.reshape(B, H, T, D), lse.reshape(B, H, T)
    if K < H and device != "cuda" and not (device == "cpu" and _GROUPED_HEADS):
        key_BKLD, value_BKLD = (x.repeat_interleave(H // K, dim=1) for x in (key_BKLD, value_BKLD))
    args: tuple[Any, ...] = (query_BHTD, key_BKLD, value_BKLD)
    if device == "cpu":
        out, lse = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(*args, 0.0, causal, scale=scale)
    elif device == "cuda" and query_BHTD.dtype in (torch.float16, torch.bfloat16):
        out, lse = torch.ops.aten._scaled_dot_product_flash_attention(*args, 0.0, causal, False, scale=scale)[:2]
    else:
        out, lse = _blockwise_attention(*args, causal=causal, scale=scale)
    return out, lse


def _grouped_heads() -> bool:
    """Whether torch's CPU kernel takes fewer key heads than query heads."""
    q, kv = (torch.zeros(1, heads, 1, 8, device="cpu") for heads in (2, 1))
    try:
        torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(q, kv, kv, 0.0, False, scale=1.0)
    except RuntimeError:
        return False
    return True


_GROUPED_HEADS = _grouped_heads()  # asked once, and not within a compiled graph


def _blockwise_attention(
    query_BHTD: Tensor, key_BKLD: Tensor, value_BKLD: Tensor, *, causal: bool, scale: float, block: int = 128
) -> Part:
    """The same in plain torch operations, for devices and types without a kernel."""
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


def packaged_attention(
    query_BHTD: Tensor,
    key_BKLD: Tensor,
    value_BKLD: Tensor,
    *,
    causal: bool,
    scale: float,
    window: int | None = None,
) -> Part:
    """`flash_attention` by the package flash-attn: the one place that knows its signature.

    Args:
        query_BHTD: rotated queries, float16 or bfloat16.
        key_BKLD: rotated keys.
        value_BKLD: values.
        causal: query t sees keys 0 to L - T + t.
        scale: factor on the logits.
        window: with `causal`, how many of those keys, the last ones, each query sees; None: all.

    Raises:
        ImportError: the package is not installed.
    """
    function = importlib.import_module("flash_attn").flash_attn_func
    out, lse = function(
        *(x.transpose(1, 2) for x in (query_BHTD, key_BKLD, value_BKLD)),
        softmax_scale=scale,
        causal=causal,
        window_size=(-1, -1) if window is None else (window - 1, 0),
        return_attn_probs=True,
    )[:2]
    return out.transpose(1, 2), lse


def merge(parts: Iterable[Part]) -> Part:
    """Attention over the union of disjoint sets of keys from the attention over each.

    A part without keys for some query says so by a log-sum-exp of minus infinity there.
    """
    parts = list(parts)
    if len(parts) == 1:
        return parts[0]
    lses = torch.stack([lse for _, lse in parts])
    lse = lses.logsumexp(0)
    weights = (lses - lse).exp()[..., None]
    merged = parts[0][0] * weights[0]
    for (out, _), weight in zip(parts[1:], weights[1:], strict=True):
        merged.addcmul_(out.to(merged.dtype), weight)
    return merged.to(parts[0][0].dtype), lse


def grouped_logits(query_BHTD: Tensor, key_BKLD: Tensor) -> Tensor:
    """Dot products [B, H, T, L] of queries with the keys of their group, the keys not repeated."""
    B, H, T, D = query_BHTD.shape
    grouped = query_BHTD.reshape(B, key_BKLD.shape[1], -1, D)
    if T == 1:  # for long caches several times faster on a CPU than the other way round
        return (key_BKLD @ grouped.transpose(2, 3)).transpose(2, 3).reshape(B, H, 1, -1)
    return (grouped @ key_BKLD.transpose(2, 3)).view(B, H, T, -1)


def weighted_values(weights_BHTL: Tensor, value_BKLD: Tensor) -> Tensor:
    """Weighted sums [B, H, T, D] of the values of each query head's group, the values not repeated."""
    B, H, T, L = weights_BHTL.shape
    grouped = weights_BHTL.reshape(B, value_BKLD.shape[1], -1, L) @ value_BKLD
    return grouped.view(B, H, T, -1)


def masked_softmax(logits_BHTL: Tensor, allowed_BTL: Tensor) -> Tensor:
    """Softmax in float32 over the allowed keys, in the type of the logits; a row with none comes out finite."""
    logits = logits_BHTL.masked_fill(~allowed_BTL[:, None], torch.finfo(logits_BHTL.dtype).min)
    return logits.softmax(-1, dtype=torch.float32).to(logits_BHTL.dtype)
