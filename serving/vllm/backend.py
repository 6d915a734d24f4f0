"""An attention layer of a near band and a far triangle, over two paged caches: exact keys of a window, far keys of all.

Both are plain paged attention: the band has a window, the triangle ends `window` keys earlier, as causality counts from
the last key. They are merged by log-sum-exp. Queries at positions below `start` see exact keys only, by a third call.

vLLM's cache manager frees what lies behind a sliding window. So the exact keys belong to a sliding layer of their own,
which is never called: the layer of the far keys writes and reads both, and no log-sum-exp leaves it.

Shape letters: N tokens of all requests, H query heads, K key heads, D head_dim, B blocks, S tokens of a block.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar

import torch
from torch import Tensor
from vllm.model_executor.layers.attention import Attention
from vllm.model_executor.layers.attention.attention import get_attention_context
from vllm.v1.attention.backend import AttentionBackend, AttentionImpl, AttentionMetadataBuilder, AttentionType

from ropext.modeling.rope_ext_band import BandMethod

from .flash import attend_flash, merge_flash
from .method import Refused
from .paged import Batch, attend_torch, merge_torch

__all__ = ["BandAttention"]

_Held = tuple[Tensor, Tensor, Batch]
"""Keys and values of a paged cache, [B, S, K, D], and whose they are."""

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
    """Attention of a `BandAttention`."""

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
        if alibi_slopes is not None or attn_type != AttentionType.DECODER:
            raise Refused("vLLM builds this layer with more than causal attention")
        self.num_heads, self.num_kv_heads = num_heads, num_kv_heads or num_heads
        self.head_size, self.scale, self.kv_cache_dtype = head_size, float(scale), kv_cache_dtype
        self.softcap, self.sinks = logits_soft_cap or 0.0, sinks

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
            layer: the `BandAttention`.
            query: [N, H, 2 D], exact and far.
            key: [N, K, 2 D].
            value: [N, K, D].
            kv_cache: [B, K, S, 2 D], far keys and values.
            attn_metadata: None while vLLM measures memory.
            output: [N, H, D], is written.
            output_scale: not supported.
            output_block_scale: not supported.
        """
        if attn_metadata is None:
            return output.fill_(0)
        batch, _, exact_cache, _ = get_attention_context(layer.exact)
        count = batch.num_actual_tokens
        exact, far = key[:count].chunk(2, dim=-1)
        near = *_stored(exact, value, exact_cache, batch), batch
        beyond = *_stored(far, value, kv_cache, attn_metadata), attn_metadata
        self._attend(layer, query[:count], near, beyond, output[:count])
        return output

    def _attend(self, layer: Any, query: Tensor, near: _Held, beyond: _Held, output: Tensor) -> None:
        exact_query, far_query = query.chunk(2, dim=-1)
        attend, merge = (attend_flash, merge_flash) if query.is_cuda else (attend_torch, merge_torch)
        how = self.scale, self.softcap
        band = attend(exact_query, *near, *how, window=layer.window)
        lse = merge(output, band, attend(far_query, *beyond, *how, behind=layer.window))
        if layer.start > layer.window:
            early = near[-1].positions() < layer.start
            out, early_lse = attend(exact_query, *near, *how, window=layer.start)
            output.copy_(torch.where(early[:, None, None], out, output))
            lse = torch.where(early, early_lse, lse)
        if self.sinks is not None:
            output.mul_(torch.sigmoid(lse - self.sinks[:, None].to(lse)).T[..., None].to(output))


def _stored(keys: Tensor, values: Tensor, cache: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
    """Put new keys [N, K, D] and values into a cache [B, K, S, 2 D]; returns its keys and values, [B, S, K, D]."""
    if cache.shape[1] != keys.shape[1] or cache.shape[3] != 2 * keys.shape[2]:
        raise RuntimeError(f"ropext: this vLLM lays its cache out as {tuple(cache.shape)}, which is not known")
    slots = batch.slot_mapping[: len(keys)].clamp(min=0)  # what pads a batch goes to the block that vLLM leaves empty
    size = cache.shape[2]
    cache[slots // size, :, slots % size] = torch.cat((keys, values[: len(keys)]), dim=-1)
    stored_keys, stored_values = cache.transpose(1, 2).chunk(2, dim=-1)
    return stored_keys, stored_values


class _Backend(AttentionBackend):
    """Of both layers."""

    supported_dtypes: ClassVar[list[torch.dtype]] = [torch.float16, torch.bfloat16, torch.float32]
    supported_kv_cache_dtypes: ClassVar[list[Any]] = list(_TYPES)
    forward_includes_kv_cache_update = True

    @staticmethod
    def get_name() -> str:
        return "CUSTOM"

    @staticmethod
    def get_impl_cls() -> type[AttentionImpl]:
        return _Impl

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
        return num_blocks, num_kv_heads, block_size, 2 * head_size


class BandAttention(Attention):
    """Takes queries and keys as [exact | far], and keeps the far keys.

    Attributes:
        window: distances below it are exact (tokens).
        start: queries at positions below it see exact distances only.
        exact: the name of the layer that keeps the exact keys; it itself where the method moves no keys.
    """

    def __init__(self, old: Attention, method: BandMethod, kept: int, cache_config: Any, **more: Any) -> None:
        """Take the place of vLLM's attention.

        Args:
            old: vLLM's attention.
            method: the method.
            kept: exact keys that are kept of each text (tokens), no less than `method.start`.
            cache_config: vLLM's.
            more: sinks.
        """
        shared = {"num_kv_heads": old.num_kv_heads, "cache_config": cache_config, "attn_backend": _Backend}
        super().__init__(
            old.num_heads,
            2 * old.head_size,
            old.impl.scale,
            head_size_v=old.head_size,
            quant_config=old.quant_config,
            logits_soft_cap=getattr(old.impl, "logits_soft_cap", None) or None,
            prefix=old.layer_name,
            **shared,
            **more,
        )
        self.window, self.start, self.exact = method.window, method.start, old.layer_name
        if method.moves_keys:
            self.exact += ".near"
            how = {"per_layer_sliding_window": kept, "prefix": self.exact}
            self.near = Attention(old.num_heads, old.head_size, old.impl.scale, **shared, **how)

    def get_kv_cache_spec(self, vllm_config: Any) -> Any:
        """Return what the cache holds of a token: of its two keys the far one."""
        return replace(super().get_kv_cache_spec(vllm_config), head_size=self.head_size_v)
