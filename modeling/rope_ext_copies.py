"""Keys that are kept beside the cache from one decoding step to the next, where the cache holds them otherwise turned.

Shape letters as in the attention file.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

SLACK = 256
"""Columns that are allocated ahead."""


class _Kept:
    """Keys of some columns, in memory that is larger, so that one more seldom moves them.

    They are good for a key that comes right after them. A cache that was cropped, or went on without them, is longer or
    shorter than that, and they are made anew.
    """

    def __init__(self) -> None:
        self._length = self._count = 0
        self._keys: Tensor | None = None

    @property
    def nbytes(self) -> int:
        """Memory that they take."""
        return 0 if self._keys is None else self._keys.nbytes

    def _follow(self, length: int) -> Tensor | None:
        """The memory, if it may be written to; `_count` columns of it are still good for `length` columns in all."""
        if length != self._length + 1:
            self._count = 0
        self._length = length
        keys = self._keys
        if keys is not None and keys.is_inference() and not torch.is_inference_mode_enabled():
            self._count, keys = 0, None
        return keys


class Copies(_Kept):
    """The first keys of one layer at their far positions.

    Some methods need both rotations of a key, or move far keys by a group size that depends on the length, but stays
    for thousands of tokens. To turn all of them anew for each token would cost more than the attention to them.
    """

    def __init__(self) -> None:
        super().__init__()
        self._held = 0

    def hold(self, what: int) -> None:
        """Forget the copies if they were made for something else, such as another group size."""
        if what != self._held:
            self._held, self._count = what, 0

    def first(self, count: int, key: Tensor, turned: Callable[[int, int], Tensor]) -> Tensor:
        """Return the first columns of the keys, turned; what the step before turned is not turned again.

        Args:
            count: how many columns.
            key: [B, K, L, D]; one column more than at the step before, else all are turned anew.
            turned: makes the far keys of columns start to stop.

        Returns:
            [B, K, count, D].
        """
        keys = self._follow(key.shape[2])
        if keys is None or keys.shape[2] < count:
            larger = key.new_empty((*key.shape[:2], count + SLACK, key.shape[3]))
            if keys is not None:
                larger[:, :, : self._count] = keys[:, :, : self._count]
            self._keys = keys = larger
        if count > self._count:
            keys[:, :, self._count : count] = turned(self._count, count)
            self._count = count
        return keys[:, :, :count]


class Recent(_Kept):
    """The last keys of one layer at their stock positions, beside a cache that holds them at their far ones.

    A step takes as many as the step before: the near band of a method. To turn all of them back for each token would
    cost as much as the attention to them.
    """

    def __init__(self) -> None:
        super().__init__()
        self._stop = 0

    def last(self, count: int, key: Tensor, length: int, turned_back: Callable[[], Tensor]) -> Tensor:
        """Return the last columns of the keys, at their stock positions.

        Args:
            count: how many columns; as many as at the step before, else all are turned back.
            key: [B, K, 1, D], the last one.
            length: L, columns in all; one more than at the step before, else all are turned back.
            turned_back: makes the keys of these columns from those of the cache.

        Returns:
            [B, K, count, D].
        """
        keys = self._follow(length)
        if keys is None or self._count != count:
            self._keys = keys = key.new_empty((*key.shape[:2], count + SLACK, key.shape[3]))
            self._count = self._stop = count
            keys[:, :, :count] = turned_back()
            return keys[:, :, :count]
        if self._stop == keys.shape[2]:
            self._stop = count - 1
            keys[:, :, : self._stop] = keys[:, :, -self._stop :].clone()
        keys[:, :, self._stop] = key[:, :, 0]
        self._stop += 1
        return keys[:, :, self._stop - count : self._stop]
