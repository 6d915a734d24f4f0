"""An attention layer of a near band and a far triangle, over two paged caches: exact keys of a window, far keys of all.

Both are plain paged attention: the band has a window, the triangle ends `window` keys earlier, as causality counts from
the last key. They are merged by log-sum-exp. Queries at positions below `start` see exact keys only, by a third call.

vLLM's cache manager frees what lies behind a sliding window. So the exact keys belong to a sliding layer of their own,
which is never called: the layer of the far keys writes and reads both, and no log-sum-exp leaves it.

Shape letters: N tokens of all requests, H query heads, K key heads, D head_dim, B blocks, S tokens of a block.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from vllm.model_executor.layers.attention import Attention
from vllm.model_executor.layers.attention.attention import get_attention_context

from ropext.modeling.rope_ext_band import BandMethod

from .backend import Backend, Impl, stored, taken_over
from .flash import kernels
from .paged import Batch

__all__ = ["BandAttention"]


class _Impl(Impl):
    def attend(
        self, layer: Any, cache: Tensor, batch: Batch, query: Tensor, key: Tensor, value: Tensor, output: Tensor
    ) -> None:
        """Attend for a `BandAttention`: query [N, H, 2 D], key [N, K, 2 D], exact and far; the cache holds far keys."""
        attend, merge = kernels(query)
        exact, _, exact_cache, _ = get_attention_context(layer.exact)
        (exact_query, far_query), (exact_key, far_key) = query.chunk(2, dim=-1), key.chunk(2, dim=-1)
        near = *stored(exact_key, value, exact_cache, exact), exact, self.scale, self.softcap
        beyond = *stored(far_key, value, cache, batch), batch, self.scale, self.softcap
        band = attend(exact_query, *near, window=layer.window)
        lse = merge(output, band, attend(far_query, *beyond, behind=layer.window))
        if layer.start > layer.window:
            early = exact.positions() < layer.start
            out, early_lse = attend(exact_query, *near, window=layer.start)
            output.copy_(torch.where(early[:, None, None], out, output))
            lse = torch.where(early, early_lse, lse)
        self.sink(output, lse)


class _Backend(Backend):
    impl = _Impl


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
        shared = taken_over(old, cache_config)
        super().__init__(
            head_size=2 * old.head_size, head_size_v=old.head_size, attn_backend=_Backend, **shared, **more
        )
        self.window, self.start, self.exact = method.window, method.start, old.layer_name
        if method.moves_keys:
            self.exact += ".near"
            held = {key: shared[key] for key in ("num_heads", "scale", "num_kv_heads", "cache_config")}
            how = {"head_size": old.head_size, "per_layer_sliding_window": kept, "prefix": self.exact}
            self.near = Attention(attn_backend=_Backend, **held, **how)

    def get_kv_cache_spec(self, vllm_config: Any) -> Any:
        """Return what the cache holds of a token: of its two keys the far one."""
        return replace(super().get_kv_cache_spec(vllm_config), head_size=self.head_size_v)
