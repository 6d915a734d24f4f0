"""GALI, greedy attention logit interpolation (arXiv 2502.02659, EMNLP 2025).

With N tokens so far and a trained window of M, the first tokens stand 1 / g apart, g = ceil((N - w) / (M - w)), for as
few integers as are needed; the others keep their distances; the last one stands at M - 1. Logits between integers
are interpolated. The paper does that on two logit matrices, of the query at ceil(pi_i) against the key at ceil(pi_j)
and at floor(pi_j). The weight, ceil(pi_j) - pi_j, depends on the key alone and a dot product is linear, so one
blended key and plain attention give the same.

The first M tokens are plain RoPE. Then N grows in chunks: each query sees the positions of the end of its chunk.
Shape letters as in the attention file.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from .rope_ext_attention import Part, by_logits, flash_parts, grouped_logits, joined, merge, widest
from .rope_ext_method import DENSE_QUERIES, Method, Tokens
from .rope_ext_noise import gaussian_noise, uniform_noise
from .rope_ext_positions import Geometry


class Gali(Method):
    """One region, whose positions change with the length. The cache keeps keys as the base does."""

    by_pieces = True

    def __init__(self, block: dict[str, Any]) -> None:
        super().__init__(block)
        parameters = block["parameters"]
        self.initial_window: int = block["initial_window"]
        self.local_window: int = parameters["local_window"]
        self.chunk_size: int | float = parameters["chunk_size"]
        self.chunks_end_with_input = parameters["chunk_ends"] == "input"
        self.interpolates = parameters["logit_interpolation"]
        self.noise: dict[str, Any] = parameters["noise"]
        self.start = max(self.initial_window, parameters.get("activate_beyond", 0))

    # Positions

    def group_at(self, length: int) -> int:
        """g, how many tokens share the space of one."""
        return int(self._layout(torch.tensor(length, device="cpu"))[1])

    def chunk_ends(self, length: int) -> list[int]:
        """Lengths at which chunks end: M, then one chunk further each time, until `length` is reached."""
        ends = [self.initial_window]
        while ends[-1] < length:
            step = self.chunk_size if isinstance(self.chunk_size, int) else max(1, int(ends[-1] * self.chunk_size))
            ends.append(ends[-1] + step)
        return ends

    def runs(self, first: int, stop: int, input_end: int) -> list[tuple[int, int, int]]:
        """Cut the queries `first` to `stop` where N changes: start, stop and N of each run.

        N is M, at which nothing moves, for queries below `start`; then the end of the query's chunk, which is the end
        of the input where that comes first (`chunk_ends: input`).
        """
        runs = [(first, min(self.start, stop), self.initial_window)]
        begin = 0
        for end in self.chunk_ends(input_end):
            tokens_so_far = min(end, input_end) if self.chunks_end_with_input else end
            runs.append((max(begin, first, self.start), min(end, stop), tokens_so_far))
            begin = end
        return [run for run in runs if run[0] < run[1]]

    def _chunk_ends(self, geometry: Geometry) -> Tensor:
        """[B, T]: N of each query."""
        index, so_far = geometry.query_positions, geometry.tokens_so_far
        if index.shape[1] == 1 and self.chunks_end_with_input:
            ends = so_far
        else:
            grid = torch.tensor(self.chunk_ends(int(so_far.max())), device=index.device)
            ends = grid[torch.searchsorted(grid, index + 1)]
            ends = torch.minimum(ends, so_far) if self.chunks_end_with_input else ends
        return torch.where(index < self.start, self.initial_window, ends)

    def positions(self, index: Tensor, tokens_so_far: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Where tokens stand when there are N of them.

        Args:
            index: [B, L] integers, the tokens' own positions.
            tokens_so_far: [B, 1] or [1, 1] integers, N; up to M nothing moves.

        Returns:
            ceil(pi) and floor(pi), integers [B, L], and ceil(pi) - pi [B, L].
        """
        surplus, group, interpolated = self._layout(tokens_so_far)
        moved = (index < interpolated) & (surplus > 0)
        upper, lower, weight = _between(index, group)
        suffix = index - surplus
        return torch.where(moved, upper, suffix), torch.where(moved, lower, suffix), torch.where(moved, weight, 0.0)

    def _layout(self, tokens_so_far: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """N - M, the group size g, and how many tokens stand 1 / g apart."""
        initial, local = self.initial_window, self.local_window
        surplus = (tokens_so_far - initial).clamp(min=0)
        group = _ceil_div(surplus + initial - local, initial - local)
        return surplus, group, surplus + _ceil_div(surplus, (group - 1).clamp(min=1))

    def _query_table(self, geometry: Geometry, tokens_so_far: Tensor) -> Part:
        upper, _, weight = self.positions(geometry.query_positions, tokens_so_far)
        return self.table(geometry.stock, upper if self.interpolates else upper - weight)

    def _key_table(self, stock: Tensor, upper: Tensor, lower: Tensor, weight: Tensor) -> Part:
        """How to turn keys from their stock positions; between two integers the blend of both rotations."""
        if not self.interpolates:
            return self.table(stock, upper - weight)
        blend = weight[:, None, :, None]
        from_upper, from_lower = self.table(stock, upper), self.table(stock, lower)
        blend = blend.float()
        cos, sin = (high + blend * (low - high) for high, low in zip(from_upper, from_lower, strict=True))
        return cos, sin

    def _moved(self, tokens: Tokens, tokens_so_far: Tensor) -> tuple[Tensor, Tensor]:
        """Query and blended keys, rotated for N tokens. N follows from the geometry: one table serves all layers.

        A prefill has a table for each chunk; kept, they would grow with the square of the length.
        """
        geometry = tokens.geometry

        def tables() -> tuple[Part, Part]:
            keys = self.positions(geometry.key_positions, tokens_so_far)
            return self._query_table(geometry, tokens_so_far), self._key_table(geometry.key_stock, *keys)

        query_table, key_table = tables() if tokens.query.shape[2] > 1 else geometry.memo("moved", tables)
        query = self.scaled(tokens.turn_query(query_table), geometry)
        return query, tokens.turn_key(tokens.key, key_table)

    # Attention

    def flash(self, tokens: Tokens) -> Part:
        """Plain causal attention for each run of queries."""
        if self.noise["distribution"] != "none":
            return self._noisy(tokens)
        if tokens.copies is not None and tokens.gains is None:  # with gains a distance is not all that matters
            return self._step(tokens)
        parts = []
        for part, tokens_so_far in self._runs(tokens):
            if tokens_so_far is None:
                parts.append(self.flash_exact(part))
            else:
                parts.append(self.causal(part, *self._moved(part, tokens_so_far)))
        return joined(parts)

    def _noisy(self, tokens: Tokens) -> Part:
        """Dense, in blocks of queries: noise is added to single logits. Keys are moved once for each run."""
        if tokens.query.shape[2] == 1:
            return self._masked(tokens, self.logits(tokens))
        parts = []
        for run, tokens_so_far in self._runs(tokens):
            if tokens_so_far is None:
                parts.append(self.flash_exact(run))
                continue
            query, keys = self._moved(run, tokens_so_far)
            for start in range(0, query.shape[2], DENSE_QUERIES):
                stop = min(start + DENSE_QUERIES, query.shape[2])
                part = run.part(start, stop)
                logits = self._noisy_logits(part, query[:, :, start:stop], keys[:, :, : part.length], tokens_so_far)
                parts.append(self._masked(part, logits))
        return joined(parts)

    def _masked(self, tokens: Tokens, logits: Tensor) -> Part:
        """Attention by logits, of the keys that each query sees."""
        allowed = tokens.geometry.allowed[:, None].to(logits.device)
        return by_logits(logits.masked_fill(~allowed, -torch.inf), tokens.value)

    def _step(self, tokens: Tokens) -> Part:
        """Attend from one new token to those that stand 1 / g apart, and to those behind them at exact distances."""
        geometry, length = tokens.geometry, tokens.length

        def places() -> tuple[int, int, Part]:
            first, device = geometry.first_position, geometry.stock.device
            ((_, _, tokens_so_far),) = self.runs(first + length - 1, first + length, first + length)
            count = int(self._layout(torch.tensor(tokens_so_far, device="cpu"))[2]) - first
            table = self._query_table(geometry, torch.full((1, 1), tokens_so_far, device=device))
            return self.group_at(tokens_so_far), min(max(count, 0), length), table

        group, count, query_table = geometry.memo("step", places)

        def table(start: int, stop: int) -> Part:
            index, stock = geometry.key_positions[:, start:stop], geometry.key_stock[:, start:stop]
            return self._key_table(stock, *_between(index, group))

        def turned(start: int, stop: int) -> Tensor:
            found = geometry.memo(("step", start, stop), lambda: table(start, stop))
            return tokens.turn_key(tokens.key[:, :, start:stop], found)

        assert tokens.copies is not None
        tokens.copies.hold(group)
        keys = tokens.copies.first(count, tokens.key, turned)
        query, exact = (self.scaled(each, geometry) for each in (tokens.turn_query(query_table), tokens.query))
        regions = [(query, keys, slice(0, count)), (exact, tokens.key[:, :, count:], slice(count, None))]
        how: dict[str, Any] = {"causal": False, "scale": tokens.scale, "backend": tokens.backend}
        return merge(
            part
            for query, keys, columns in regions
            if keys.shape[2]
            for part in flash_parts(query, keys, tokens.value[:, :, columns], **how)
        )

    def _runs(self, tokens: Tokens) -> Iterator[tuple[Tokens, Tensor | None]]:
        """The runs of queries with their N, [1, 1]; None where nothing moves."""
        geometry, past = tokens.geometry, int(tokens.geometry.past)
        first, device = geometry.first_position, geometry.stock.device
        input_end = geometry.memo("input_end", lambda: int(geometry.tokens_so_far.max()))
        for start, stop, tokens_so_far in self.runs(first + past, first + tokens.length, input_end):
            part = tokens.part(start - first - past, stop - first - past)
            moves = tokens_so_far > self.initial_window
            yield part, torch.full((1, 1), tokens_so_far, device=device) if moves else None

    def logits(self, tokens: Tokens) -> Tensor:
        """Logits by the positions of each query's N, one N after the other."""
        ends, every = tokens.geometry.memo("ends", lambda: self._ends(tokens.geometry))
        if not every:
            return self._run_logits(tokens, ends)
        logits = self.exact_logits(tokens)
        for end in every:
            if end > self.initial_window:
                moved = self._run_logits(tokens, torch.full_like(ends[:, :1], end))
                logits = torch.where((ends == end)[:, None, :, None].to(logits.device), moved, logits)
        return logits

    def _ends(self, geometry: Geometry) -> tuple[Tensor, list[int]]:
        """[B, T]: N of each query; and every N, where they may differ within a row."""
        ends = self._chunk_ends(geometry)
        return ends, sorted(set(ends.flatten().tolist())) if ends.shape[1] > 1 else []

    def _run_logits(self, tokens: Tokens, tokens_so_far: Tensor) -> Tensor:
        return self._noisy_logits(tokens, *self._moved(tokens, tokens_so_far), tokens_so_far)

    def _noisy_logits(self, tokens: Tokens, query: Tensor, keys: Tensor, tokens_so_far: Tensor) -> Tensor:
        """Logits of a query and keys that were moved for N tokens, with the noise that there is."""
        logits = grouped_logits(query, keys) * tokens.scale
        if self.noise["distribution"] != "none":
            logits += self._noise(tokens, tokens_so_far).to(logits)
        return logits

    def _noise(self, tokens: Tokens, tokens_so_far: Tensor) -> Tensor:
        """[B, H, T, L] float32: zero mean; standard deviation `std`, times distance / N if so wished."""
        noise, geometry = self.noise, tokens.geometry
        query_index, key_index = geometry.query_positions, geometry.key_positions
        seeds = noise["seed"], tokens.layer
        draw = gaussian_noise if noise["distribution"] == "gaussian" else uniform_noise
        sample = draw(seeds, tokens.query.shape[1], query_index, key_index)
        deviation = torch.full_like(sample[:, :1], noise["std"])
        if noise["scale_by_distance"]:
            distance = (query_index[:, :, None] - key_index[:, None]).float()
            deviation = deviation * (distance / tokens_so_far[..., None].float())[:, None]
        if noise["interpolated_only"]:
            deviation = deviation * (self.positions(key_index, tokens_so_far)[2][:, None, None] > 0)
        else:
            deviation = deviation * (tokens_so_far > self.initial_window)[:, None, None]
        return sample * deviation


def _between(index: Tensor, group: Tensor | int) -> tuple[Tensor, Tensor, Tensor]:
    """Return index / g rounded up, rounded down, and how far it is below the former."""
    wide = widest(index.device)
    return _ceil_div(index, group), index // group, (-index % group).to(wide) / group


def _ceil_div(dividend: Tensor, divisor: Tensor | int) -> Tensor:
    return -(-dividend // divisor)
