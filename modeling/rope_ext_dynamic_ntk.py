"""Dynamic NTK scaling (arXiv 2309.00071, section 3.3): theta by the length so far, the base's up to the window.

With L the row's last position + 1, M the initial window and s the scaling factor, theta becomes
theta * (s L / M - (s - 1))^(d / (d - 2)) for L > M, as transformers' `dynamic` computes it. Keys that are in a cache
already keep the theta of the time when they came.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from .rope_ext_frequencies import BakedRotary, FrequencyMethod


class DynamicNtk(FrequencyMethod):
    """Theta grows with the length."""

    def __init__(self, block: dict[str, Any]) -> None:
        super().__init__(block)
        self.theta: float = block["base"]["rope_theta"]
        self.window: int = block["initial_window"]
        self.factor: float = block["parameters"]["scaling_factor"]

    def rotary(self) -> nn.Module:
        """Frequencies by the length of each row."""
        return DynamicRotary(self.inv_freq, self.theta, self.window, self.factor)


class DynamicRotary(BakedRotary):
    """The rotary embedding whose frequencies follow from the largest position of each row in the forward."""

    def __init__(self, inv_freq: list[float], theta: float, window: int, factor: float) -> None:
        super().__init__(inv_freq)
        self.theta = theta
        self.window = window
        self.factor = factor

    def frequencies(self, position_ids: Tensor) -> Tensor:
        """[B, 1, P]; a row is as if alone, however long the others are."""
        length_B11 = position_ids.amax(-1)[:, None, None] + 1
        growth = (self.factor * length_B11 / self.window - (self.factor - 1)).clamp(min=1)
        dim = 2 * self._inv_freq.shape[0]
        # In the order in which transformers computes them: another rounds otherwise, and angles magnify that.
        theta = self.theta * growth ** (dim / (dim - 2))
        grown = 1.0 / theta ** (torch.arange(0, dim, 2, device=theta.device).float() / dim)
        return torch.where(length_B11 > self.window, grown, self._inv_freq)
