"""What the attention layers of this plugin share: a backend of their own, and the part of it that knows no method.

Shape letters: N tokens of all requests, H query heads, K key heads, D head_dim, B blocks, S tokens of a block.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor
from vllm.v1.attention.backend import AttentionBackend, AttentionImpl, AttentionMetadataBuilder, AttentionType

from .method import Refused
from .paged import Batch

__all__ = ["Backend", "Impl", "stored", "taken_over"]

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


class Impl(AttentionImpl):
    """Attention of a layer of this plugin."""

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
            layer: that this is of.
            query: [N, H, …], as the layer takes it.
            key: [N, K, …], the same.
            value: [N, K, D].
            kv_cache: [B, K, S, 2 D], keys and values.
            attn_metadata: None while vLLM measures memory.
            output: [N, H, D], is written.
            output_scale: not supported.
            output_block_scale: not supported.
        """
        if attn_metadata is None:
            return output.fill_(0)
        given = (each[: attn_metadata.num_actual_tokens] for each in (query, key, value, output))
        self.attend(layer, kv_cache, attn_metadata, *given)
        return output

    def attend(
        self, layer: Any, cache: Tensor, batch: Batch, query: Tensor, key: Tensor, value: Tensor, output: Tensor
    ) -> None:
        """`forward` of the tokens that are there."""
        raise NotImplementedError

    def sink(self, output: Tensor, lse: Tensor) -> None:
        """Give the sinks their share, of an output [N, H, D] with the log-sum-exp [H, N]."""
        if self.sinks is not None:
            output.mul_(torch.sigmoid(lse - self.sinks[:, None].to(lse)).T[..., None].to(output))


def stored(keys: Tensor, values: Tensor, cache: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
    """Put new keys [N, K, D] and values into a cache [B, K, S, 2 D]; returns its keys and values, [B, S, K, D]."""
    if cache.shape[1] != keys.shape[1] or cache.shape[3] != 2 * keys.shape[2]:
        raise RuntimeError(f"ropext: this vLLM lays its cache out as {tuple(cache.shape)}, which is not known")
    slots = batch.slot_mapping[: len(keys)].clamp(min=0)  # what pads a batch goes to the block that vLLM leaves empty
    size = cache.shape[2]
    cache[slots // size, :, slots % size] = torch.cat((keys, values), dim=-1)
    stored_keys, stored_values = cache.transpose(1, 2).chunk(2, dim=-1)
    return stored_keys, stored_values


class Backend(AttentionBackend):
    """The backend of a layer of this plugin; as it stands, of one that only holds keys."""

    impl: ClassVar[type[Impl]] = Impl
    supported_dtypes: ClassVar[list[torch.dtype]] = [torch.float16, torch.bfloat16, torch.float32]
    supported_kv_cache_dtypes: ClassVar[list[Any]] = list(_TYPES)
    forward_includes_kv_cache_update = True

    @staticmethod
    def get_name() -> str:
        """What vLLM calls a backend that it does not know."""
        return "CUSTOM"

    @classmethod
    def get_impl_cls(cls) -> type[AttentionImpl]:
        """Return the attention."""
        return cls.impl

    @staticmethod
    def get_builder_cls() -> type[AttentionMetadataBuilder]:
        """Return what makes a batch."""
        return _Builder

    @staticmethod
    def get_supported_kernel_block_sizes(kv_cache_spec: Any = None) -> list[int]:
        """Tokens of a block."""
        return [16, 32, 64, 128]

    @classmethod
    def supports_sink(cls) -> bool:
        """Sinks have their share after the merge."""
        return True

    @staticmethod
    def get_kv_cache_shape(
        num_blocks: int, block_size: int, num_kv_heads: int, head_size: int, cache_dtype_str: str = "auto"
    ) -> tuple[int, ...]:
        """Up to vLLM 0.28; newer ones take it from the layer."""
        return num_blocks, num_kv_heads, block_size, 2 * head_size


def taken_over(old: Any, cache_config: Any) -> dict[str, Any]:
    """What a layer has of vLLM's own attention, whose place it takes."""
    return {
        "num_heads": old.num_heads,
        "scale": old.impl.scale,
        "num_kv_heads": old.num_kv_heads,
        "cache_config": cache_config,
        "quant_config": old.quant_config,
        "logits_soft_cap": getattr(old.impl, "logits_soft_cap", None) or None,
        "prefix": old.layer_name,
    }
