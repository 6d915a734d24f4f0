"""The attention layer of DCA over a paged cache: a key keeps its place in its chunk, a query has three places.

Requests are cut at the borders of chunks. Each piece sees its own chunk causally, and the chunk before and all older
ones whole: three calls of plain paged attention, merged by log-sum-exp. Chunks begin where blocks begin.

Shape letters: N tokens of all requests, H query heads, K key heads, D head_dim, P frequency pairs.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from vllm.model_executor.layers.attention import Attention

from ropext.modeling.rope_ext_dca import Dca

from .backend import Backend, Impl, stored, taken_over
from .flash import kernels
from .method import Refused, plainly
from .paged import Batch
from .rotary import keep, turned, turns

__all__ = ["ChunkAttention"]


class _Impl(Impl):
    def attend(
        self, layer: Any, cache: Tensor, batch: Batch, query: Tensor, key: Tensor, value: Tensor, output: Tensor
    ) -> None:
        """Attend for a `ChunkAttention`: query [N, H, D] and key [N, K, D] stand at their places in their chunks."""
        attend, merge = kernels(query)
        held, how = stored(key, value, cache, batch), (self.scale, self.softcap)
        own, *others = batch.chunks(layer.stride, cache.shape[2])
        place = batch.positions() % layer.stride
        out, lse = attend(query, *held, own, *how)
        for border, table, keys in zip(layer.borders, (layer.to_chunk_before, layer.to_older), others, strict=True):
            if batch.max_seq_len > border:
                part, out = (out, lse), torch.empty_like(output)
                lse = merge(out, part, attend(turned(layer.pairs, query, table[place]), *held, keys, *how))
        output.copy_(out)
        self.sink(output, lse)


class _Backend(Backend):
    impl = _Impl


class ChunkAttention(Attention):
    """Takes queries and keys at their places in their chunks.

    Attributes:
        stride: tokens of a chunk.
        borders: beyond the first a text has a chunk before, beyond the second older ones (tokens).
        pairs: the rotation.
        to_chunk_before: [stride, 2 P], what turns a query on for the keys of the chunk before.
        to_older: the same for those of all older chunks.
    """

    to_chunk_before: Tensor
    to_older: Tensor

    def __init__(self, old: Attention, method: Dca, cache_config: Any, device: torch.device, **more: Any) -> None:
        """Take the place of vLLM's attention.

        Args:
            old: vLLM's attention.
            method: the method.
            cache_config: vLLM's.
            device: of the tables.
            more: sinks.

        Raises:
            Refused: chunks would begin within a block.
        """
        _check(method.stride, cache_config.block_size)
        super().__init__(head_size=old.head_size, attn_backend=_Backend, **taken_over(old, cache_config), **more)
        stride, size = method.stride, method.chunk_size
        with plainly():
            before = turns(method, lambda own, _: (own + stride).clamp(max=size), stride)
            older = turns(method, lambda own, _: torch.full_like(own, size), stride)
        self.stride, self.borders, self.pairs = stride, (stride, 2 * stride), method.pairs
        keep(self, "to_chunk_before", before, device)
        keep(self, "to_older", older, device)


def _check(stride: int, block_size: int) -> None:
    """See that blocks end where chunks end."""
    if stride % block_size:
        fit = [size for size in Backend.get_supported_kernel_block_sizes() if stride % size == 0]
        raise Refused(
            f"vLLM: the stride of DCA, {stride} tokens, is not a multiple of the block size, {block_size}; "
            + (f"give --block-size {fit[-1]}" if fit else "convert with another chunk_size or local_window")
        )
