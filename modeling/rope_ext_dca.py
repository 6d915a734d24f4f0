"""DCA, dual chunk attention (arXiv 2402.17463, ICML 2024), with the positions of its authors' program, ChunkLlama.

Tokens are cut into chunks of the stride c = C - w, C the chunk size and w the local window. A key stands at j mod c. A
query stands at i mod c for keys of its own chunk, at min(i mod c + c, C) for the chunk before, and at C for older ones.
The program multiplies queries and keys by 0.05 ln(L / M) + 1 once L exceeds the trained length M; the published results
were made without (`temperature: false`).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .rope_ext_attention import Part, flash_attention, grouped_logits, merge, rotate
from .rope_ext_geometry import Geometry
from .rope_ext_method import Method, Tokens


class Dca(Method):
    """Three regions, each a run of whole chunks.

    The cache keeps each key where it stands in its chunk; with `activate_beyond` `[in its chunk, exact]`, 2 D wide.

    Attributes:
        activate_beyond: queries at positions below it are the base's, without temperature; 0: none.
    """

    def __init__(self, block: dict[str, Any]) -> None:
        super().__init__(block)
        parameters = block["parameters"]
        self.chunk_size: int = parameters["chunk_size"]
        self.stride = self.chunk_size - parameters["local_window"]
        self.activate_beyond: int = parameters.get("activate_beyond", 0)
        self.start = max(self.stride, self.activate_beyond)
        self.trained: int = block["initial_window"]
        self.temperature: bool = parameters["temperature"]

    def is_base(self, length: int | None) -> bool:
        """Up to `start` distances are exact; the temperature begins at the trained length, if active there."""
        unscaled = max(self.trained, self.activate_beyond)
        return super().is_base(length) and not (self.temperature and (length or 0) > unscaled)

    def stored_key(self, key: Tensor, exact_key: Tensor, geometry: Geometry) -> Tensor:
        """Rotated to j mod c; the exact key beside it where queries beyond the first chunk take that."""
        in_chunk = rotate(key, geometry.memo("stored_key", lambda: self.table(geometry.query_positions % self.stride)))
        return torch.cat((in_chunk, exact_key), dim=-1) if self.activate_beyond else in_chunk

    def _chunk_keys(self, tokens: Tokens) -> Tensor:
        return tokens.stored.chunk(2, dim=-1)[0] if self.activate_beyond else tokens.stored

    def exact_keys(self, tokens: Tokens, start: int = 0) -> Tensor:
        """Kept beside the others, or the same: within the first chunk stored keys are exact."""
        if self.activate_beyond:
            return tokens.stored[:, :, start:].chunk(2, dim=-1)[1]
        return (tokens.stored if tokens.fresh_key is None else tokens.fresh_key)[:, :, start:]

    def _queries(self, tokens: Tokens) -> tuple[Tensor, Tensor, Tensor]:
        """The query for keys of its own chunk, of the one before, and of older ones: three times [B, H, T, D]."""
        geometry = tokens.geometry

        def tables() -> list[Part]:
            own = geometry.query_positions % self.stride
            before = (own + self.stride).clamp(max=self.chunk_size)
            return [self.table(positions) for positions in (own, before, torch.full_like(own, self.chunk_size))]

        query = tokens.query * self._query_factor(geometry).to(tokens.query) if self.temperature else tokens.query
        own, before, older = (rotate(query, table) for table in geometry.memo("queries", tables))
        return own, before, older

    def _query_factor(self, geometry: Geometry) -> Tensor:
        """[B, 1, T, 1]: the temperature of both sides, on the query alone."""
        ratio = (geometry.tokens_so_far.float() / self.trained).clamp(min=1.0)
        factor = torch.where(geometry.query_positions < self.activate_beyond, 1.0, (0.05 * ratio.log() + 1.0) ** 2)
        return factor[:, None, :, None]

    def flash(self, tokens: Tokens) -> Tensor:
        """For the queries of each chunk: a triangle of it, a rectangle of the chunk before, one of all older keys."""
        past = int(tokens.geometry.past)
        length, stride = past + tokens.query.shape[2], self.stride
        outs, begin = [], past
        if past < self.activate_beyond:
            begin = min(self.activate_beyond, length)
            outs.append(self.flash_exact(tokens.part(0, begin - past)))
        queries = self._queries(tokens)
        while begin < length:
            chunk = begin - begin % stride
            end = min(chunk + stride, length)
            borders = (chunk, max(chunk - stride, 0), 0)
            outs.append(merge(self._parts(tokens, queries, begin, end, borders))[0])
            begin = end
        return torch.cat(outs, dim=2)

    def _parts(
        self,
        tokens: Tokens,
        queries: tuple[Tensor, Tensor, Tensor],
        begin: int,
        end: int,
        borders: tuple[int, int, int],
    ) -> list[Part]:
        past, own_start, keys = int(tokens.geometry.past), borders[0], self._chunk_keys(tokens)
        rows = slice(begin - past, end - past)
        regions = [(queries[0], begin, end, True), (queries[0], own_start, begin, False)]
        regions += [(queries[1], borders[1], own_start, False), (queries[2], 0, borders[1], False)]
        return [
            flash_attention(
                query[:, :, rows],
                keys[:, :, start:stop],
                tokens.value[:, :, start:stop],
                causal=causal,
                scale=tokens.scale,
                backend=tokens.backend,
            )
            for query, start, stop, causal in regions
            if stop > start
        ]

    def logits(self, tokens: Tokens) -> Tensor:
        """A choice of three, by how many chunks lie between."""
        geometry = tokens.geometry
        chunks_apart = (
            geometry.query_positions[:, :, None] // self.stride
            - geometry.key_positions(tokens.length)[:, None] // self.stride
        )[:, None].to(tokens.query.device)
        # One product, so that the keys are read once.
        queries = torch.cat(self._queries(tokens), dim=2)
        own, before, older = grouped_logits(queries, self._chunk_keys(tokens)).chunk(3, dim=2)
        logits = torch.where(chunks_apart == 0, own, torch.where(chunks_apart == 1, before, older)) * tokens.scale
        if not self.activate_beyond:
            return logits
        below = (geometry.query_positions < self.activate_beyond)[:, None, :, None].to(logits.device)
        return torch.where(below, self.exact_logits(tokens), logits)
