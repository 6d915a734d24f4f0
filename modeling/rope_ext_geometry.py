"""Where the tokens of one forward stand: columns, positions, padding.

A *column* is an index into the cache; a *position* is a token's index in its own row, padding left out. Masks come
from columns, rotations from positions. Shape letters as in the attention file.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

Rows = list[tuple[slice, slice, "Geometry"]]


class Geometry:
    """The tokens of one forward, shared by all its layers.

    Attributes:
        query_positions: [B, T] positions of the new tokens.
        past: columns before the first query: a number, or for a compilable cache a tensor that stays on its device.
        key_valid: [B, at least L] booleans, False at padding; None when there is none.
        static: the cache is longer than what is filled.
        input_end: the column after the forward's last token, also where this is a part of it (None: not known).
        exact: every query sees exact distances only, so that the forward is the base's.
    """

    def __init__(
        self,
        query_positions: Tensor,
        past: int | Tensor,
        key_valid: Tensor | None = None,
        *,
        static: bool = False,
        input_end: int | None = None,
    ) -> None:
        self.query_positions = query_positions
        self.past = past
        self.key_valid = key_valid
        self.static = static
        if input_end is None and isinstance(past, int):
            input_end = past + query_positions.shape[1]
        self.input_end = input_end
        self.exact = False
        self._memo: dict[Any, Any] = {}

    def memo(self, key: object, make: Callable[[], Any]) -> Any:
        """What `make()` returns, made by the first layer that asks and kept for the others."""
        if key not in self._memo:
            self._memo[key] = make()
        return self._memo[key]

    # No `cached_property`: up to Python 3.11 it takes a lock, at which torch.compile breaks the graph.
    @property
    def query_columns(self) -> Tensor:
        """[T]."""

        def make() -> Tensor:
            count = self.query_positions.shape[1]
            return torch.arange(count, device=self.query_positions.device) + self.past

        columns: Tensor = self.memo("query_columns", make)
        return columns

    @property
    def tokens_so_far(self) -> Tensor:
        """[B, 1] or [1, 1]: tokens of each row up to the end of this forward."""
        if self.input_end is None or (self.query_positions.shape[1] == 1 and self.key_valid is not None):
            return self.query_positions[:, -1:] + 1
        return torch.full((1, 1), self.input_end, device=self.query_positions.device)

    def key_positions(self, length: int) -> Tensor:
        """[B, length]; below 0 at left padding. Tokens of a row are contiguous, so one of them fixes all.

        Raises:
            ValueError: a row has padding between its tokens (not asked of an accelerator, which would have to wait, nor
                in a compiled graph).
        """

        def make() -> Tensor:
            valid = None if torch.compiler.is_compiling() else self.key_valid
            if valid is not None and valid.device.type == "cpu":
                _refuse_holes(valid[:, :length])
            columns = torch.arange(length, device=self.query_positions.device)
            last_valid = self.last_query
            origin = self.query_positions.gather(1, last_valid) - self.query_columns[last_valid]
            return columns + origin

        positions: Tensor = self.memo(("key_positions", length), make)
        return positions

    @property
    def last_query(self) -> Tensor:
        """[B, 1]: index of each row's last query that is not padding (the last where all are)."""
        last: Tensor = self.memo("last_query", self._find_last_query)
        return last

    def _find_last_query(self) -> Tensor:
        batch, count = self.query_positions.shape
        if self.key_valid is None or count == 1:
            return torch.full((batch, 1), count - 1, device=self.query_positions.device)
        valid = self.key_valid[:, self.query_columns]
        last = valid * torch.arange(count, device=valid.device)
        return last.argmax(-1, keepdim=True)

    def allowed(self, length: int) -> Tensor:
        """[B or 1, T, length] booleans: the key is not later than the query and is no padding."""

        def make() -> Tensor:
            columns = torch.arange(length, device=self.query_positions.device)
            causal = (columns <= self.query_columns[:, None])[None]
            if self.key_valid is None:
                return causal
            unfilled = max(0, length - self.key_valid.shape[1])
            return causal & torch.nn.functional.pad(self.key_valid, (0, unfilled))[:, None, :length]

        allowed: Tensor = self.memo(("allowed", length), make)
        return allowed

    def rows(self, length: int) -> Rows | None:
        """Each row by itself: its query indices, its columns and its geometry; None when no row has padding.

        Raises:
            ValueError: a row has padding between its tokens.
        """
        rows: Rows | None = self.memo(("rows", length), lambda: self._split_rows(length))
        return rows

    def _split_rows(self, length: int) -> Rows | None:
        if self.key_valid is None:
            return None
        _refuse_holes(self.key_valid[:, :length])
        past = int(self.past)
        rows = []
        for row, valid in enumerate(self.key_valid[:, :length].cpu()):
            columns = valid.nonzero()[:, 0].tolist()
            low, high = (columns[0], columns[-1] + 1) if columns else (length, length)
            queries = slice(max(low - past, 0), max(high - past, 0))
            positions = self.query_positions[row : row + 1, queries]
            rows.append((queries, slice(low, high), Geometry(positions, max(past - low, 0))))
        whole = all((columns.start, columns.stop) == (0, length) for _, columns, _ in rows)
        return None if whole else rows

    def part(self, start: int, stop: int) -> Geometry:
        """The queries at indices `start` to `stop` alone, of tokens without padding."""
        return Geometry(self.query_positions[:, start:stop], int(self.past) + start, input_end=self.input_end)


def _refuse_holes(valid_BL: Tensor) -> None:
    begun = valid_BL.cumsum(-1) > 0
    ended = valid_BL.flip(-1).cumsum(-1).flip(-1) == 0
    holes = (begun & ~ended & ~valid_BL).any(-1)
    if bool(holes.any()):
        row = int(holes.long().argmax())
        raise ValueError(
            f"row {row} of attention_mask has padding between its tokens; pad on the left, or on the right"
        )
