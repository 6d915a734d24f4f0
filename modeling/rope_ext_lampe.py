"""LaMPE (arXiv 2508.02308, ACL 2026): L tokens in the space of m, the nearest at exact distances.

The paper's form, of a local window s1 and a tail s2: s1 + (m - s1 - s2) / (L - s1 - s2) (i - j - s1) between them, and
i - j - L + m from L - s2 on. The paper rounds the former down, which no pair of rotations can do to a distance.
Its program's: floor(i m / L) - floor(j m / L) + s1 - floor(s1 m / L) beyond s1: SelfExtend with groups of L / m.

L is the target window, and not the length so far: so a key, once turned, stays.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from .rope_ext_attention import widest
from .rope_ext_band import BandMethod


class Lampe(BandMethod):
    """A near band, a middle, and in the paper's form a tail."""

    def __init__(self, block: dict[str, Any]) -> None:
        parameters = block["parameters"]
        super().__init__(block, parameters["local_window"])
        self._length: int = parameters["full_length"]
        self._mapped: int = parameters["mapping_length"]
        self._whole = parameters["form"] == "program"
        if parameters["tail"]:
            self.borders += (self._length - parameters["tail"],)
        rest = self.window + parameters["tail"]
        self._slope = (self._mapped - rest) / (self._length - rest)

    def far_query_positions(self, positions: Tensor, tokens_so_far: Tensor) -> Tensor:
        """Of the middle: [B, T]."""
        at_window = self.window * self._mapped // self._length if self._whole else self.window * self._slope
        return self.far_key_positions(positions, tokens_so_far) + self.window - at_window

    def far_key_positions(self, positions: Tensor, tokens_so_far: Tensor) -> Tensor:
        """Of the middle: [B, T]."""
        if self._whole:
            return positions * self._mapped // self._length
        scaled: Tensor = positions.to(widest(positions.device)) * self._slope
        return scaled

    def query_positions(self, region: int, positions: Tensor, tokens_so_far: Tensor) -> Tensor:
        """Of the tail i - L + m: [B, T]."""
        if region == 0:
            return self.far_query_positions(positions, tokens_so_far)
        return positions - self._length + self._mapped

    def key_positions(self, region: int, positions: Tensor, tokens_so_far: Tensor) -> Tensor:
        """Of the tail j: [B, T]."""
        return self.far_key_positions(positions, tokens_so_far) if region == 0 else positions
