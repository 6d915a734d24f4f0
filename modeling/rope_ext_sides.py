"""The pieces that attention to a band of keys is put together from.

Shape letters as in the attention file.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from .rope_ext_attention import Part, flash_attention, flash_parts, joined, merge, packaged_attention


class Side:
    """Queries and keys in one rotation.

    Attributes:
        query: [B, H, T, D].
        keys: [B, K, n, D], from column `keys_start` on.
        values: [B, K, L, Dv], from the first column on.
        scale: factor on the logits.
        backend: whose kernels compute, as in `flash_attention`.
    """

    def __init__(
        self, query: Tensor, keys: Tensor, values: Tensor, scale: float, *, keys_start: int = 0, backend: str = "sdpa"
    ) -> None:
        self.query, self.keys, self.values = query, keys, values
        self.scale, self.keys_start, self.backend = scale, keys_start, backend

    def of(self, heads: slice) -> Side:
        """Some of the query heads, as many as there are key heads."""
        query, start = self.query[:, heads], self.keys_start
        return Side(query, self.keys, self.values, self.scale, keys_start=start, backend=self.backend)

    def band(self, rows: slice, end: int, width: int) -> Iterator[Part]:
        """Attention of some queries over `width` columns each, those of the last one ending at column `end`.

        The band's lower edge runs from `low` to `high`. It is the diagonal of a square: below it lies what is farther,
        above it the rest of the band.
        """
        count = rows.stop - rows.start
        if count == 1:
            yield from self.parts(rows, max(end - width, 0), end)
            return
        if self.windowed:
            yield self.attend_window(rows, end, width)
            return
        if count > width:
            cuts = range(rows.start, rows.stop, width)
            pieces = (slice(cut, min(cut + width, rows.stop)) for cut in cuts)
            yield joined([merge(self.band(piece, end - rows.stop + piece.stop, width)) for piece in pieces])
            return
        begin, low, high = end - count, end - count - width, end - width
        yield self.attend(rows, begin, end, causal=True)
        if high < begin:
            yield self.attend(rows, high, begin)
        yield self.attend_above_diagonal(rows, low, high)

    def _keys_values(self, start: int, stop: int) -> tuple[Tensor, Tensor]:
        keys = self.keys[:, :, start - self.keys_start : stop - self.keys_start]
        return keys, self.values[:, :, start:stop]

    @property
    def windowed(self) -> bool:
        """Whether the kernel takes a band at once."""
        return self.backend == "flash_attention_2"

    def attend(self, rows: slice, start: int, stop: int, *, causal: bool = False) -> Part:
        """Attention of some queries over the columns `start` to `stop`; causal: the last query sees them all."""
        return merge(self.parts(rows, start, stop, causal=causal))

    def parts(self, rows: slice, start: int, stop: int, *, causal: bool = False) -> Iterator[Part]:
        """`attend`, to be merged with others."""
        query, (keys, values) = self.query[:, :, rows], self._keys_values(start, stop)
        return flash_parts(query, keys, values, causal=causal, scale=self.scale, backend=self.backend)

    def attend_window(self, rows: slice, stop: int, window: int) -> Part:
        """Attention of the queries up to column `stop` over the last `window` columns up to their own."""
        query = self.query[:, :, rows]
        keys, values = self._keys_values(max(stop - query.shape[2] - window + 1, 0), stop)
        return packaged_attention(query, keys, values, causal=True, scale=self.scale, window=window)

    def attend_above_diagonal(self, rows: slice, start: int, stop: int) -> Part:
        """Attend over a square, query t seeing the columns after t: causal attention read backwards."""
        keys, values = self._keys_values(start + 1, stop)
        backwards = (x.flip(2) for x in (self.query[:, :, rows][:, :, :-1], keys, values))
        out, lse = flash_attention(*backwards, causal=True, scale=self.scale)
        # The last query sees none.
        out = torch.nn.functional.pad(out.flip(2), (0, 0, 0, 1))
        return out, torch.nn.functional.pad(lse.flip(2), (0, 1), value=-torch.inf)
