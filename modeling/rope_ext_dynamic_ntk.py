"""Dynamic NTK scaling (arXiv 2309.00071, section 3.3): theta by the length so far, the base's up to the window.

With L the row's last position + 1, M the initial window and s the scaling factor, theta becomes
theta * (s L / M - (s - 1))^(d / (d - 2)) for L > M, as transformers' `dynamic` computes it. Keys that are in a cache
already keep the theta of the time when they came.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .rope_ext_frequencies import FrequencyMethod


class DynamicNtk(FrequencyMethod):
    """Theta grows with the length of each row, however long the others are."""

    by_row = True

    def __init__(self, block: dict[str, Any]) -> None:
        super().__init__(block)
        base = block["base"]
        theta = base["rope_theta"]  # None where each layer type has its own
        self.theta: float = theta or base["rope_parameters"]["full_attention"]["rope_theta"]
        self.window: int = block["initial_window"]
        self.factor: float = block["parameters"]["scaling_factor"]

    def frequencies(self, lengths: Tensor | None) -> Tensor:
        """[B, P] radians per token."""
        assert lengths is not None
        length_B1 = lengths[:, None]
        growth = (self.factor * length_B1 / self.window - (self.factor - 1)).clamp(min=1)
        dim = 2 * self.inv_freq.shape[0]
        # In the order in which transformers computes them: another rounds otherwise, and angles magnify that.
        theta = self.theta * growth ** (dim / (dim - 2))
        grown = 1.0 / theta ** (torch.arange(0, dim, 2, device=theta.device).float() / dim)
        return torch.where(length_B1 > self.window, grown, self.inv_freq.to(theta.device))
