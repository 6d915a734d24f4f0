"""What a method is to the model, and the part that all methods with attention of their own share.

Shape letters as in the attention file.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from .rope_ext_attention import Part, angles, flash_attention, grouped_logits, masked_softmax, weighted_values
from .rope_ext_geometry import Geometry
from .rope_ext_moved import MovedKeys

DENSE_QUERIES = 64
"""How many queries a dense computation takes at a time when it must not hold all logits."""


@dataclass
class Tokens:
    """One layer's input to attention: new queries against everything seen so far.

    Attributes:
        layer: index of the layer.
        query: [B, H, T, D], not rotated.
        exact_query: [B, H, T, D], rotated to its position as the base does.
        stored: [B, K, L, D or 2 D], keys as the method's `stored_key` made them.
        fresh_key: [B, K, L, D], keys rotated as the base does, where nothing came from a cache; else None.
        value: [B, K, L, D].
        geometry: where they stand.
        scale: factor on the logits.
        backend: whose kernels compute `flash`, as in `flash_attention`.
        moved: of one new token, the far keys as the step before had them; None where that cannot be.
    """

    layer: int
    query: Tensor
    exact_query: Tensor
    stored: Tensor
    fresh_key: Tensor | None
    value: Tensor
    geometry: Geometry
    scale: float
    backend: str = "sdpa"
    moved: MovedKeys | None = None

    @property
    def length(self) -> int:
        """L, columns up to the last query."""
        return self.value.shape[2]

    def row(self, row: int, queries: slice, columns: slice, geometry: Geometry) -> Tokens:
        """One row without its padding."""
        return self._cut(slice(row, row + 1), queries, columns, geometry)

    def part(self, start: int, stop: int) -> Tokens:
        """The queries at indices `start` to `stop`, and the keys up to the last of them; no padding."""
        if (start, stop) == (0, self.query.shape[2]):
            return self
        columns = slice(0, int(self.geometry.past) + stop)
        return self._cut(slice(None), slice(start, stop), columns, self.geometry.part(start, stop))

    def _cut(self, batch: slice, queries: slice, columns: slice, geometry: Geometry) -> Tokens:
        return replace(
            self,
            query=self.query[batch, :, queries],
            exact_query=self.exact_query[batch, :, queries],
            stored=self.stored[batch, :, columns],
            fresh_key=None if self.fresh_key is None else self.fresh_key[batch, :, columns],
            value=self.value[batch, :, columns],
            geometry=geometry,
        )


class Method:
    """A method with attention of its own.

    Attributes:
        start: queries at positions below it see exact distances only.
        moves_keys_by_length: far keys stand where a group size says that depends on the length.
    """

    start: int
    moves_keys_by_length = False

    def __init__(self, block: dict[str, Any]) -> None:
        # No buffer: loading would cast it to the model's type.
        self._inv_freq = torch.tensor(block["inv_freq"], dtype=torch.float32, device="cpu")

    def table(self, positions: Tensor) -> Part:
        """What `rotate` takes, for positions [B, T] or [B, T, P] (tokens)."""
        if self._inv_freq.device != positions.device:
            self._inv_freq = self._inv_freq.to(positions.device)
        return angles(positions, self._inv_freq)

    def is_base(self, length: int | None) -> bool:
        """Whether a forward that ends at column `length` is the base's, bit for bit; None: a length not known here."""
        return length is not None and length <= self.start

    def group_at(self, length: int) -> int:
        """By which far keys are moved at a length, where they are (`moves_keys_by_length`)."""
        raise NotImplementedError

    def stored_key(self, key: Tensor, exact_key: Tensor, geometry: Geometry) -> Tensor:
        """What the cache keeps of new keys; must not depend on tokens to come.

        Args:
            key: [B, K, T, D], not rotated.
            exact_key: [B, K, T, D], rotated as the base does.
            geometry: of this forward.
        """
        raise NotImplementedError

    def exact_keys(self, tokens: Tokens, start: int = 0) -> Tensor:
        """[B, K, L - start, D]: the keys from column `start` on, rotated as the base does."""
        raise NotImplementedError

    def flash(self, tokens: Tokens) -> Tensor:
        """[B, H, T, D], without a logit matrix; tokens have no padding."""
        raise NotImplementedError

    def logits(self, tokens: Tokens) -> Tensor:
        """[B, H, T, L] scaled logits, every pair of query and key by the method's own distance."""
        raise NotImplementedError

    def attend(self, tokens: Tokens, *, weights: bool) -> tuple[Tensor, Tensor | None]:
        """Attention of the new tokens: [B, H, T, D], and [B, H, T, L] if `weights` (the dense reference)."""
        geometry, count = tokens.geometry, tokens.query.shape[2]
        if count == 1 and (weights or geometry.static or geometry.key_valid is not None):
            return self.dense(tokens)
        rows = geometry.rows(tokens.length)
        if rows is None:
            return self._attend(tokens, weights=weights)
        out = torch.zeros_like(tokens.query)
        shape = (*tokens.query.shape[:3], tokens.length)
        attention = torch.zeros(shape, dtype=out.dtype, device=out.device) if weights else None
        for row, (queries, columns, row_geometry) in enumerate(rows):
            if queries.stop > queries.start:
                row_tokens = tokens.row(row, queries, columns, row_geometry)
                row_out, row_attention = self._attend(row_tokens, weights=weights)
                out[row, :, queries] = row_out[0]
                if attention is not None and row_attention is not None:
                    attention[row, :, queries, columns] = row_attention[0]
        return out, attention

    def _attend(self, tokens: Tokens, *, weights: bool) -> tuple[Tensor, Tensor | None]:
        if weights:
            return self.dense(tokens)
        if torch.is_grad_enabled() and (tokens.query.requires_grad or tokens.value.requires_grad):
            return self._recomputed(tokens), None
        return self.flash(tokens), None

    def dense(self, tokens: Tokens) -> tuple[Tensor, Tensor]:
        """The same by a logit matrix: output and weights."""
        logits = self.logits(tokens)
        allowed = tokens.geometry.allowed(tokens.length).to(logits.device)
        attention = masked_softmax(logits, allowed)
        return weighted_values(attention, tokens.value), attention

    def blockwise(self, tokens: Tokens) -> Tensor:
        """`dense` for a few queries at a time, so that no logit matrix of all of them exists."""
        count = tokens.query.shape[2]
        blocks = range(0, count, DENSE_QUERIES)
        return torch.cat([self.dense(tokens.part(i, min(i + DENSE_QUERIES, count)))[0] for i in blocks], dim=2)

    def _recomputed(self, tokens: Tokens) -> Tensor:
        """`blockwise` with a gradient (the kernels' log-sum-exp has none), each block's logits recomputed for it."""
        count = tokens.query.shape[2]

        def block(i: int) -> Tensor:
            return self.dense(tokens.part(i, min(i + DENSE_QUERIES, count)))[0]

        checkpoint = torch.utils.checkpoint.checkpoint
        blocks = [checkpoint(block, i, use_reentrant=False) for i in range(0, count, DENSE_QUERIES)]
        return torch.cat(blocks, dim=2)

    def flash_exact(self, tokens: Tokens) -> Tensor:
        """`flash` by exact distances alone."""
        return self.causal(tokens, tokens.exact_query, self.exact_keys(tokens))

    def causal(self, tokens: Tokens, query: Tensor, keys: Tensor) -> Tensor:
        """[B, H, T, D]: causal attention of rotated queries and keys."""
        return flash_attention(query, keys, tokens.value, causal=True, scale=tokens.scale, backend=tokens.backend)[0]

    def exact_logits(self, tokens: Tokens) -> Tensor:
        """`logits` by exact distances alone."""
        return grouped_logits(tokens.exact_query, self.exact_keys(tokens)) * tokens.scale
