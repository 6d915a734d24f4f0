"""The functions of `paged.py` by vLLM's kernels, on CUDA."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from .paged import Batch, attend_torch, merge_torch

__all__ = ["attend_flash", "kernels", "merge_flash"]


def attend_flash(
    query: Tensor,
    keys: Tensor,
    values: Tensor,
    batch: Batch,
    scale: float,
    softcap: float,
    *,
    window: int | None = None,
    behind: int = 0,
) -> tuple[Tensor, Tensor]:
    """`attend_torch` by vLLM's flash-attn, on CUDA."""
    from vllm.v1.attention.backends.fa_utils import flash_attn_varlen_func, get_flash_attn_version

    out, lse, *_ = flash_attn_varlen_func(
        q=query.contiguous(),
        k=keys,
        v=values,
        cu_seqlens_q=batch.query_start_loc,
        max_seqlen_q=batch.max_query_len,
        seqused_k=(batch.seq_lens - behind).clamp(min=0),
        max_seqlen_k=max(batch.max_seq_len - behind, 1),
        softmax_scale=scale,
        causal=batch.causal,
        window_size=[-1, -1] if window is None else [window - 1, 0],
        softcap=softcap,
        block_table=batch.block_table,
        return_softmax_lse=True,
        fa_version=get_flash_attn_version(head_size=query.shape[-1], requires_softcap=softcap > 0),
    )
    return out, lse


def merge_flash(output: Tensor, near: tuple[Tensor, Tensor], far: tuple[Tensor, Tensor]) -> Tensor:
    """`merge_torch` by vLLM's kernel."""
    from vllm.v1.attention.ops.merge_attn_states import merge_attn_states

    lse = torch.empty_like(near[1])
    merge_attn_states(output, *near, *far, output_lse=lse)
    return lse


def kernels(query: Tensor) -> tuple[Callable[..., tuple[Tensor, Tensor]], Callable[..., Any]]:
    """Return what attends and what merges, for queries where they lie."""
    return (attend_flash, merge_flash) if query.is_cuda else (attend_torch, merge_torch)
