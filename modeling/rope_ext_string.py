"""STRING, shifted rotary position embedding (arXiv 2410.18745, ICLR 2025): rare long distances become frequent ones.

Below S a distance is exact; beyond it is i - j - S + W (section 4).
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from .rope_ext_band import BandMethod


class String(BandMethod):
    """Far distances shifted down by S - W. Keys stay where they are."""

    keys_stay = False
    moves_keys = False

    def __init__(self, block: dict[str, Any]) -> None:
        super().__init__(block, block["parameters"]["shift"])
        self.local_window: int = block["parameters"]["local_window"]

    def far_query_positions(self, positions: Tensor, tokens_so_far: Tensor) -> Tensor:
        """I - S + W: [B, T]."""
        return positions - self.window + self.local_window

    def far_key_positions(self, positions: Tensor, tokens_so_far: Tensor) -> Tensor:
        """j: [B, T]."""
        return positions
