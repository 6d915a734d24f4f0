"""What is noted on a cache: where its columns stand, and which of its layers hold far keys.

Shape letters: A axes, B batch, T queries.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, TypeVar

import torch
from torch import Tensor

K = TypeVar("K")

NOTES = "_rope_ext_notes"
"""Attribute of a cache: what is known of its columns. It is copied with the cache."""

EVICTED = (
    "ropext: keys in the cache were evicted, changed or masked by something else, as kvpress does. This method takes "
    "distances from the places of all keys, so it would go on with wrong ones. Keep the whole cache, or convert with a "
    "method that changes frequencies alone, such as yarn"
)


@dataclass
class Notes:
    """What a cache does not say of the keys that it holds.

    Attributes:
        origin: [B or 1, 1] stock position of column 0, as long as positions follow columns.
        positions: [B or 1, columns] stock positions, once they do not.
        straight: then: they do for all tokens that are no padding.
        far: layers whose keys stand at their far positions.
        copies: keys that are kept beside the cache in another rotation, by layer.
        unknown: the cache was filled before any of this could be noted.
        axes: [A, B, columns] stock positions on each axis, once some token's differ; else None.
        columns: how many there were at the end of the last forward.
    """

    origin: Tensor | None = None
    positions: Tensor | None = None
    straight: bool = False
    far: set[int] = field(default_factory=set)
    copies: dict[int, Any] = field(default_factory=dict)
    unknown: bool = False
    axes: Tensor | None = None
    columns: int = 0

    def beside(self, layer: int, kind: type[K], one: bool) -> K | None:
        """What a step of one new token may keep beside a layer of the cache for the next; other forwards end it."""
        found = self.copies.pop(layer, None)
        if not one:
            return None
        kept: K = found if isinstance(found, kind) else kind()
        self.copies[layer] = kept
        return kept

    def add_axes(self, new: Tensor, past: int, rows: int) -> None:
        """Note positions [A, B, T] of new tokens of several axes, after `past` columns; waits for the device, once."""
        known = self.axes
        if known is None:
            if not bool((new != new[:1]).any()):
                return
            if self.unknown:
                raise ValueError("ropext: this cache was filled elsewhere, and where its tokens stand is not known")
            before = self._before(past, rows, new.device)
            known = before.expand(new.shape[0], *before.shape)
        known = torch.stack([rows_of(axis, rows)[:, :past] for axis in known])
        self.axes = torch.cat((known, new.expand(-1, rows, -1)), dim=2)

    def _before(self, past: int, rows: int, device: torch.device) -> Tensor:
        """[rows, past]: stock positions of the columns before."""
        if self.positions is not None:
            return rows_of(self.positions, rows)[:, :past]
        origin = torch.zeros((1, 1), dtype=torch.long, device=device) if self.origin is None else self.origin
        return rows_of(origin, rows) + torch.arange(past, device=device)

    def add(self, stock: Tensor, past: int) -> tuple[int, bool, bool]:
        """Note new tokens at stock positions [B or 1, T] after `past` columns; waits for the device, once.

        Returns:
            The largest of the positions; whether each row's first follows its last one before; whether rows are alike.
        """
        kept = self.origin if self.positions is None else self.positions
        if kept is not None and stock.shape[0] == 1:
            stock = stock.expand(kept.shape[0], -1)
        columns = past + torch.arange(stock.shape[1], device=stock.device)
        if self.positions is None:
            origin = stock[:, :1] - past if self.origin is None else rows_of(self.origin, stock.shape[0])
            known, fits = None, stock - columns == origin
            self.origin = origin
        else:
            known = rows_of(self.positions, stock.shape[0])[:, :past]
            fits = known[:, -1:] + 1 == stock[:, :1]
        alike = (stock == stock[:1]).all()
        last, follows, alike = torch.stack((stock.amax(), fits.all().long(), alike.long())).tolist()
        if known is None and not follows:
            known = (origin + torch.arange(past, device=stock.device)).expand(stock.shape[0], -1)
        if known is not None:
            self.positions = torch.cat((known, stock), dim=1)
        return int(last), bool(follows), bool(alike)


def rows_of(kept: Tensor, rows: int) -> Tensor:
    """What was kept of each row, where `generate` has made several rows of each, or all were alike."""
    if rows % kept.shape[0] == 0:
        return kept.repeat_interleave(rows // kept.shape[0], dim=0)
    if not bool((kept == kept[:1]).all()):
        raise ValueError(f"ropext: a forward of {rows} rows cannot go on from a cache of {kept.shape[0]}")
    return kept[:1].expand(rows, -1)
