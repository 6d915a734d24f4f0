"""LaMPE (arXiv 2508.02308, ACL 2026): L tokens in the space of m, the nearest at exact distances.

The paper's form, of a local window s1 and a tail s2: s1 + (m - s1 - s2) / (L - s1 - s2) (i - j - s1) between them, and
i - j - L + m from L - s2 on. The paper rounds the former down, which no pair of rotations can do to a distance.
Its program's: floor(i m / L) - floor(j m / L) + s1 - floor(s1 m / L) beyond s1: SelfExtend with groups of L / m.

L is the target window: so a key, once turned, stays. Or it is the length so far, rounded up to a step: then keys are
turned anew when that grows.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from .rope_ext_attention import widest
from .rope_ext_band import BandMethod
from .rope_ext_method import Tokens


class Lampe(BandMethod):
    """A near band, a middle, and in the paper's form a tail."""

    def __init__(self, block: dict[str, Any]) -> None:
        parameters = block["parameters"]
        self._step: int | None = parameters.get("length_step")
        if self._step:
            self.keys_stay, self.by_pieces, self.by_axis = False, True, False
        super().__init__(block, parameters["local_window"])
        self._length: int = parameters["full_length"]
        self._mapped: int = parameters["mapping_length"]
        self._whole = parameters["form"] == "program"
        self._tail: int = parameters["tail"]
        self.borders_move = bool(self._step and self._tail)
        self.borders = self.borders_at(self._length)

    def borders_at(self, length: Any) -> tuple[Any, ...]:
        """The borders w and L - s2."""
        if not self._tail or self.small:
            return self.borders
        return self.borders[0], self._full(length) - self._tail

    def _full(self, length: Any) -> Any:
        """L for the tokens so far, at least m: then all distances are exact."""
        if not self._step:
            return self._length
        rounded = -(-length // self._step) * self._step
        return rounded.clamp(min=self._mapped) if isinstance(rounded, Tensor) else max(rounded, self._mapped)

    def is_base(self, length: int) -> bool:
        """Up to m nothing is compressed, if L is the length so far."""
        return super().is_base(length) or (self._step is not None and self._full(length) == self._mapped)

    def shrink(self) -> dict[str, Any]:
        """One L, so that distances do not depend on the pieces."""
        return super().shrink() | {"_step": None}

    def copies_hold(self, tokens: Tokens) -> int:
        """L: copies of far keys hold as long as it stays."""
        held: int = self._full(tokens.length + tokens.geometry.first_position)
        return held

    def _share(self, positions: Any, tokens_so_far: Tensor) -> Any:
        """What positions become in the middle."""
        full, rest = self._full(tokens_so_far), self.window + self._tail
        if self._whole:
            return positions * self._mapped // full
        if isinstance(positions, Tensor):
            positions = positions.to(widest(positions.device))
        return positions * (self._mapped - rest) / (full - rest)

    def far_query_positions(self, positions: Tensor, tokens_so_far: Tensor) -> Tensor:
        """Query positions of the middle: [B, T]."""
        moved: Tensor = self._share(positions, tokens_so_far) + self.window - self._share(self.window, tokens_so_far)
        return moved

    def far_key_positions(self, positions: Tensor, tokens_so_far: Tensor) -> Tensor:
        """Key positions of the middle: [B, T]."""
        moved: Tensor = self._share(positions, tokens_so_far)
        return moved

    def query_positions(self, region: int, positions: Tensor, tokens_so_far: Tensor) -> Tensor:
        """Query positions of the tail, i - L + m: [B, T]."""
        if region == 0:
            return self.far_query_positions(positions, tokens_so_far)
        moved: Tensor = positions - self._full(tokens_so_far) + self._mapped
        return moved

    def key_positions(self, region: int, positions: Tensor, tokens_so_far: Tensor) -> Tensor:
        """Key positions of the tail, j: [B, T]."""
        return self.far_key_positions(positions, tokens_so_far) if region == 0 else positions
