"""DPE, dimension-wise positional embeddings manipulation (arXiv 2504.18857, COLM 2025).

Beyond the local window W, a pair of scale factor s sees the distance floor(i / s) - floor(j / s) + W - floor(W / s)
(section 3; the floor of W / s as the authors' decoding has it). With a selection, only each head's key pairs do.
"""

from __future__ import annotations

import base64
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from .rope_ext_band import BandMethod


class Dpe(BandMethod):
    """A scale factor for each group of frequency pairs."""

    def __init__(self, block: dict[str, Any]) -> None:
        parameters = block["parameters"]
        packed = block.get("tables", {}).get("selected_pairs")
        selection = None if packed is None else unpack_booleans(packed)
        super().__init__(block, parameters["local_window"], selection)
        groups = parameters["dimension_groups"]
        sizes = torch.tensor([stop - start for start, stop in pairwise(groups)])
        self._scale = torch.tensor(parameters["scale_factors"]).repeat_interleave(sizes)

    def _scaled(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        scale = self._scale.to(positions.device)
        return positions[..., None] // scale, self.window - self.window // scale

    def far_query_positions(self, positions: Tensor, tokens_so_far: Tensor) -> Tensor:
        """floor(i / s) + W - floor(W / s): [B, T, P]."""
        scaled, offset = self._scaled(positions)
        return scaled + offset

    def far_key_positions(self, positions: Tensor, tokens_so_far: Tensor) -> Tensor:
        """floor(j / s): [B, T, P]."""
        return self._scaled(positions)[0]


def unpack_booleans(packed: dict[str, Any]) -> Tensor:
    """The tensor of `shape` that `bits` holds: base64, C order, eight to a byte, first in the lowest bit."""
    data = torch.frombuffer(bytearray(base64.b64decode(packed["bits"])), dtype=torch.uint8)
    bits = data[:, None] >> torch.arange(8, dtype=torch.uint8) & 1
    shape = torch.Size(packed["shape"])
    return bits.flatten()[: shape.numel()].view(shape).bool()
