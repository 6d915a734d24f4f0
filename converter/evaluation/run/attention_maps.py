"""Attention maps as GALI's analysis draws them: logits and weights, averaged over layers and heads, on a grid.

The logits are those that attention uses: the method's own, of the queries and keys that its layers are given. They are
made for a few queries at a time, so that there is never a matrix of all of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ropext.converter.errors import UsageError
from ropext.modeling.rope_ext_attention import masked_softmax
from ropext.modeling.rope_ext_method import Method, Tokens

__all__ = ["MOST_LOGITS", "AttentionMap", "borders"]

MOST_LOGITS = 2**22
"""Logits of all heads that are made at once: 16 MiB in float32. What they are made of takes a few times as much."""

_FEWEST_QUERIES = 2
"""That are looked at together; of one alone a method would think that it is generated."""


class AttentionMap:
    """Sums over the layers that are shown to `see`; beside them nothing is kept.

    Attributes:
        layers: those that have been seen.
    """

    def __init__(
        self, tokens: int, cells: int, layers: Sequence[int] | None = None, heads: Sequence[int] | None = None
    ) -> None:
        """Begin.

        Args:
            tokens: of the text.
            cells: rows and columns of the grid.
            layers: those that count; None for all.
            heads: the query heads that count; None for all.
        """
        self.layers: set[int] = set()
        self._tokens, self._wanted, self._heads = tokens, layers, list(heads) if heads else None
        cells = min(cells, tokens)
        self._place = torch.arange(tokens) * cells // tokens
        self._in_cell = torch.nn.functional.one_hot(self._place, cells).float()
        self._grid = torch.zeros(2, cells, cells, dtype=torch.float64)
        self._by_distance = torch.zeros(2, tokens, dtype=torch.float64)
        self._first = 0.0

    def see(self, method: Method, tokens: Tokens) -> None:
        """Add one layer, of one row that comes as a whole.

        Raises:
            UsageError: the layer lacks one of the heads.
        """
        if self._wanted is not None and tokens.layer not in self._wanted:
            return
        heads, count = tokens.query.shape[1], tokens.query.shape[2]
        if self._heads and max(self._heads) >= heads:
            raise UsageError(f"--heads {max(self._heads)}: layer {tokens.layer} has heads 0 to {heads - 1}")
        self.layers.add(tokens.layer)
        step = max(_FEWEST_QUERIES, MOST_LOGITS // (heads * count))
        for start in range(0, count, step):
            part = tokens.part(start, min(start + step, count))
            logits = method.bounded_logits(part)
            allowed = part.geometry.allowed.to(logits.device)
            weights = masked_softmax(logits, allowed, part.sinks)
            for which, values in enumerate((logits, weights)):
                self._add(which, start, self._mean(values).masked_fill(~allowed[0], 0.0))

    def _mean(self, values: Tensor) -> Tensor:
        """[T, L] of [1, H, T, L], over the heads that count."""
        chosen = values[0] if self._heads is None else values[0, self._heads]
        return chosen.float().mean(0)

    def _add(self, which: int, start: int, mean: Tensor) -> None:
        """Add the means [T, L] of queries from `start` on, zero where a query does not look."""
        count, length = mean.shape
        in_cell = self._in_cell.to(mean.device)
        rows = slice(start, start + count)
        self._grid[which] += (in_cell[rows].T @ (mean @ in_cell[:length])).double().cpu()
        self._by_distance[which, :length] += summed_by_distance(mean).double().cpu()
        # Many heads rest on the first token, at whatever distance it stands.
        first = mean[:, 0].double().cpu()
        self._by_distance[which, rows] -= first
        self._first += float(first.sum()) * which

    def means(self) -> dict[str, Any]:
        """What was seen, as JSON values.

        Returns:
            `logits` and `weights`, each a list of rows of queries of columns of keys, up to the diagonal, with the mean
            of each cell; `distances`, with `from`, the smallest distance of each band, and the means of `logits` and
            `weights` in it, without the first token; `first`, the mean weight of that.
        """
        grid = self._grid / len(self.layers) / _pairs(self._place, len(self._grid[0]))
        logits, weights = ([_short(row[: n + 1]) for n, row in enumerate(each)] for each in grid)
        found = borders(self._tokens)
        ends = [*found[1:], self._tokens]
        counts = torch.arange(self._tokens - 1, -1, -1, dtype=torch.float64)  # keys at each distance but the first
        bands = [slice(a, b) for a, b in zip(found, ends, strict=True)]
        sums = [[each[band].sum() / counts[band].sum() for band in bands] for each in self._by_distance]
        means = [_short(torch.stack(each) / len(self.layers)) for each in sums]
        first = self._first / len(self.layers) / self._tokens
        return {
            "logits": logits,
            "weights": weights,
            "distances": {"from": found, "logits": means[0], "weights": means[1]},
            "first": float(f"{first:.5g}"),
        }


def borders(tokens: int) -> list[int]:
    """Where bands of distances begin, as many as a text has: four to each doubling, the powers of two among them."""
    found, exponent = {0}, 0
    while (border := round(2 ** (exponent / 4))) < tokens - 1:
        found.add(border)
        exponent += 1
    return sorted(found)


def summed_by_distance(values: Tensor) -> Tensor:
    """[L]: the sums over pairs at each distance, of values [T, L] of the last T queries of a text and all its keys."""
    count, length = values.shape
    backwards = torch.nn.functional.pad(values.flip(1), (0, count))
    # In row t distance 0 stands at place count - 1 - t: a row's length less one further on in memory than before.
    skewed = backwards.as_strided((count, length), (length + count - 1, 1), count - 1)
    return skewed.sum(0)


def _pairs(place: Tensor, cells: int) -> Tensor:
    """[cells, cells] float64: how many queries look at how many keys; none above the diagonal."""
    sizes = torch.bincount(place, minlength=cells).double()
    return (sizes[:, None] * sizes).tril(-1) + torch.diag(sizes * (sizes + 1) / 2)


def _short(values: Tensor) -> list[float]:
    """Five digits of each."""
    return [float(f"{value:.5g}") for value in values.tolist()]
