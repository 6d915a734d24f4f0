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

from .rope_ext_attention import Part, flash_attention, grouped_logits, merge, rotate
from .rope_ext_geometry import Geometry
from .rope_ext_method import Method, Tokens
from .rope_ext_moved import MovedKeys
from .rope_ext_noise import gaussian_noise, uniform_noise


class Gali(Method):
    """One region, whose positions change with the length. The cache keeps keys as the base does."""

    moves_keys_by_length = True

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

    def stored_key(self, key: Tensor, exact_key: Tensor, geometry: Geometry) -> Tensor:
        """The base's own."""
        return exact_key

    def exact_keys(self, tokens: Tokens, start: int = 0) -> Tensor:
        """As they are stored."""
        return tokens.stored[:, :, start:]

    # Positions

    def group_at(self, length: int) -> int:
        """g, how many tokens share the space of one."""
        return int(self._layout(torch.tensor(length))[1])

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

    def _tokens_so_far(self, tokens: Tokens) -> Tensor:
        """[B, 1]: N of each row's one query."""
        index = tokens.geometry.query_positions
        length = index + 1
        if not self.chunks_end_with_input:
            ends = torch.tensor(self.chunk_ends(tokens.length), device=index.device)
            length = ends[torch.searchsorted(ends, length)]
        return torch.where(index < self.start, self.initial_window, length)

    def positions(self, index: Tensor, tokens_so_far: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Where tokens stand when there are N of them.

        Args:
            index: [B, L] integers, the tokens' own positions.
            tokens_so_far: [B, 1] or [1, 1] integers, N; up to M nothing moves.

        Returns:
            ceil(pi) and floor(pi), integers [B, L], and ceil(pi) - pi, float32 [B, L].
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

    def _tables(self, tokens: Tokens, tokens_so_far: Tensor) -> tuple[Part, Part]:
        """How to rotate the query, and the stored key, which is rotated to its own position already."""
        key_index = tokens.geometry.key_positions(tokens.length)
        return self._query_table(tokens, tokens_so_far), self._key_table(
            key_index, *self.positions(key_index, tokens_so_far)
        )

    def _query_table(self, tokens: Tokens, tokens_so_far: Tensor) -> Part:
        upper, _, weight = self.positions(tokens.geometry.query_positions, tokens_so_far)
        return self.table(upper if self.interpolates else upper - weight)

    def _key_table(self, index: Tensor, upper: Tensor, lower: Tensor, weight: Tensor) -> Part:
        if not self.interpolates:
            return self.table((upper - index) - weight)
        blend = weight[:, None, :, None]
        from_upper, from_lower = self.table(upper - index), self.table(lower - index)
        cos, sin = (high + blend * (low - high) for high, low in zip(from_upper, from_lower, strict=True))
        return cos, sin

    def _moved(self, tokens: Tokens, tokens_so_far: Tensor) -> tuple[Tensor, Tensor]:
        """Query and blended keys, rotated for N tokens. N follows from the geometry: one table serves all layers.

        A prefill has a table for each chunk; kept, they would grow with the square of the length.
        """
        query_table, key_table = tokens.geometry.memo("moved", lambda: self._tables(tokens, tokens_so_far))
        return rotate(tokens.query, query_table), rotate(tokens.stored, key_table)

    # Attention

    def flash(self, tokens: Tokens) -> Tensor:
        """Plain causal attention for each run of queries."""
        if self.noise["distribution"] != "none":
            return self.blockwise(tokens)
        if tokens.moved is not None:
            return self._step(tokens, tokens.moved)
        outs = []
        for part, tokens_so_far in self._parts(tokens):
            if tokens_so_far is None:
                outs.append(self.flash_exact(part))
            else:
                query, keys = self._moved(part, tokens_so_far)
                outs.append(self.causal(part, query, keys))
        return torch.cat(outs, dim=2)

    def _step(self, tokens: Tokens, moved: MovedKeys) -> Tensor:
        """Of one new token: the tokens that stand 1 / g apart, and those behind them, at exact distances."""
        length, index = tokens.length, tokens.geometry.key_positions(tokens.length)
        ((_, _, tokens_so_far),) = self.runs(length - 1, length, length)
        group = self.group_at(tokens_so_far)
        count = min(int(self._layout(torch.tensor(tokens_so_far))[2]), length)

        def key_table(start: int, stop: int) -> Part:
            columns = index[:, start:stop]
            return self._key_table(columns, *_between(columns, torch.tensor(group, device=index.device)))

        keys = moved.first(count, tokens.stored, group, key_table)
        ends = torch.tensor([[tokens_so_far]], device=index.device)
        query = rotate(tokens.query, tokens.geometry.memo("moved_query", lambda: self._query_table(tokens, ends)))
        regions = [
            (query, keys, slice(0, count)),
            (tokens.exact_query, tokens.stored[:, :, count:], slice(count, None)),
        ]
        return merge(
            flash_attention(
                query, keys, tokens.value[:, :, columns], causal=False, scale=tokens.scale, backend=tokens.backend
            )
            for query, keys, columns in regions
            if keys.shape[2]
        )[0]

    def logits(self, tokens: Tokens) -> Tensor:
        """Of each run of queries, padded with zeros to the columns after its last."""
        if tokens.query.shape[2] == 1:
            return self._run_logits(tokens, self._tokens_so_far(tokens))
        logits = []
        for part, tokens_so_far in self._parts(tokens):
            run = self.exact_logits(part) if tokens_so_far is None else self._run_logits(part, tokens_so_far)
            logits.append(torch.nn.functional.pad(run, (0, tokens.length - part.length)))
        return torch.cat(logits, dim=2)

    def _parts(self, tokens: Tokens) -> Iterator[tuple[Tokens, Tensor | None]]:
        """The runs of queries with their N, [1, 1]; None where nothing moves."""
        past = int(tokens.geometry.past)
        for first, stop, tokens_so_far in self.runs(past, tokens.length, tokens.geometry.input_end or tokens.length):
            moves = tokens_so_far > self.initial_window
            device = tokens.geometry.query_positions.device
            yield (
                tokens.part(first - past, stop - past),
                torch.full((1, 1), tokens_so_far, device=device) if moves else None,
            )

    def _run_logits(self, tokens: Tokens, tokens_so_far: Tensor) -> Tensor:
        query, keys = self._moved(tokens, tokens_so_far)
        logits = grouped_logits(query, keys) * tokens.scale
        if self.noise["distribution"] != "none":
            logits += self._noise(tokens, tokens_so_far).to(logits)
        return logits

    def _noise(self, tokens: Tokens, tokens_so_far: Tensor) -> Tensor:
        """[B, H, T, L] float32: zero mean; standard deviation `std`, times distance / N if so wished."""
        noise, geometry = self.noise, tokens.geometry
        query_index, key_index = geometry.query_positions, geometry.key_positions(tokens.length)
        seeds = noise["seed"], tokens.layer
        draw = gaussian_noise if noise["distribution"] == "gaussian" else uniform_noise
        sample = draw(seeds, tokens.query.shape[1], query_index, key_index)
        deviation = torch.full_like(sample[:, :1], noise["std"])
        if noise["scale_by_distance"]:
            deviation *= ((query_index[:, :, None] - key_index[:, None]) / tokens_so_far[..., None])[:, None]
        if noise["interpolated_only"]:
            deviation *= self.positions(key_index, tokens_so_far)[2][:, None, None] > 0
        else:
            deviation *= (tokens_so_far > self.initial_window)[:, None, None]
        return sample * deviation


def _between(index: Tensor, group: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Of index / g: rounded up, rounded down, and how far it is below the former."""
    upper = _ceil_div(index, group)
    return upper, index // group, upper - index / group


def _ceil_div(dividend: Tensor, divisor: Tensor | int) -> Tensor:
    return -(-dividend // divisor)
