"""What the frequency methods share: attention is the base's own, only the angle per token of each pair is another.

Shape letters as in the attention file.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


class FrequencyMethod:
    """Inverse frequencies of the method's own, fixed when a model is converted."""

    def __init__(self, block: dict[str, Any]) -> None:
        self.inv_freq: list[float] = block["inv_freq"]
        self.attention_factor: float = block["parameters"].get("attention_factor", 1.0)

    def rotary(self) -> nn.Module:
        """What stands in for the family's rotary embedding."""
        return BakedRotary(self.inv_freq, self.attention_factor)


class BakedRotary(nn.Module):
    """The rotary embedding of inverse frequencies that the configuration holds.

    Attributes:
        attention_factor: on cosine and sine, hence on queries and keys alike.
    """

    def __init__(self, inv_freq: list[float], attention_factor: float = 1.0) -> None:
        super().__init__()
        # Not a buffer: loading would cast it to the model's type, or leave it unset.
        self._inv_freq = torch.tensor(inv_freq, dtype=torch.float32, device="cpu")
        self.attention_factor = attention_factor

    def frequencies(self, position_ids: Tensor) -> Tensor:
        """Radians per token: [P], or [B, 1, P] where each row has its own."""
        return self._inv_freq

    @torch.no_grad()
    def forward(self, x: Tensor, position_ids: Tensor) -> tuple[Tensor, Tensor]:
        """Cosine and sine, [B, T, head_dim] in the type of `x`, of positions [B, T]."""
        if self._inv_freq.device != x.device:
            self._inv_freq = self._inv_freq.to(x.device)
        half = position_ids[..., None].float() * self.frequencies(position_ids)
        angle = torch.cat((half, half), dim=-1)
        cos, sin = angle.cos() * self.attention_factor, angle.sin() * self.attention_factor
        return cos.to(x.dtype), sin.to(x.dtype)
