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
    """Three regions, each a run of whole chunks. The cache keeps each key where it stands in its chunk."""

    def __init__(self, block: dict[str, Any]) -> None:
        super().__init__(block)
        parameters = block["parameters"]
        self.chunk_size: int = parameters["chunk_size"]
        self.stride = self.chunk_size - parameters["local_window"]
        self.start = self.stride
        self.trained: int = block["initial_window"]
        self.temperature: bool = parameters["temperature"]

    def is_base(self, length: int | None) -> bool:
        """Within the first chunk distances are exact; the temperature begins at the trained length."""
        return super().is_base(length) and not (self.temperature and (length or 0) > self.trained)

    def stored_key(self, key: Tensor, exact_key: Tensor, geometry: Geometry) -> Tensor:
        """Rotated to j mod c."""
        return rotate(key, geometry.memo("stored_key", lambda: self.table(geometry.query_positions % self.stride)))

    def exact_keys(self, tokens: Tokens, start: int = 0) -> Tensor:
        """Within the first chunk the stored keys are exact."""
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
        """[B or 1, 1, 1, 1]: the temperature of both sides, on the query alone."""
        ratio = (geometry.tokens_so_far.float() / self.trained).clamp(min=1.0)
        return ((0.05 * ratio.log() + 1.0) ** 2)[:, :, None, None]

    def flash(self, tokens: Tokens) -> Tensor:
        """For the queries of each chunk: a triangle of it, a rectangle of the chunk before, one of all older keys."""
        past = int(tokens.geometry.past)
        length, stride = past + tokens.query.shape[2], self.stride
        queries = self._queries(tokens)
        outs, begin = [], past
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
        past, own_start = int(tokens.geometry.past), borders[0]
        rows = slice(begin - past, end - past)
        regions = [(queries[0], begin, end, True), (queries[0], own_start, begin, False)]
        regions += [(queries[1], borders[1], own_start, False), (queries[2], 0, borders[1], False)]
        return [
            flash_attention(
                query[:, :, rows],
                tokens.stored[:, :, start:stop],
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
        own, before, older = (grouped_logits(query, tokens.stored) for query in self._queries(tokens))
        return torch.where(chunks_apart == 0, own, torch.where(chunks_apart == 1, before, older)) * tokens.scale
