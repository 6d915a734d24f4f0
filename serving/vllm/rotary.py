"""The rotation of a layer: vLLM's own, and the far one that the method's position maps make of it.

Shape letters: T tokens, H heads, D head_dim, P frequency pairs, L positions.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from ropext.modeling.rope_ext_attention import Pairs
from ropext.modeling.rope_ext_band import BandMethod
from ropext.modeling.rope_ext_dca import Dca
from ropext.modeling.rope_ext_method import Method
from ropext.modeling.rope_ext_model import same_frequencies

from .method import Refused, plainly

__all__ = ["OTHER_FREQUENCIES", "Base", "ChunkRotary", "FarRotary", "keep", "turned", "turns"]

OTHER_FREQUENCIES = "vLLM rotates this model by other frequencies than config.json says; convert it again"

_AT_ONCE = 8192
"""Positions whose angles are held at once, in float64."""


class Base:
    """A rotary module of vLLM that keeps a table by position, and what a checkpoint says of it."""

    def __init__(self, rotary: Any, pairs: dict[str, Any]) -> None:
        kind, table = type(rotary).__name__, getattr(rotary, "cos_sin_cache", None)
        if not isinstance(table, Tensor) or table.shape[1] != rotary.rotary_dim or "MRotary" in kind:
            raise Refused(f"vLLM rotates this model by {kind}, whose tables are not of the known form")
        self.rotary, self._table, self._pairs = rotary, table, pairs

    def is_described(self) -> bool:
        """Whether it turns the pairs that the checkpoint says, as fast."""
        cos, sin = self._table[1].float().chunk(2)
        described = torch.tensor(self._pairs["inv_freq"], dtype=torch.float32, device="cpu")
        layout = "halves" if self.rotary.is_neox_style else "neighbours"
        alike = layout == self._pairs["layout"] and self._pairs["first"] == 0 and self._pairs["sign"] == 1
        return alike and same_frequencies(torch.atan2(sin, cos), described)

    def described(self) -> Base:
        """Return it, if it turns as the checkpoint says.

        Raises:
            Refused: it turns by other frequencies than the checkpoint says.
        """
        if not self.is_described():
            raise Refused(OTHER_FREQUENCIES)
        return self

    def tuned(self, inv_freq: Tensor, factor: float, length: int) -> Any:
        """A copy with other inverse frequencies [P], cosine and sine times a factor, for this many positions."""
        old = self._table
        amplitude = float(old[0, 0]) * factor
        positions = torch.arange(max(length, len(old)), dtype=torch.float32, device="cpu")
        angles = torch.outer(positions, inv_freq.float().cpu())
        new = copy.deepcopy(self.rotary)
        new.cos_sin_cache = (torch.cat((angles.cos(), angles.sin()), dim=-1) * amplitude).to(old)
        return new

    def long_enough(self, length: int) -> Any:
        """The rotary module if it has `length` positions, else a longer copy."""
        if len(self._table) >= length:
            return self.rotary
        return self.tuned(torch.tensor(self._pairs["inv_freq"]), 1.0, length)


class FarRotary(nn.Module):
    """Stand in for a rotary module; each head comes out twice as wide, [exact | far].

    Far is exact turned on by tables of the method's position maps, which are the same for every request.
    """

    query_table: Tensor
    key_table: Tensor
    query_scale: Tensor | None

    def __init__(self, rotary: Any, block: dict[str, Any], method: BandMethod, head_dim: int, length: int) -> None:
        super().__init__()
        self.rotary = Base(rotary, block["pairs"]).described().long_enough(length)
        self.pairs, self.head_dim = method.pairs, head_dim
        device = rotary.cos_sin_cache.device
        with plainly():
            keep(self, "query_table", turns(method, method.far_query_positions, length), device)
            keep(self, "key_table", turns(method, method.far_key_positions, length), device)
            keep(self, "query_scale", scales(method, length), device)

    def forward(self, positions: Tensor, query: Tensor, key: Tensor) -> tuple[Tensor, Tensor]:
        """Rotate.

        Args:
            positions: [T].
            query: [T, H D], or its heads apart.
            key: the same of the key heads.

        Returns:
            [T, H 2 D] of each.
        """
        query, key = self.rotary(positions, query, key)
        both = self._both(query, positions, self.query_table, self.query_scale)
        return both, self._both(key, positions, self.key_table, None)

    def _both(self, heads: Tensor, positions: Tensor, table: Tensor, scale: Tensor | None) -> Tensor:
        exact = heads.reshape(positions.shape[0], -1, self.head_dim)
        both = torch.cat((exact, turned(self.pairs, exact, table[positions])), dim=-1)
        return scaled(both, scale, positions).flatten(1)


class ChunkRotary(nn.Module):
    """Stand in for a rotary module; each head comes out at its place in its chunk."""

    query_scale: Tensor | None

    def __init__(self, rotary: Any, block: dict[str, Any], method: Dca, head_dim: int, length: int) -> None:
        super().__init__()
        self.rotary = Base(rotary, block["pairs"]).described().long_enough(method.stride)
        self.stride, self.head_dim = method.stride, head_dim
        with plainly():
            keep(self, "query_scale", scales(method, length), rotary.cos_sin_cache.device)

    def forward(self, positions: Tensor, query: Tensor, key: Tensor) -> tuple[Tensor, Tensor]:
        """Rotate: as `FarRotary`, but for the width, which stays."""
        query, key = self.rotary(positions % self.stride, query, key)
        heads = query.reshape(positions.shape[0], -1, self.head_dim)
        return scaled(heads, self.query_scale, positions).flatten(1), key


def keep(module: nn.Module, name: str, table: Tensor | None, device: torch.device) -> None:
    """Register a table with a module; it is not part of the checkpoint."""
    module.register_buffer(name, None if table is None else table.to(device), persistent=False)


def scales(method: Method, length: int) -> Tensor | None:
    """[L, 1]: what queries are multiplied by, by their position; None: they are not."""
    return method.query_scale(torch.arange(length)[None])[0, 0] if method.scales_queries else None


def turned(pairs: Pairs, heads: Tensor, rows: Tensor) -> Tensor:
    """Heads [T, H, D], rotated on by the rows [T, 2 P] of a table of `turns`."""
    cos, sin = rows.unsqueeze(1).chunk(2, dim=-1)
    return pairs.rotate(heads, (pairs.for_both(cos), sin))


def scaled(heads: Tensor, scale: Tensor | None, positions: Tensor) -> Tensor:
    """Heads [T, H, D], multiplied by what the scale [L, 1] says of their positions [T]."""
    return heads if scale is None else (heads * scale[positions].unsqueeze(1)).to(heads.dtype)


def turns(method: Method, move: Callable[..., Tensor], length: int) -> Tensor:
    """[L, 2 P]: the cosine and the sine by which a token is turned from its own position to another."""
    rows = []
    for start in range(0, length, _AT_ONCE):
        positions = torch.arange(start, min(start + _AT_ONCE, length))[None]
        cos, sin = method.table(positions, move(positions, None))
        cos = cos[..., : sin.shape[-1]] if method.pairs.layout == "halves" else cos[..., ::2]
        rows.append(torch.cat((cos, sin), dim=-1)[0, 0])
    return torch.cat(rows)
