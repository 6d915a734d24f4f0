"""What a method is to the model, and the part that all methods with attention of their own share.

Shape letters as in the attention file.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from .rope_ext_attention import (
    Pairs,
    Part,
    flash_attention,
    grouped_logits,
    is_exporting,
    masked_softmax,
    weighted_values,
    widest,
    with_sinks,
)
from .rope_ext_copies import Copies, Recent
from .rope_ext_positions import Geometry

FEW = 16
"""New tokens of a decoding step, at most."""

DENSE_QUERIES = 64
"""How many queries a dense computation takes at a time when it must not hold all logits."""


@dataclass
class Tokens:
    """One layer's input to attention: new queries against everything seen so far.

    Attributes:
        layer: index of the layer.
        query: [B, H, T, D], rotated to its stock position.
        key: [B, K, L, D], rotated to its stock position; from `exact_from` on, and before that to its far position.
        value: [B, K, L, Dv].
        geometry: where they stand.
        pairs: what a rotation turns.
        scale: factor on the logits.
        gains: weights of a norm that comes after the rotation, of queries and of keys.
        softcap: logits are bounded by this number; None: they are not.
        sinks: [H] logits without a value.
        dropout: of the attention weights.
        backend: whose kernels compute `flash`, as in `flash_attention`.
        far_key: [B, K, L, D], where all far keys are at hand: in the cache, or kept beside it.
        exact_from: the first column of `key`.
        copies: far keys that the step before has left, of one new token; None where that cannot be.
        recent: exact keys that it has left, where the cache holds far ones; likewise.
    """

    layer: int
    query: Tensor
    key: Tensor
    value: Tensor
    geometry: Geometry
    pairs: Pairs
    scale: float
    gains: tuple[Tensor, Tensor] | None = None
    softcap: float | None = None
    sinks: Tensor | None = None
    dropout: float = 0.0
    backend: str = "sdpa"
    far_key: Tensor | None = None
    exact_from: int = 0
    copies: Copies | None = None
    recent: Recent | None = None

    @property
    def length(self) -> int:
        """L, columns up to the last query."""
        return self.value.shape[2]

    @property
    def heads_per_key(self) -> int:
        """Query heads of a group."""
        return self.query.shape[1] // self.value.shape[1]

    def turn_query(self, table: Part) -> Tensor:
        """[B, H, T, D]: the queries, rotated further."""
        return self._turn(self.query, table, 0)

    def turn_key(self, key: Tensor, table: Part) -> Tensor:
        """Keys [B, K, n, D], rotated further."""
        return self._turn(key, table, 1)

    def _turn(self, x: Tensor, table: Part, which: int) -> Tensor:
        if self.gains is None:
            return self.pairs.rotate(x, table)
        gain = self.gains[which]
        return self.pairs.rotate(x / gain, table) * gain

    def segment(self, row: int, queries: slice, columns: slice, geometry: Geometry) -> Tokens:
        """One row's stretch of tokens that stands by itself."""
        return self._cut(slice(row, row + 1), queries, columns, geometry)

    def part(self, start: int, stop: int) -> Tokens:
        """The queries at indices `start` to `stop`, and the keys that they see."""
        if (start, stop) == (0, self.query.shape[2]):
            return self
        geometry = self.geometry.part(start, stop)
        return self._cut(slice(None), slice(start, stop), slice(0, geometry.length), geometry)

    def _cut(self, batch: slice, queries: slice, columns: slice, geometry: Geometry) -> Tokens:
        first = self.exact_from
        exact = slice(max(columns.start - first, 0), columns.stop - first)
        return replace(
            self,
            query=self.query[batch, :, queries],
            key=self.key[batch, :, exact],
            value=self.value[batch, :, columns],
            far_key=None if self.far_key is None else self.far_key[batch, :, columns],
            exact_from=max(first - columns.start, 0),
            geometry=geometry,
            copies=None,
            recent=None,
        )


class Method:
    """A method with attention of its own.

    Attributes:
        kind: the first of the layers that have these parameters of their own; None: of all others.
        pairs: what RoPE turns, in the layers that the method acts on.
        base: [P], the base's inverse frequencies.
        rotated: [P], by which the model itself rotates: another than `pairs.inv_freq` where it was cast to 16 bits.
        start: queries at positions below it see exact distances only.
        keys_stay: where a far key stands depends on its own position alone, so that a cache may hold it there.
        moves_keys: far keys differ from exact ones.
        by_pieces: what a token sees depends on the forwards in which the input comes.
        trained: the initial window (tokens).
        scales_queries: queries are multiplied by `query_scale`.
        by_axis: can put a token elsewhere on each of several axes.
        axes: [P], by which axis each pair turns; None where there is one axis.
        small: made to act on a few tokens, for a test.
    """

    kind: int | None = None
    start: int
    keys_stay = False
    moves_keys = True
    by_pieces = False
    by_axis = False
    small = False

    def __init__(self, block: dict[str, Any]) -> None:
        parameters = block["parameters"]
        self.trained: int = block["initial_window"]
        self._query_scaling: bool = parameters.get("query_scaling", False)
        self._logit_factor: float = parameters.get("attention_factor", 1.0) ** 2
        self.scales_queries = self._query_scaling or self._logit_factor != 1.0
        # No buffer: loading would cast it to the model's type.
        self._inv_freq = torch.tensor(block["inv_freq"], dtype=torch.float32, device="cpu")
        pairs = block.get("pairs", {})
        self._inv_freq *= pairs.get("sign", 1)
        self.pairs = Pairs(self._inv_freq, pairs.get("layout", "halves"), pairs.get("first", 0))
        self.rotated = self.base = self._inv_freq
        axes = pairs.get("axes")
        self.axes = torch.tensor(axes, device="cpu") if axes and self.by_axis else None

    def table(self, stock: Tensor, positions: Tensor) -> Part:
        """What `Pairs.rotate` takes, from stock positions [B, T] to others, [B, T] or [B, T, P] (tokens)."""
        return self.pairs.turn(stock, positions, self._inv_freq.to(stock.device), self.rotated.to(stock.device))

    def place(self, device: torch.device) -> None:
        """Keep all tables on a device: copied when they are needed, they would keep CUDA graphs from being recorded."""
        if self._inv_freq.device == device:
            return
        for name, kept in vars(self).items():
            vars(self)[name] = [on(device, each) for each in kept] if isinstance(kept, list) else on(device, kept)

    def is_base(self, length: int) -> bool:
        """Whether a forward whose last token stands at position `length - 1` is the base's, bit for bit."""
        return length <= self.start

    def shrink(self) -> dict[str, Any]:
        """Attributes with which the method acts on 7 tokens, in whichever pieces they come."""
        return {}

    @contextmanager
    def made_small(self) -> Iterator[None]:
        """Let the method act on a few tokens, for the time of the self-test."""
        changes = {"small": True, **self.shrink()}
        kept = {name: getattr(self, name) for name in changes}
        vars(self).update(changes)
        try:
            yield
        finally:
            vars(self).update(kept)

    def far_key_table(self, geometry: Geometry, start: int, stop: int) -> Part:
        """How exact keys of columns `start` to `stop` are turned to their far positions."""
        raise NotImplementedError

    def copies_hold(self, tokens: Tokens) -> int:
        """What copies of far keys depend on, such as a group size: they hold as long as it stays."""
        return 0

    def query_scale(self, positions: Tensor) -> Tensor:
        """What queries from `start` on are multiplied by, [B, 1, T, 1]: the square of the attention factor.

        With `query_scaling` times max(1, ln(p + 1) / ln(trained length)), which keeps the entropy of attention as more
        tokens come.
        """
        positions = positions[:, None, :, None]
        factor = torch.full(positions.shape, self._logit_factor, device=positions.device)
        if self._query_scaling:
            factor = factor * ((positions + 1).float().log() / math.log(self.trained)).clamp(min=1.0)
        return torch.where(positions < self.start, 1.0, factor)

    def scaled(self, query: Tensor, geometry: Geometry) -> Tensor:
        """Queries [B, H, T, D] by their `query_scale`."""
        if not self.scales_queries:
            return query
        factor = geometry.memo("query_scale", lambda: self.query_scale(geometry.query_positions))
        return (query * factor.to(query.device)).to(query.dtype)

    def flash(self, tokens: Tokens) -> Part:
        """Output [B, H, T, Dv] and log-sum-exp [B, H, T], without a logit matrix, of rows that stand alike."""
        raise NotImplementedError

    def logits(self, tokens: Tokens) -> Tensor:
        """[B, H, T, L] scaled logits, every pair of query and key by the method's own distance of their positions."""
        raise NotImplementedError

    # Keys

    def far_keys(self, tokens: Tokens, stop: int) -> Tensor:
        """[B, K, stop, D]: the first keys at their far positions."""
        if tokens.far_key is not None:
            return tokens.far_key[:, :, :stop]
        if not self.moves_keys:
            return tokens.key[:, :, :stop]

        def turned(start: int, stop: int) -> Tensor:
            geometry = tokens.geometry
            table = geometry.memo(("far_keys", start, stop), lambda: self.far_key_table(geometry, start, stop))
            return tokens.turn_key(tokens.key[:, :, start:stop], table)

        if tokens.copies is None:
            return turned(0, stop)
        tokens.copies.hold(self.copies_hold(tokens))
        return tokens.copies.first(stop, tokens.key, turned)

    def exact_keys(self, tokens: Tokens, start: int = 0) -> Tensor:
        """[B, K, L - start, D]: the keys from column `start` on, at their stock positions."""
        first = tokens.exact_from
        if start >= first:
            return tokens.key[:, :, start - first :]
        few = tokens.key.shape[2] <= FEW  # to turn them back as well is cheaper than to copy all the others
        stop = tokens.length if few else first

        if tokens.recent is not None:
            return tokens.recent.last(
                tokens.length - start, tokens.key, tokens.length, lambda: self._back(tokens, start, stop)
            )
        turned = self._back(tokens, start, stop)
        return turned if few else torch.cat((turned, tokens.key), dim=2)

    def _back(self, tokens: Tokens, start: int, stop: int) -> Tensor:
        """[B, K, stop - start, D]: keys of a cache that holds far ones, turned back to their stock positions."""
        assert tokens.far_key is not None
        geometry = tokens.geometry

        def table() -> Part:
            cos, sin = self.far_key_table(geometry, start, stop)
            return cos, -sin

        return tokens.turn_key(tokens.far_key[:, :, start:stop], geometry.memo(("back", start, stop), table))

    # Attention

    def attend(self, tokens: Tokens, *, weights: bool) -> tuple[Tensor, Tensor | None]:
        """Attention of the new tokens: [B, H, T, Dv], and [B, H, T, L] if `weights` (the dense reference)."""
        geometry, count = tokens.geometry, tokens.query.shape[2]
        if geometry.axes is not None and self.axes is None:
            raise ValueError(f"{type(self).__name__} cannot read images: their tokens stand on several axes")
        if is_exporting():
            return self.dense(tokens)[0], None
        alone = count == 1 and not geometry.one_call
        if (weights or geometry.static or alone) and not geometry.packed:
            return self.dense(tokens)
        if geometry.one_call:
            return self._attend(tokens), None
        segments = geometry.segments()
        if segments is None:
            return self._by_blocks(tokens), None
        out = tokens.value.new_zeros((*tokens.query.shape[:3], tokens.value.shape[3]))
        matrix = out.new_zeros((*out.shape[:3], tokens.length)) if weights else None
        for row, queries, columns, where in segments:
            part = tokens.segment(row, queries, columns, where)
            if matrix is None:
                out[row, :, queries] = self._attend(part)[0]
            else:
                own, matrix[row, :, queries, columns] = (x[0] for x in self.dense(part))
                out[row, :, queries] = own
        return out, matrix

    def _attend(self, tokens: Tokens) -> Tensor:
        if tokens.softcap or tokens.dropout or _needs_grad(tokens):
            return self._by_blocks(tokens)
        return with_sinks(self.flash(tokens), tokens.sinks)[0]

    def dense(self, tokens: Tokens) -> tuple[Tensor, Tensor]:
        """Attention by a logit matrix: output and weights."""
        logits = self.bounded_logits(tokens)
        attention = masked_softmax(logits, tokens.geometry.allowed.to(logits.device), tokens.sinks)
        attention = attention.to(tokens.value.dtype)
        if tokens.dropout:
            attention = torch.nn.functional.dropout(attention, tokens.dropout)
        return weighted_values(attention, tokens.value), attention

    def bounded_logits(self, tokens: Tokens) -> Tensor:
        """`logits`, bounded where the model bounds them: what the softmax takes."""
        logits = self.logits(tokens)
        return (logits / tokens.softcap).tanh() * tokens.softcap if tokens.softcap else logits

    def _by_blocks(self, tokens: Tokens) -> Tensor:
        """`dense` for a few queries at a time: there is never a logit matrix of all, nor is one kept for a gradient."""
        count = tokens.query.shape[2]

        def block(start: int) -> Tensor:
            return self.dense(tokens.part(start, min(start + DENSE_QUERIES, count)))[0]

        starts = range(0, count, DENSE_QUERIES)
        if not _needs_grad(tokens):
            return torch.cat([block(start) for start in starts], dim=2)
        checkpoint = torch.utils.checkpoint.checkpoint
        return torch.cat([checkpoint(block, start, use_reentrant=False) for start in starts], dim=2)

    def flash_exact(self, tokens: Tokens) -> Part:
        """`flash` by exact distances alone."""
        return self.causal(tokens, tokens.query, self.exact_keys(tokens))

    def causal(self, tokens: Tokens, query: Tensor, keys: Tensor) -> Part:
        """Causal attention of rotated queries and keys."""
        return flash_attention(query, keys, tokens.value, causal=True, scale=tokens.scale, backend=tokens.backend)

    def exact_logits(self, tokens: Tokens) -> Tensor:
        """`logits` by exact distances alone."""
        return grouped_logits(tokens.query, self.exact_keys(tokens)) * tokens.scale


def on(device: torch.device, kept: Any) -> Any:
    """What a method keeps, on a device if it is a tensor, as wide as the device allows."""
    if not isinstance(kept, Tensor):
        return kept
    return kept.to(device, widest(device) if kept.dtype == torch.float64 else kept.dtype)


def _needs_grad(tokens: Tokens) -> bool:
    needs: bool = tokens.query.requires_grad or tokens.key.requires_grad or tokens.value.requires_grad
    return torch.is_grad_enabled() and needs
