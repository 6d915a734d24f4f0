"""An attention backend of a near band and a far triangle over one paged cache, [exact key | far key | value].

Both are plain paged attention: the band has a window, the triangle ends `window` keys earlier, as causality counts from
the last key. They are merged by log-sum-exp. Queries at positions below `start` see exact keys only, by a third call.

Shape letters: N tokens of all requests, H query heads, K key heads, D head_dim, B blocks, S tokens of a block.
"""

from __future__ import annotations

import functools
from typing import Any, ClassVar

import torch
from torch import Tensor
from vllm.v1.attention.backend import AttentionBackend, AttentionImpl, AttentionMetadataBuilder, AttentionType

from .flash import attend_flash, merge_flash
from .method import Refused
from .paged import Batch, attend_torch, merge_torch

__all__ = ["band_backend"]

_TYPES = ("auto", "float16", "bfloat16", "float32")


class _Builder(AttentionMetadataBuilder):
    """Takes what vLLM knows of a batch. It supports no CUDA graph of the attention itself."""

    def __init__(self, kv_cache_spec: Any, layer_names: list[str], vllm_config: Any, device: torch.device) -> None:
        super().__init__(kv_cache_spec, layer_names, vllm_config, device)

    def build(self, common_prefix_len: int, common_attn_metadata: Any, fast_build: bool = False) -> Batch:
        """Make the batch of a step."""
        m = common_attn_metadata
        if m.causal is not True:
            raise Refused("vLLM: attention that is not causal is not supported with a method of ropext")
        names = ("query_start_loc", "query_start_loc_cpu", "seq_lens", "slot_mapping")
        return Batch(
            m.num_actual_tokens,
            m.max_query_len,
            m.max_seq_len,
            block_table=m.block_table_tensor,
            **{name: getattr(m, name) for name in names},
        )


class _Impl(AttentionImpl):
    """Attention of one layer."""

    window: ClassVar[int]
    start: ClassVar[int]

    def __init__(
        self,
        num_heads: int,
        head_size: int,
        scale: float,
        num_kv_heads: int | None = None,
        alibi_slopes: list[float] | None = None,
        sliding_window: int | None = None,
        kv_cache_dtype: str = "auto",
        logits_soft_cap: float | None = None,
        attn_type: str = AttentionType.DECODER,
        kv_sharing_target_layer_name: str | None = None,
        sinks: Tensor | None = None,
    ) -> None:
        if kv_cache_dtype not in _TYPES:
            raise Refused(f"vLLM: --kv-cache-dtype {kv_cache_dtype} is not supported with a method of ropext; use auto")
        if alibi_slopes is not None or sliding_window is not None or attn_type != AttentionType.DECODER:
            raise Refused("vLLM builds this layer with more than causal attention")
        self.num_heads, self.num_kv_heads = num_heads, num_kv_heads or num_heads
        self.head_size, self.scale, self.kv_cache_dtype = head_size, float(scale), kv_cache_dtype
        self.softcap, self.sinks = logits_soft_cap or 0.0, sinks
        self.width = head_size // 2

    def forward(
        self,
        layer: Any,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        kv_cache: Tensor,
        attn_metadata: Batch | None,
        output: Tensor,
        output_scale: Tensor | None = None,
        output_block_scale: Tensor | None = None,
    ) -> Tensor:
        """Attend.

        Args:
            layer: not used.
            query: [N, H, 2 D], exact and far.
            key: [N, K, 2 D].
            value: [N, K, D].
            kv_cache: [B, K, S, 3 D].
            attn_metadata: None while vLLM measures memory.
            output: [N, H, D], is written.
            output_scale: not supported.
            output_block_scale: not supported.
        """
        batch = attn_metadata
        if batch is None:
            return output.fill_(0)
        count = batch.num_actual_tokens
        self._store(key[:count], value[:count], kv_cache, batch.slot_mapping[:count])
        self._attend(query[:count], kv_cache.transpose(1, 2), batch, output[:count])
        return output

    def _store(self, key: Tensor, value: Tensor, kv_cache: Tensor, slots: Tensor) -> None:
        if kv_cache.shape[1] != self.num_kv_heads or kv_cache.shape[3] != 3 * self.width:
            raise RuntimeError(f"ropext: this vLLM lays its cache out as {tuple(kv_cache.shape)}, which is not known")
        slots = slots.clamp(min=0)  # what pads a batch goes to the block that vLLM leaves empty
        size = kv_cache.shape[2]
        kv_cache[slots // size, :, slots % size] = torch.cat((key, value), dim=-1)

    def _attend(self, query: Tensor, cache: Tensor, batch: Batch, output: Tensor) -> None:
        exact, far, values = torch.split(cache, self.width, dim=-1)  # [B, S, K, D]
        near_query, far_query = torch.split(query, self.width, dim=-1)
        attend, merge = (attend_flash, merge_flash) if query.is_cuda else (attend_torch, merge_torch)
        how = batch, self.scale, self.softcap
        near = attend(near_query, exact, values, *how, window=self.window)
        lse = merge(output, near, attend(far_query, far, values, *how, behind=self.window))
        if self.start > self.window:
            early = batch.positions() < self.start
            out, early_lse = attend(near_query, exact, values, *how)
            output.copy_(torch.where(early[:, None, None], out, output))
            lse = torch.where(early, early_lse, lse)
        if self.sinks is not None:
            output.mul_(torch.sigmoid(lse - self.sinks[:, None].to(lse)).T[..., None].to(output))


@functools.cache
def band_backend(window: int, start: int) -> type[AttentionBackend]:
    """Make the backend of a method.

    Args:
        window: distances below it are exact (tokens).
        start: queries at positions below it see exact distances only.
    """
    impl = type("RopeExtImpl", (_Impl,), {"window": window, "start": start})

    class RopeExtBackend(AttentionBackend):
        supported_dtypes: ClassVar[list[torch.dtype]] = [torch.float16, torch.bfloat16, torch.float32]
        supported_kv_cache_dtypes: ClassVar[list[Any]] = list(_TYPES)
        forward_includes_kv_cache_update = True

        @staticmethod
        def get_name() -> str:
            return "CUSTOM"

        @staticmethod
        def get_impl_cls() -> type[AttentionImpl]:
            return impl

        @staticmethod
        def get_builder_cls() -> type[AttentionMetadataBuilder]:
            return _Builder

        @staticmethod
        def get_supported_kernel_block_sizes(kv_cache_spec: Any = None) -> list[int]:
            return [16, 32, 64, 128]

        @classmethod
        def supports_sink(cls) -> bool:
            return True

        @staticmethod
        def get_kv_cache_shape(
            num_blocks: int, block_size: int, num_kv_heads: int, head_size: int, cache_dtype_str: str = "auto"
        ) -> tuple[int, ...]:
            """Up to vLLM 0.28; newer ones take it from the layer."""
            return num_blocks, num_kv_heads, block_size, head_size // 2 * 3

    return RopeExtBackend
