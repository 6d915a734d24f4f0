"""Moved keys, kept from one decoding step to the next.

Some methods move far keys by a group size that depends on the length, but stays for thousands of tokens. To turn all of
them anew for each new token would cost more than the attention to them. Shape letters as in the attention file.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache

from .rope_ext_attention import Part, rotate

SLACK = 256
"""Columns that are allocated ahead."""


class MovedKeys:
    """The first keys of one layer, moved for one group size; as large as what the cache itself holds of these keys."""

    def __init__(self) -> None:
        self._group = 0
        self._length = 0
        self._count = 0
        self._keys: Tensor | None = None

    def first(self, count: int, stored: Tensor, group: int, table: Callable[[int, int], Part]) -> Tensor:
        """[B, K, count, D]: the first columns of `stored`, moved; what the step before moved is not moved again.

        Args:
            count: how many columns.
            stored: [B, K, L, D], one column more than at the step before, else all are moved anew.
            group: the group size.
            table: how to turn the keys of columns start to stop for this group size.
        """
        length = stored.shape[2]
        if (group, length) != (self._group, self._length + 1):
            self._count = 0
        self._group, self._length = group, length
        keys = self._keys
        if keys is None or keys.shape[2] < count:
            keys = stored.new_empty((*stored.shape[:2], count + SLACK, stored.shape[3]))
            if self._keys is not None:
                keys[:, :, : self._count] = self._keys[:, :, : self._count]
            self._keys = keys
        if count > self._count:
            keys[:, :, self._count : count] = rotate(stored[:, :, self._count : count], table(self._count, count))
            self._count = count
        return keys[:, :, :count]


def moved_keys(cache: Any, layer: int, new_keys: Tensor, *, padded: bool) -> MovedKeys | None:
    """What to keep for a layer beside its cache: for one new token of one row in a plain dynamic cache; else None.

    Such a cache has grown by one column since the step before, or its length tells. But of several rows beam search may
    have changed the order, and several new tokens may follow some that were taken back: then all keys are moved anew.
    """
    if type(cache) is not DynamicCache or getattr(cache, "offloading", False) or torch.compiler.is_compiling():
        return None
    kept: dict[int, MovedKeys] = cache.__dict__.setdefault("_rope_ext_moved_keys", {})
    if padded or new_keys.shape[0] > 1 or new_keys.shape[2] > 1:
        kept.pop(layer, None)
        return None
    return kept.setdefault(layer, MovedKeys())
