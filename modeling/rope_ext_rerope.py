"""ReRoPE and Leaky ReRoPE (J. Su, 2023): distances beyond a window w stand still, or grow k times slower.

min(i - j, w); leaky: w + (i - j - w) / k beyond w.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .rope_ext_attention import widest
from .rope_ext_band import BandMethod


class Rerope(BandMethod):
    """A distance that is clipped, or leaks."""

    def __init__(self, block: dict[str, Any]) -> None:
        super().__init__(block, block["parameters"]["local_window"])
        self.leak: float | None = block["parameters"].get("leak")

    def far_query_positions(self, positions: Tensor, tokens_so_far: Tensor) -> Tensor:
        """w; leaky: i / k + w - w / k: [B, T]."""
        if self.leak is None:
            return torch.full_like(positions, self.window)
        return positions.to(widest(positions.device)) / self.leak + self.window - self.window / self.leak

    def far_key_positions(self, positions: Tensor, tokens_so_far: Tensor) -> Tensor:
        """0; leaky: j / k: [B, T]."""
        return torch.zeros_like(positions) if self.leak is None else positions.to(widest(positions.device)) / self.leak
