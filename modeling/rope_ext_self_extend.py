"""SelfExtend (arXiv 2401.01325, ICML 2024): positions beyond a local window are shared by groups of tokens.

Below w a distance is exact; beyond it is floor(i / G) - floor(j / G) + w - floor(w / G) (section 3).
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from .rope_ext_band import BandMethod


class SelfExtend(BandMethod):
    """Groups of G tokens."""

    def __init__(self, block: dict[str, Any]) -> None:
        super().__init__(block, block["parameters"]["local_window"])
        self.group_size: int = block["parameters"]["group_size"]

    def far_query_positions(self, positions: Tensor, tokens_so_far: Tensor) -> Tensor:
        """floor(i / G) + w - floor(w / G): [B, T]."""
        return positions // self.group_size + self.window - self.window // self.group_size

    def far_key_positions(self, positions: Tensor, tokens_so_far: Tensor) -> Tensor:
        """floor(j / G): [B, T]."""
        return positions // self.group_size
