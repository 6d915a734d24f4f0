"""Methods that keep exact distances in a local window and have their own beyond it: regions by distance.

Query i sees key j at distance i - j where that is below the window (the *near* band), and at a(i) - b(j), for each pair
its own if need be, where it is not. Most methods have one region there (the *far* triangle). With several, each but the
last is a band too, from its border to the next.
Shape letters as in the attention file.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from .rope_ext_attention import Part, by_logits, grouped_logits, is_exporting, joined, merge
from .rope_ext_method import Method, Tokens
from .rope_ext_positions import Geometry
from .rope_ext_sides import Side

CHUNK = 1024
"""Most queries of one step of the band: its squares beside the diagonal are this wide."""


class BandMethod(Method):
    """A near band, and the regions beyond it, counted from 0.

    Attributes:
        borders: the distances from which each region beyond the near band reaches (tokens), ascending.
        borders_move: some of them depend on the length so far.
        held: the region that `far_query_positions` and `far_key_positions` are of: a cache may hold its keys.
        selection: [layers, H, P] booleans, the pairs that the far map applies to; None means all. With one region only.
    """

    keys_stay = True
    by_axis = True
    borders_move = False
    held = 0

    def __init__(self, block: dict[str, Any], window: int, selection: Tensor | None = None) -> None:
        super().__init__(block)
        self.borders: tuple[int, ...] = (window,)
        self.start = max(window, block["parameters"].get("activate_beyond", 0))
        self.selection = selection
        self._chosen: Tensor | None = None
        if selection is not None:
            self.keys_stay = False  # both rotations of a key are needed for all time

    @property
    def window(self) -> int:
        """Distances below it are exact (tokens)."""
        return self.borders[0]

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

    def query_positions(self, region: int, positions: Tensor, tokens_so_far: Tensor) -> Tensor:
        """a(p) of a region; for methods with several."""
        return self.far_query_positions(positions, tokens_so_far)

    def key_positions(self, region: int, positions: Tensor, tokens_so_far: Tensor) -> Tensor:
        """b(p) of a region."""
        return self.far_key_positions(positions, tokens_so_far)

    def borders_at(self, length: Any) -> tuple[Any, ...]:
        """The borders for the tokens so far; for methods whose borders move.

        Args:
            length: a number, or [B, 1].

        Returns:
            Numbers, or [B, 1] for a border that moves.
        """
        return self.borders

    def shrink(self) -> dict[str, Any]:
        """A window of two tokens, and one token for each further band."""
        return {"borders": tuple(range(2, 2 + len(self.borders))), "start": 2}

    # Rotations

    def far_key_table(self, geometry: Geometry, start: int, stop: int) -> Part:
        """The rotation from stock positions to b."""
        positions = geometry.key_positions[:, start:stop]
        far = self.far_key_positions(positions, geometry.tokens_so_far)
        return self.table(geometry.key_stock[:, start:stop], far)

    def _query_table(self, region: int, geometry: Geometry) -> Part:
        far = self.query_positions(region, geometry.query_positions, geometry.tokens_so_far)
        # Keys that are not moved stand where the model counted them, padding included.
        return self.table(geometry.stock, far if self.moves_keys else far + geometry.shift)

    def _queries(self, tokens: Tokens) -> list[Tensor]:
        """The queries as the near keys and those of each region take them, scaled if the method does that."""
        geometry, queries = tokens.geometry, [tokens.query]
        for region in range(len(self.borders)):
            table = geometry.memo(f"query {region}", functools.partial(self._query_table, region, geometry))
            queries.append(tokens.turn_query(table))
        return [self.scaled(query, geometry) for query in queries]

    # Keys

    def _region_keys(self, tokens: Tokens, region: int, start: int, stop: int) -> Tensor:
        """[B, K, stop - start, D]: the keys of columns `start` to `stop` where a region has them."""
        if region == self.held:
            return self.far_keys(tokens, stop)[:, :, start:]
        first, geometry = tokens.exact_from, tokens.geometry
        exact = start >= first
        if exact:
            keys = tokens.key[:, :, start - first : stop - first]
        else:
            assert tokens.far_key is not None
            keys = tokens.far_key[:, :, start:stop]
        table = geometry.memo(
            ("region", region, start, stop, exact), lambda: self._key_table(region, geometry, start, stop, exact=exact)
        )
        return tokens.turn_key(keys, table)

    def _key_table(self, region: int, geometry: Geometry, start: int, stop: int, *, exact: bool) -> Part:
        """The rotation from stock positions, or from those of the region that is held, to b of another region."""
        positions, so_far = geometry.key_positions[:, start:stop], geometry.tokens_so_far
        stock, moved = geometry.key_stock[:, start:stop], self.key_positions(region, positions, so_far)
        if exact:
            return self.table(stock, moved)
        return self.table(torch.zeros_like(stock), moved - self.far_key_positions(positions, so_far))

    def _selected(self, tokens: Tokens) -> Tensor | None:
        """[H, 1, D] booleans; dimensions that RoPE does not turn count as exact."""
        if self.selection is None:
            return None
        device, head_dim = tokens.query.device, tokens.query.shape[-1]
        if tokens.query.shape[1] != self.selection.shape[1]:
            raise ValueError(
                f"this method chooses pairs for each of {self.selection.shape[1]} heads (top_k), and a layer has "
                f"{tokens.query.shape[1]}: tensor parallelism is not supported with it"
            )
        chosen = self._chosen
        if chosen is None or chosen.device != device or chosen.shape[-1] != head_dim:
            chosen = self.pairs.dims(self.selection.to(device), head_dim)[:, :, None]
            if not torch.compiler.is_compiling():  # what a graph makes is not there outside of it
                self._chosen = chosen
        return chosen[tokens.layer]

    # Dense

    def logits(self, tokens: Tokens) -> Tensor:
        """Near logits for the last columns, those of the regions before them, a choice where two occur."""
        if tokens.geometry.axes is not None:
            return self._logits_by_axis(tokens, *tokens.geometry.axes)
        (first, _), *reaches = self._reaches(tokens)
        near_query, *queries = self._queries(tokens)
        logits = grouped_logits(near_query, self.exact_keys(tokens, first))
        borders = self.borders_at(tokens.geometry.tokens_so_far) if self.borders_move else self.borders
        for region, (start, stop) in enumerate(reaches):
            if stop == 0:
                break
            beyond = self._region_logits(tokens, region, near_query, queries[region], start, stop)
            nearer = self._nearer(tokens.geometry, region, borders[region], first, stop).to(logits.device)
            both = torch.where(nearer[:, None], logits[..., : stop - first], beyond[..., first - start :])
            logits = torch.cat((beyond[..., : first - start], both, logits[..., stop - first :]), dim=-1)
            first = start
        return logits * tokens.scale

    def _nearer(self, geometry: Geometry, region: int, border: Any, start: int, stop: int) -> Tensor:
        """[B, T, stop - start] booleans: the keys that do not lie beyond the border of a region."""

        def find() -> Tensor:
            positions = geometry.query_positions[..., None]
            limit = border[..., None] if isinstance(border, Tensor) else border
            nearer: Tensor = positions - geometry.key_positions[:, None, start:stop] < limit
            return nearer | (positions < self.start) if self.start > self.window else nearer

        return geometry.memo(("nearer", region, start, stop), find)

    def _reaches(self, tokens: Tokens) -> list[tuple[int, int]]:
        """The first column and the end of what queries may see in the near band and in each region."""
        geometry, length = tokens.geometry, tokens.length
        plain = geometry.straight and geometry.explicit is None and not self.borders_move
        if geometry.static or not plain or torch.compiler.is_compiling():
            return [(0, length)] * (1 + len(self.borders))
        past = length - tokens.query.shape[2]
        all_active = self.start == self.window or (geometry.one_call and past + geometry.first_position >= self.start)
        starts = [max(0, past - border + 1) if all_active else 0 for border in self.borders]
        return list(zip((*starts, 0), (length, *(max(0, length - border) for border in self.borders)), strict=True))

    def _region_logits(
        self, tokens: Tokens, region: int, near_query: Tensor, query: Tensor, start: int, stop: int
    ) -> Tensor:
        selected, keys = self._selected(tokens), self._region_keys(tokens, region, start, stop)
        if selected is None:
            return grouped_logits(query, keys)
        # Each head picks its pairs on the query; the group shares its keys.
        chosen, others = query * selected, near_query * ~selected
        exact = self.exact_keys(tokens)[:, :, start:stop]
        if not is_exporting() and query.shape[2] == 1:  # to copy all keys for one costs more than to read them
            return grouped_logits(chosen, keys) + grouped_logits(others, exact)
        return grouped_logits(torch.cat((chosen, others), dim=-1), torch.cat((keys, exact), dim=-1))

    def _logits_by_axis(self, tokens: Tokens, queries: Tensor, keys: Tensor) -> Tensor:
        """Every pair by the distance on its own axis: the logits of each axis, added.

        Args:
            tokens: with exact keys.
            queries: [A, B, T] stock positions.
            keys: [A, B, L] stock positions.
        """
        query, key = tokens.query, self.exact_keys(tokens)
        moved = [self._by_axis(tokens, region, queries, keys) for region in range(len(self.borders))]
        selected = self._selected(tokens)
        early = queries.amax(0)[..., None] < self.start
        logits: Tensor | float = 0.0
        for axis, dims in enumerate(self._axes_dims(query.shape[-1])):
            distance = queries[axis][..., None] - keys[axis][:, None]
            dims = dims.to(query.device)
            of_axis = grouped_logits(query[..., dims], key[..., dims])
            for border, (far_query, far_key) in zip(self.borders, moved, strict=True):
                far_query, far_key = far_query[..., dims], far_key[..., dims]
                if selected is not None:
                    chosen = selected[..., dims]
                    far_query = torch.cat((far_query * chosen, query[..., dims] * ~chosen), dim=-1)
                    far_key = torch.cat((far_key, key[..., dims]), dim=-1)
                nearer = ((distance < border) | early)[:, None].to(query.device)
                of_axis = torch.where(nearer, of_axis, grouped_logits(far_query, far_key))
            if self.scales_queries:
                of_axis = of_axis * self.query_scale(queries[axis]).to(of_axis)
            logits = logits + of_axis
        assert isinstance(logits, Tensor)
        return logits * tokens.scale

    def _by_axis(self, tokens: Tokens, region: int, queries: Tensor, keys: Tensor) -> tuple[Tensor, Tensor]:
        """Queries and exact keys, turned from stock positions to those of a region."""
        geometry = tokens.geometry
        query = geometry.memo(f"axes_query {region}", lambda: self._axes_table(queries, geometry, region, True))
        key = geometry.memo(f"axes_key {region}", lambda: self._axes_table(keys, geometry, region, False))
        return tokens.turn_query(query), tokens.turn_key(self.exact_keys(tokens), key)

    def _axes_table(self, stock: Tensor, geometry: Geometry, region: int, of_queries: bool) -> Part:
        """The rotation from stock positions [A, B, n] to far ones, each pair on its axis."""
        assert self.axes is not None
        axes, far_positions = self.axes.to(stock.device), []
        move = self.query_positions if of_queries else self.key_positions
        for places in stock:
            far = move(region, places, geometry.tokens_so_far)
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
        """The bands and the triangle, in chunks of queries, merged by log-sum-exp."""
        past, count = int(tokens.geometry.past), tokens.query.shape[2]
        length = past + count
        begin = self.window
        if self.start > self.window:
            begin = max(begin, self.start - tokens.geometry.first_position)
        if length <= begin:
            return self.flash_exact(tokens)
        selected = self._selected(tokens)
        if selected is not None and count == 1:
            return by_logits(self.logits(tokens), tokens.value)
        keys_start = 0 if past < begin else past - self.window + 1
        query, *queries = self._queries(tokens)
        if selected is not None:
            return self._by_head(tokens, query, torch.where(selected, queries[0], query), selected, begin)
        sides = [_side(tokens, query, self.exact_keys(tokens, keys_start), keys_start)]
        borders: tuple[int, ...] = self.borders_at(length + tokens.geometry.first_position)
        for region, border in enumerate(borders):
            if border < length:
                start = max(0, max(begin, past) - (*borders, length + 1)[region + 1] + 1)
                keys = self._region_keys(tokens, region, start, length - border)
                sides.append(_side(tokens, queries[region], keys, start))
        return self._merged(sides, borders, past, begin)

    def _by_head(self, tokens: Tokens, query: Tensor, far_query: Tensor, selected: Tensor, begin: int) -> Part:
        """The n-th query heads of all groups at a time: as many as key heads, so that keys are never repeated."""
        past, groups = int(tokens.geometry.past), tokens.heads_per_key
        keys = self.exact_keys(tokens)
        stop = keys.shape[2] - self.window
        near, far_keys = _side(tokens, query, keys), self.far_keys(tokens, stop)
        outs, lses = [], []
        for head in range(groups):
            heads = slice(head, None, groups)
            mixed_keys = torch.where(selected[heads], far_keys, keys[:, :, :stop])
            far = _side(tokens, far_query[:, heads], mixed_keys)
            out, lse = self._merged([near.of(heads), far], self.borders, past, begin)
            outs.append(out)
            lses.append(lse)
        return torch.stack(outs, dim=2).flatten(1, 2), torch.stack(lses, dim=2).flatten(1, 2)

    def _merged(self, sides: list[Side], borders: tuple[int, ...], past: int, begin: int) -> Part:
        """Attention of the queries from column `past` on: first those before column `begin`, that only look near.

        Those after them see one region more from each border on.
        """
        near = sides[0]
        length = past + near.query.shape[2]
        first = min(max(begin, past), length)
        parts = []
        if first > past:
            parts.append(near.attend(slice(0, first - past), 0, first, causal=True))
        for count, border in enumerate((*borders[1:], length), 1):
            last = min(border, length) if count < len(sides) - 1 else length
            # A kernel that knows windows takes all the others at once.
            step = last - first if near.windowed else min(self.window, CHUNK)
            parts += [
                merge(_parts(sides[: count + 1], borders, start, min(start + step, last), past))
                for start in range(first, last, max(step, 1))
            ]
            first = max(first, last)
        return joined(parts)


def _parts(sides: list[Side], borders: tuple[int, ...], begin: int, end: int, past: int) -> Iterator[Part]:
    """What the queries of columns `begin` to `end` see: of the last side a triangle, of the others bands."""
    rows, inner = slice(begin - past, end - past), 0
    for side, outer in zip(sides[:-1], borders, strict=False):
        yield from side.band(rows, end - inner, outer - inner)
        inner = outer
    yield from sides[-1].parts(rows, 0, end - inner, causal=True)


def _side(tokens: Tokens, query: Tensor, keys: Tensor, keys_start: int = 0) -> Side:
    return Side(query, keys, tokens.value, tokens.scale, keys_start=keys_start, backend=tokens.backend)
