"""A frequency profile beyond a local window: near distances exact, far ones multiplied by each pair's own factor.

Beyond the window w a pair of factor c sees the distance w + c (i - j - w), or c (i - j) where that is not to join on:
the form of Jet-Long's program for frequencies (arXiv 2607.07740).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .rope_ext_attention import widest
from .rope_ext_band import BandMethod


class LocalProfile(BandMethod):
    """Two bands, the far one by a table of factors; the logits of active queries scaled by the attention factor."""

    def __init__(self, block: dict[str, Any]) -> None:
        parameters = block["parameters"]
        super().__init__(block, parameters["local_window"])
        self._factors = torch.tensor(parameters["factors"], dtype=torch.float64, device="cpu")
        self._joined: bool = parameters["joined"]

    def _scaled(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        factors = self._factors.to(positions.device, widest(positions.device))
        return positions[..., None] * factors, factors

    def far_query_positions(self, positions: Tensor, tokens_so_far: Tensor) -> Tensor:
        """Positions c i, and w (1 - c) more where the far band joins the near one: [B, T, P]."""
        scaled, factors = self._scaled(positions)
        return scaled + self.window * (1 - factors) if self._joined else scaled

    def far_key_positions(self, positions: Tensor, tokens_so_far: Tensor) -> Tensor:
        """Positions c j: [B, T, P]."""
        return self._scaled(positions)[0]
