"""DCA, dual chunk attention (arXiv 2402.17463, ICML 2024), with the positions of its authors' program, ChunkLlama.

Tokens are cut into chunks of the stride c = C - w, C the chunk size and w the local window. A key stands at j mod c. A
query stands at i mod c for keys of its own chunk, at min(i mod c + c, C) for the chunk before, and at C for older ones.
The program multiplies queries and keys by 0.05 ln(L / M) + 1 once L exceeds the trained length M; the published results
were made without (`temperature: false`).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from .rope_ext_attention import Part, flash_parts, grouped_logits, is_exporting, joined, merge
from .rope_ext_method import Method, Tokens
from .rope_ext_positions import Geometry


class Dca(Method):
    """Three regions, each a run of whole chunks; the far key is the one in its chunk.

    Attributes:
        activate_beyond: queries at positions below it are the base's, without temperature; 0: none.
    """

    keys_stay = True

    def __init__(self, block: dict[str, Any]) -> None:
        super().__init__(block)
        parameters = block["parameters"]
        self.chunk_size: int = parameters["chunk_size"]
        self.stride = self.chunk_size - parameters["local_window"]
        self.activate_beyond: int = parameters.get("activate_beyond", 0)
        self.start = max(self.stride, self.activate_beyond)
        self.temperature: bool = parameters["temperature"]
        self.by_pieces = self.temperature

    def is_base(self, length: int) -> bool:
        """Up to `start` distances are exact; the temperature begins at the trained length, if active there."""
        unscaled = max(self.trained, self.activate_beyond)
        return super().is_base(length) and not (self.temperature and length > unscaled)

    def shrink(self) -> dict[str, Any]:
        """Chunks of three tokens, a stride of two."""
        return {"chunk_size": 3, "stride": 2, "start": 2, "activate_beyond": 0}

    def far_key_table(self, geometry: Geometry, start: int, stop: int) -> Part:
        """The rotation from stock positions to j mod c."""
        in_chunk = geometry.key_positions[:, start:stop] % self.stride
        return self.table(geometry.key_stock[:, start:stop], in_chunk)

    def _queries(self, tokens: Tokens) -> tuple[Tensor, Tensor, Tensor]:
        """The query for keys of its own chunk, of the one before, and of older ones: three times [B, H, T, D]."""
        geometry, one = tokens.geometry, not is_exporting() and tokens.query.shape[2] == 1

        def tables() -> list[Part]:
            own = geometry.query_positions % self.stride
            before = (own + self.stride).clamp(max=self.chunk_size)
            places = [own, before, torch.full_like(own, self.chunk_size)]
            if one:  # a step turns its query to all places at once
                places = [torch.cat(places, dim=1)]
            return [self.table(geometry.stock, positions) for positions in places]

        turned = [tokens.turn_query(table) for table in geometry.memo("queries", tables)]
        if one:
            turned = list(turned[0].chunk(3, dim=2))
        own, before, older = (self.scaled(query, geometry) for query in turned)
        if not self.temperature:
            return own, before, older
        factor = geometry.memo("temperature", lambda: self._query_factor(geometry)).to(own)
        return own * factor, before * factor, older * factor

    def _query_factor(self, geometry: Geometry) -> Tensor:
        """[B, 1, T, 1]: the temperature of both sides, on the query alone."""
        ratio = (geometry.tokens_so_far.float() / self.trained).clamp(min=1.0)
        factor = torch.where(geometry.query_positions < self.activate_beyond, 1.0, (0.05 * ratio.log() + 1.0) ** 2)
        return factor[:, None, :, None]

    def flash(self, tokens: Tokens) -> Part:
        """Attend by chunk: to a triangle of the chunk, a rectangle of the chunk before, and one of all older keys."""
        past, first = int(tokens.geometry.past), tokens.geometry.first_position
        length, stride = past + tokens.query.shape[2], self.stride
        parts, begin = [], past
        if past + first < self.activate_beyond:
            begin = min(self.activate_beyond - first, length)
            parts.append(self.flash_exact(tokens.part(0, begin - past)))
        queries, keys = self._queries(tokens), self.far_keys(tokens, length)
        while begin < length:
            chunk = begin - (begin + first) % stride  # the column at which the chunk begins
            end = min(chunk + stride, length)
            borders = (max(chunk, 0), max(chunk - stride, 0))
            parts.append(merge(self._parts(tokens, queries, keys, slice(begin - past, end - past), borders)))
            begin = end
        return joined(parts)

    def _parts(
        self, tokens: Tokens, queries: tuple[Tensor, ...], keys: Tensor, rows: slice, borders: tuple[int, int]
    ) -> Iterator[Part]:
        (own_start, before_start), end = borders, rows.stop + int(tokens.geometry.past)
        regions = [(queries[0], own_start, end, True), (queries[1], before_start, own_start, False)]
        regions.append((queries[2], 0, before_start, False))
        for query, start, stop, causal in regions:
            if stop > start:
                side = query[:, :, rows], keys[:, :, start:stop], tokens.value[:, :, start:stop]
                yield from flash_parts(*side, causal=causal, scale=tokens.scale, backend=tokens.backend)

    def _chunks(self, geometry: Geometry) -> tuple[Tensor, Tensor]:
        """[B, 1, T, L] booleans: the keys in the query's own chunk, and those in the one before."""
        apart = geometry.query_positions[:, :, None] // self.stride - geometry.key_positions[:, None] // self.stride
        return (apart == 0)[:, None], (apart == 1)[:, None]

    def logits(self, tokens: Tokens) -> Tensor:
        """A choice of three, by how many chunks lie between."""
        geometry = tokens.geometry
        in_own, in_before = (x.to(tokens.query.device) for x in geometry.memo("chunks", lambda: self._chunks(geometry)))
        # One product, so that the keys are read once.
        queries = torch.cat(self._queries(tokens), dim=2)
        logits = grouped_logits(queries, self.far_keys(tokens, tokens.length))
        count = tokens.query.shape[2]
        own, before, older = logits[:, :, :count], logits[:, :, count : 2 * count], logits[:, :, 2 * count :]
        logits = torch.where(in_own, own, torch.where(in_before, before, older)) * tokens.scale
        if not self.activate_beyond:
            return logits
        below = (geometry.query_positions < self.activate_beyond)[:, None, :, None].to(logits.device)
        return torch.where(below, self.exact_logits(tokens), logits)
