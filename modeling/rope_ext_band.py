"""Methods that keep exact distances in a local window and have their own beyond it: two regions.

Query i sees key j at distance i - j where that is below the window (the *near* band), and at a(i) - b(j), for each pair
its own if need be, where it is not (the *far* triangle).
Shape letters as in the attention file.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from .rope_ext_attention import Part, flash_attention, grouped_logits, merge, packaged_attention
from .rope_ext_method import Method, Tokens
from .rope_ext_positions import Geometry

CHUNK = 1024
"""Most queries of one step of the band: its squares beside the diagonal are this wide."""


class BandMethod(Method):
    """A near band and a far triangle.

    Attributes:
        window: distances below it are exact (tokens).
        trained: the initial window (tokens).
        selection: [layers, H, P] booleans, the pairs that the far map applies to; None means all.
        scales_queries: queries are multiplied by `query_scale`.
    """

    keys_stay = True
    by_axis = True

    def __init__(self, block: dict[str, Any], window: int, selection: Tensor | None = None) -> None:
        super().__init__(block)
        parameters = block["parameters"]
        self.window = window
        self.trained: int = block["initial_window"]
        self.start = max(window, parameters.get("activate_beyond", 0))
        self.selection = selection
        self.scales_queries: bool = parameters.get("query_scaling", False)
        if selection is not None:
            self.keys_stay = False  # both rotations of a key are needed for all time

    def far_query_positions(self, positions: Tensor, tokens_so_far: Tensor) -> Tensor:
        """a(p).

        Args:
            positions: [B, T] integers.
            tokens_so_far: [B, 1] integers, for methods whose map depends on it.

        Returns:
            [B, T], or [B, T, P] for a map of each pair's own.
        """
        raise NotImplementedError

    def far_key_positions(self, positions: Tensor, tokens_so_far: Tensor) -> Tensor:
        """b(p), in the same terms. Query i and key j are a(i) - b(j) apart."""
        raise NotImplementedError

    def shrink(self) -> dict[str, Any]:
        """A window of two tokens."""
        return {"window": 2, "start": 2}

    # Rotations

    def far_key_table(self, geometry: Geometry, start: int, stop: int) -> Part:
        """From stock positions to b."""
        positions = geometry.key_positions[:, start:stop]
        far = self.far_key_positions(positions, geometry.tokens_so_far)
        return self.table(geometry.key_stock[:, start:stop], far)

    def _far_query_table(self, geometry: Geometry) -> Part:
        far = self.far_query_positions(geometry.query_positions, geometry.tokens_so_far)
        # Keys that are not moved stand where the model counted them, padding included.
        return self.table(geometry.stock, far if self.moves_keys else far + geometry.shift)

    def _queries(self, tokens: Tokens) -> tuple[Tensor, Tensor]:
        """The queries as the near and as the far keys take them, scaled if the method does that."""
        geometry = tokens.geometry
        table = geometry.memo("far_query", lambda: self._far_query_table(geometry))
        near, far = tokens.query, tokens.turn_query(table)
        if not self.scales_queries:
            return near, far
        factor = geometry.memo("query_scale", lambda: self.query_scale(geometry.query_positions)).to(near.device)
        return (near * factor).to(near.dtype), (far * factor).to(near.dtype)

    def query_scale(self, positions: Tensor) -> Tensor:
        """max(1, ln(p + 1) / ln(trained length)), [B, 1, T, 1]: keeps the entropy of attention as more tokens come."""
        positions = positions[:, None, :, None]
        factor = (positions + 1).float().log() / math.log(self.trained)
        return torch.where(positions < self.start, 1.0, factor.clamp(min=1.0))

    def _selected(self, tokens: Tokens) -> Tensor | None:
        """[H, 1, D] booleans; dimensions that RoPE does not turn count as exact."""
        if self.selection is None:
            return None
        self.selection = self.selection.to(tokens.query.device)
        return self.pairs.dims(self.selection[tokens.layer], tokens.query.shape[-1])[:, None]

    # Dense

    def logits(self, tokens: Tokens) -> Tensor:
        """Near logits for the last columns, far logits for the first, a choice of both where both occur."""
        if tokens.geometry.axes is not None:
            return self._logits_by_axis(tokens, *tokens.geometry.axes)
        near_start, far_stop = self._overlap(tokens)
        near_query, far_query = self._queries(tokens)
        near = grouped_logits(near_query, self.exact_keys(tokens, near_start))
        if far_stop == 0:
            return near * tokens.scale
        far = self._far_logits(tokens, near_query, far_query, far_stop)
        is_near = self._is_near(tokens.geometry, near_start, far_stop).to(near.device)
        both = torch.where(is_near[:, None], near[..., : far_stop - near_start], far[..., near_start:])
        return torch.cat((far[..., :near_start], both, near[..., far_stop - near_start :]), dim=-1) * tokens.scale

    def _is_near(self, geometry: Geometry, start: int, stop: int) -> Tensor:
        """[B, T, stop - start] booleans."""
        positions = geometry.query_positions[..., None]
        near = positions - geometry.key_positions[:, None, start:stop] < self.window
        return near | (positions < self.start) if self.start > self.window else near

    def _overlap(self, tokens: Tokens) -> tuple[int, int]:
        """The first column that some query may see as near, and the one after the last seen as far."""
        geometry, length = tokens.geometry, tokens.length
        plain = geometry.straight and geometry.explicit is None
        if geometry.static or not plain or torch.compiler.is_compiling():
            return 0, length
        past = length - tokens.query.shape[2]
        all_active = self.start == self.window or (geometry.one_call and past + geometry.first_position >= self.start)
        return (max(0, past - self.window + 1) if all_active else 0), max(0, length - self.window)

    def _far_logits(self, tokens: Tokens, near_query: Tensor, far_query: Tensor, stop: int) -> Tensor:
        selected, far_keys = self._selected(tokens), self.far_keys(tokens, stop)
        if selected is None:
            return grouped_logits(far_query, far_keys)
        # One dot product of twice the width: each head picks its pairs on the query, the group shares its keys.
        query = torch.cat((far_query * selected, near_query * ~selected), dim=-1)
        return grouped_logits(query, torch.cat((far_keys, self.exact_keys(tokens)[:, :, :stop]), dim=-1))

    def _logits_by_axis(self, tokens: Tokens, queries: Tensor, keys: Tensor) -> Tensor:
        """Every pair by the distance on its own axis: near and far logits of each axis, added.

        Args:
            tokens: with exact keys.
            queries: [A, B, T] stock positions.
            keys: [A, B, L] stock positions.
        """
        geometry = tokens.geometry
        query, key = tokens.query, self.exact_keys(tokens)
        far_query = tokens.turn_query(geometry.memo("axes_query", lambda: self._axes_table(queries, geometry, True)))
        far_key = tokens.turn_key(key, geometry.memo("axes_key", lambda: self._axes_table(keys, geometry, False)))
        selected = self._selected(tokens)
        early = queries.amax(0)[..., None] < self.start
        logits: Tensor | float = 0.0
        for axis, dims in enumerate(self._axes_dims(query.shape[-1])):
            near = (queries[axis][..., None] - keys[axis][:, None] < self.window) | early
            dims = dims.to(query.device)
            exact = grouped_logits(query[..., dims], key[..., dims])
            if selected is None:
                far = grouped_logits(far_query[..., dims], far_key[..., dims])
            else:
                chosen = selected[..., dims]
                mixed = torch.cat((far_query[..., dims] * chosen, query[..., dims] * ~chosen), dim=-1)
                far = grouped_logits(mixed, torch.cat((far_key[..., dims], key[..., dims]), dim=-1))
            of_axis = torch.where(near[:, None].to(query.device), exact, far)
            if self.scales_queries:
                of_axis = of_axis * self.query_scale(queries[axis]).to(of_axis)
            logits = logits + of_axis
        assert isinstance(logits, Tensor)
        return logits * tokens.scale

    def _axes_table(self, stock: Tensor, geometry: Geometry, of_queries: bool) -> Part:
        """From stock positions [A, B, n] to far ones, each pair on its axis."""
        assert self.axes is not None
        axes, far_positions = self.axes.to(stock.device), []
        move = self.far_query_positions if of_queries else self.far_key_positions
        for places in stock:
            far = move(places, geometry.tokens_so_far)
            far_positions.append((far if far.dim() == 3 else far[..., None]).expand(-1, -1, len(axes)))
        chosen = axes.expand(1, *far_positions[0].shape)
        own = stock[axes].permute(1, 2, 0)
        return self.table(own, torch.stack(far_positions).gather(0, chosen)[0])

    def _axes_dims(self, head_dim: int) -> list[Tensor]:
        """The dimensions of each axis; those that RoPE does not turn go with the first."""
        assert self.axes is not None
        turned = [self.pairs.dims(self.axes == axis, head_dim) for axis in range(3)]
        turned[0] |= ~torch.stack(turned).any(0)
        return [dims.nonzero()[:, 0] for dims in turned]

    # Flash

    def flash(self, tokens: Tokens) -> Part:
        """The band and the triangle, in chunks of queries, merged by log-sum-exp."""
        past, count = int(tokens.geometry.past), tokens.query.shape[2]
        length = past + count
        begin = self.window
        if self.start > self.window:
            begin = max(begin, self.start - tokens.geometry.first_position)
        if length <= begin:
            return self.flash_exact(tokens)
        keys_start = 0 if past < begin else past - self.window + 1
        query, far_query = self._queries(tokens)
        selected = self._selected(tokens)
        if selected is None:
            near = _Side(query, self.exact_keys(tokens, keys_start), keys_start, tokens)
            far_keys = self.far_keys(tokens, length - self.window)
            return self._merged(near, _Side(far_query, far_keys, 0, tokens), past, begin)
        return self._by_head(tokens, query, torch.where(selected, far_query, query), selected, begin)

    def _by_head(self, tokens: Tokens, query: Tensor, far_query: Tensor, selected: Tensor, begin: int) -> Part:
        """The n-th query heads of all groups at a time: as many as key heads, so that keys are never repeated."""
        past, groups = int(tokens.geometry.past), tokens.heads_per_key
        keys = self.exact_keys(tokens)
        stop = keys.shape[2] - self.window
        near, far_keys = _Side(query, keys, 0, tokens), self.far_keys(tokens, stop)
        outs, lses = [], []
        for head in range(groups):
            heads = slice(head, None, groups)
            mixed_keys = torch.where(selected[heads], far_keys, keys[:, :, :stop])
            far = _Side(far_query[:, heads], mixed_keys, 0, tokens)
            out, lse = self._merged(near.of(heads), far, past, begin)
            outs.append(out)
            lses.append(lse)
        return torch.stack(outs, dim=2).flatten(1, 2), torch.stack(lses, dim=2).flatten(1, 2)

    def _merged(self, near: _Side, far: _Side, past: int, begin: int) -> Part:
        """Attention of the queries from column `past` on: first those before column `begin`, that only look near."""
        length = past + near.query.shape[2]
        first = min(max(begin, past), length)
        parts = []
        if first > past:
            parts.append(near.attend(slice(0, first - past), 0, first, causal=True))
        # A kernel that knows windows takes all the others at once.
        step = length - first if near.windowed else min(self.window, CHUNK)
        parts += [
            merge(self._parts(near, far, start, min(start + step, length), past))
            for start in range(first, length, max(step, 1))
        ]
        if len(parts) == 1:
            return parts[0]
        outs, lses = zip(*parts, strict=True)
        return torch.cat(outs, dim=2), torch.cat(lses, dim=2)

    def _parts(self, near: _Side, far: _Side, begin: int, end: int, past: int) -> Iterator[Part]:
        """The rectangles and triangles that the queries of columns `begin` to `end` see.

        The band's lower edge runs from `low` to `high`. It is the diagonal of a square: below it lies the far triangle,
        above it the rest of the band.
        """
        rows = slice(begin - past, end - past)
        low, high = begin - self.window, end - self.window
        if end - begin == 1 or near.windowed:
            yield near.attend_window(rows, end, self.window)
            yield far.attend(rows, 0, high, causal=True)
            return
        yield near.attend(rows, begin, end, causal=True)
        if high < begin:
            yield near.attend(rows, high, begin)
        yield near.attend_above_diagonal(rows, low, high)
        yield far.attend(rows, 0, high, causal=True)


class _Side:
    """Queries and keys in one rotation, the keys from column `keys_start` on."""

    def __init__(self, query: Tensor, keys: Tensor, keys_start: int, tokens: Tokens) -> None:
        self.query, self.keys, self.keys_start = query, keys, keys_start
        self._tokens = tokens

    def of(self, heads: slice) -> _Side:
        """Some of the query heads, as many as there are key heads."""
        return _Side(self.query[:, heads], self.keys, self.keys_start, self._tokens)

    def _keys_values(self, start: int, stop: int) -> tuple[Tensor, Tensor]:
        keys = self.keys[:, :, start - self.keys_start : stop - self.keys_start]
        return keys, self._tokens.value[:, :, start:stop]

    @property
    def windowed(self) -> bool:
        """Whether the kernel takes a band at once."""
        return self._tokens.backend == "flash_attention_2"

    def attend(self, rows: slice, start: int, stop: int, *, causal: bool = False) -> Part:
        """Attention of some queries over the columns `start` to `stop`; causal: the last query sees them all."""
        query, (keys, values), tokens = self.query[:, :, rows], self._keys_values(start, stop), self._tokens
        return flash_attention(query, keys, values, causal=causal, scale=tokens.scale, backend=tokens.backend)

    def attend_window(self, rows: slice, stop: int, window: int) -> Part:
        """Attention of the queries up to column `stop` over the last `window` columns up to their own."""
        query = self.query[:, :, rows]
        keys, values = self._keys_values(max(stop - query.shape[2] - window + 1, 0), stop)
        if query.shape[2] == 1:
            return flash_attention(
                query, keys, values, causal=False, scale=self._tokens.scale, backend=self._tokens.backend
            )
        return packaged_attention(query, keys, values, causal=True, scale=self._tokens.scale, window=window)

    def attend_above_diagonal(self, rows: slice, start: int, stop: int) -> Part:
        """As `attend`, over a square, query t seeing its columns after t: causal attention read backwards."""
        keys, values = self._keys_values(start + 1, stop)
        backwards = (x.flip(2) for x in (self.query[:, :, rows][:, :, :-1], keys, values))
        out, lse = flash_attention(*backwards, causal=True, scale=self._tokens.scale)
        # The last query sees none.
        out = torch.nn.functional.pad(out.flip(2), (0, 0, 0, 1))
        return out, torch.nn.functional.pad(lse.flip(2), (0, 1), value=-torch.inf)
