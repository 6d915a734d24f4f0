"""DPRoPE, distribution of rotary angles (arXiv 2410.01490, EMNLP 2024): each pair interpolated or left as it is.

The choice is made when a model is converted. Here it is a table of inverse frequencies, and attention is the base's.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


class Dprope:
    """Inverse frequencies of the method's own."""

    def __init__(self, block: dict[str, Any]) -> None:
        self.inv_freq: list[float] = block["inv_freq"]


class BakedRotary(nn.Module):
    """The rotary embedding of inverse frequencies that the configuration holds. Stands in for the family's own."""

    def __init__(self, inv_freq: list[float]) -> None:
        super().__init__()
        # Not a buffer: loading would cast it to the model's type, or leave it unset.
        self._inv_freq = torch.tensor(inv_freq, dtype=torch.float32, device="cpu")

    @torch.no_grad()
    def forward(self, x: Tensor, position_ids: Tensor) -> tuple[Tensor, Tensor]:
        """Cosine and sine, [B, T, head_dim] in the type of `x`, of positions [B, T]."""
        if self._inv_freq.device != x.device:
            self._inv_freq = self._inv_freq.to(x.device)
        half = position_ids[..., None].float() * self._inv_freq
        angle = torch.cat((half, half), dim=-1)
        return angle.cos().to(x.dtype), angle.sin().to(x.dtype)
