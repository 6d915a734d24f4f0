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

from .rope_ext_attention import Part, flash_attention, grouped_logits, merge, packaged_attention, rotate
from .rope_ext_geometry import Geometry
from .rope_ext_method import Method, Tokens

CHUNK = 1024
"""Most queries of one step of the band: its squares beside the diagonal are this wide."""


class BandMethod(Method):
    """A near band and a far triangle.

    What the cache keeps of a key is one of three:

    - `far`: the key at its far position, which never changes; the last window is turned back when it is used;
    - `both`: `[far, exact]`, 2 D wide, where a query head needs both rotations of a key, or the exact one has to be the
      base's to the last bit;
    - `exact`: the key as the base has it; far keys are made of it, or are the same.

    Attributes:
        window: distances below it are exact (tokens).
        trained: the initial window (tokens).
        selection: [layers, H, P] booleans, the pairs that the far map applies to; None means all.
    """

    far_keys_are_exact = False
    """b(j) = j: the far map moves queries only."""

    def __init__(self, block: dict[str, Any], window: int, selection: Tensor | None = None) -> None:
        super().__init__(block)
        parameters = block["parameters"]
        activate_beyond: int = parameters.get("activate_beyond", 0)
        self.window = window
        self.trained: int = block["initial_window"]
        self.start = max(window, activate_beyond)
        self.selection = selection
        self._scales_queries: bool = parameters.get("query_scaling", False)
        if self.far_keys_are_exact or self.moves_keys_by_length:
            self._stores = "exact"
        else:
            self._stores = "both" if selection is not None or activate_beyond else "far"

    def far_query_positions(self, positions: Tensor, tokens_so_far: Tensor) -> Tensor:
        """a(p).

        Args:
            positions: [B, T] integers.
            tokens_so_far: [B, 1] or [1, 1] integers, for methods whose map depends on it.

        Returns:
            [B, T], or [B, T, P] for a map of each pair's own.
        """
        raise NotImplementedError

    def far_key_positions(self, positions: Tensor, tokens_so_far: Tensor) -> Tensor:
        """b(p), in the same terms. Query i and key j are a(i) - b(j) apart."""
        raise NotImplementedError

    # Keys

    def stored_key(self, key: Tensor, exact_key: Tensor, geometry: Geometry) -> Tensor:
        """The far key, the exact one, or both."""
        if self._stores == "exact":
            return exact_key
        table = geometry.memo("stored_key", lambda: self.table(self._far_key_positions(geometry)))
        far_key = rotate(key, table)
        return torch.cat((far_key, exact_key), dim=-1) if self._stores == "both" else far_key

    def exact_keys(self, tokens: Tokens, start: int = 0) -> Tensor:
        """The stored exact keys, the fresh ones, or the far keys turned back."""
        if self._stores == "both":
            return tokens.stored[:, :, start:].chunk(2, dim=-1)[1]
        if self._stores == "exact":
            return tokens.stored[:, :, start:]
        if tokens.fresh_key is not None:
            return tokens.fresh_key[:, :, start:]
        geometry, length = tokens.geometry, tokens.length

        def to_exact() -> Part:
            return self._turn(geometry.key_positions(length)[:, start:], geometry, to_far=False)

        return rotate(tokens.stored[:, :, start:], geometry.memo(("to_exact", start, length), to_exact))

    def _far_keys(self, tokens: Tokens) -> Tensor:
        if not self.moves_keys_by_length:
            return tokens.stored.chunk(2, dim=-1)[0] if self._stores == "both" else tokens.stored
        geometry, length = tokens.geometry, tokens.length
        positions = geometry.key_positions(length)

        def to_far(start: int, stop: int) -> Part:
            return self._turn(positions[:, start:stop], geometry, to_far=True)

        if tokens.moved is not None:
            return tokens.moved.first(max(0, length - self.window), tokens.stored, self.group_at(length), to_far)
        return rotate(tokens.stored, geometry.memo(("to_far", length), lambda: to_far(0, length)))

    def _turn(self, positions: Tensor, geometry: Geometry, *, to_far: bool) -> Part:
        """How to turn exact keys at positions [B, L] to far ones, or back."""
        far = self.far_key_positions(positions, geometry.tokens_so_far)
        exact = positions[..., None] if far.dim() == 3 else positions
        return self.table(far - exact if to_far else exact - far)

    def _far_key_positions(self, geometry: Geometry) -> Tensor:
        return self.far_key_positions(geometry.query_positions, geometry.tokens_so_far)

    # Queries

    def _queries(self, tokens: Tokens) -> tuple[Tensor, Tensor]:
        """The queries as the near and as the far keys take them, scaled if the method does that."""
        geometry = tokens.geometry

        def table() -> Part:
            return self.table(self.far_query_positions(geometry.query_positions, geometry.tokens_so_far))

        near, far = tokens.exact_query, rotate(tokens.query, geometry.memo("far_query", table))
        if not self._scales_queries:
            return near, far
        factor = geometry.memo("query_scale", lambda: self._query_scale(geometry)).to(near.device)
        return (near * factor).to(near.dtype), (far * factor).to(near.dtype)

    def _query_scale(self, geometry: Geometry) -> Tensor:
        """max(1, ln(p + 1) / ln(trained length)), [B, 1, T, 1]: keeps the entropy of attention as more tokens come."""
        positions = geometry.query_positions[:, None, :, None]
        factor = (positions + 1).float().log() / math.log(self.trained)
        return torch.where(positions < self.start, 1.0, factor.clamp(min=1.0))

    def _selected(self, tokens: Tokens) -> Tensor | None:
        """[H, 1, D] booleans; dimensions that RoPE does not turn count as exact."""
        if self.selection is None:
            return None
        query = tokens.query
        self.selection = self.selection.to(query.device)
        pairs = self.selection[tokens.layer]
        selected = torch.cat((pairs, pairs), dim=-1)
        return torch.nn.functional.pad(selected, (0, query.shape[-1] - selected.shape[-1]))[:, None]

    # Dense

    def logits(self, tokens: Tokens) -> Tensor:
        """Near logits for the last columns, far logits for the first, a choice of both where both occur."""
        near_start, far_stop = self._overlap(tokens)
        near_query, far_query = self._queries(tokens)
        near = grouped_logits(near_query, self.exact_keys(tokens, near_start))
        if far_stop == 0:
            return near * tokens.scale
        far = self._far_logits(tokens, near_query, far_query, far_stop)
        columns = torch.arange(near_start, far_stop, device=near.device)
        query_columns = tokens.geometry.query_columns.to(near.device)
        is_near = (query_columns[:, None] - columns < self.window)[None]
        if self.start > self.window:
            is_near = is_near | (tokens.geometry.query_positions < self.start).to(near.device)[..., None]
        both = torch.where(is_near[:, None], near[..., : far_stop - near_start], far[..., near_start:])
        return torch.cat((far[..., :near_start], both, near[..., far_stop - near_start :]), dim=-1) * tokens.scale

    def _overlap(self, tokens: Tokens) -> tuple[int, int]:
        """The first column that some query may see as near, and the one after the last seen as far."""
        geometry, length = tokens.geometry, tokens.length
        if geometry.static:
            return 0, length
        past = length - tokens.query.shape[2]
        padded = geometry.key_valid is not None
        all_active = self.start == self.window or (not padded and past >= self.start)
        return (max(0, past - self.window + 1) if all_active else 0), max(0, length - self.window)

    def _far_logits(self, tokens: Tokens, near_query: Tensor, far_query: Tensor, stop: int) -> Tensor:
        selected = self._selected(tokens)
        if selected is None:
            return grouped_logits(far_query, self._far_keys(tokens)[:, :, :stop])
        # One dot product of twice the width: each head picks its pairs on the query, the group shares its keys.
        query = torch.cat((far_query * selected, near_query * ~selected), dim=-1)
        return grouped_logits(query, tokens.stored[:, :, :stop])

    # Flash

    def flash(self, tokens: Tokens) -> Tensor:
        """The band and the triangle, in chunks of queries, merged by log-sum-exp."""
        past, count = int(tokens.geometry.past), tokens.query.shape[2]
        if past + count <= self.start:
            return self.flash_exact(tokens)
        if count == 1 and self.selection is not None:
            return self.dense(tokens)[0]
        keys_start = max(0, past - self.window + 1) if self._stores == "far" else 0
        keys, far_keys = self.exact_keys(tokens, keys_start), self._far_keys(tokens)
        query, far_query = self._queries(tokens)
        near = _Side(query, keys, keys_start, tokens)
        selected = self._selected(tokens)
        if selected is None:
            return self._merged(near, _Side(far_query, far_keys, 0, tokens), past)
        far_query = torch.where(selected, far_query, query)
        out = torch.empty_like(far_query)
        groups = far_query.shape[1] // far_keys.shape[1]
        for head in range(groups):
            # The n-th query heads of all groups: as many as key heads, so keys are never repeated to all query heads.
            heads = slice(head, None, groups)
            mixed_keys = torch.where(selected[heads], far_keys, keys)
            out[:, heads] = self._merged(near.of(heads), _Side(far_query[:, heads], mixed_keys, 0, tokens), past)
        return out

    def _merged(self, near: _Side, far: _Side, past: int) -> Tensor:
        """Attention [B, H, T, D] of the queries from column `past` on: first those that only look near."""
        length = past + near.query.shape[2]
        first = min(max(self.start, past), length)
        outs = []
        if first > past:
            outs.append(near.attend(slice(0, first - past), 0, first, causal=True)[0])
        # A kernel that knows windows takes all the others at once.
        step = length - first if near.windowed else min(self.window, CHUNK)
        outs += [
            merge(self._parts(near, far, begin, min(begin + step, length), past))[0]
            for begin in range(first, length, max(step, 1))
        ]
        return torch.cat(outs, dim=2) if len(outs) > 1 else outs[0]

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
