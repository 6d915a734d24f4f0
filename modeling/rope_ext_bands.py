"""Bands: distances exact in a local window, and from each border on divided by a scale factor of the region's own.

A region of scale s sees i / s - j / s + o, both shares rounded down where positions are whole. The offset o lets
distances grow without a step at the border: with one region it is that of SelfExtend and DPE, w - floor(w / G). Group
sizes that grow with the distance are those of AdaGroPE (ACL 2025) and SELF (arXiv 2505.17296).
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from .rope_ext_attention import widest
from .rope_ext_band import BandMethod
from .rope_ext_method import on


class Bands(BandMethod):
    """Any number of regions, each with a scale factor for all pairs, or one for each group of them."""

    def __init__(self, block: dict[str, Any]) -> None:
        parameters = block["parameters"]
        regions = parameters["regions"]
        super().__init__(block, regions[0]["from"])
        self.borders = tuple(region["from"] for region in regions)
        ends = (*self.borders[1:], max(block["target_window"], self.borders[-1] + 1))
        widths = [end - border for border, end in zip(self.borders, ends, strict=True)]
        self.held = widths.index(max(widths))  # keys of the other regions are turned anew in each step
        self._whole: bool = parameters["whole_positions"]
        sizes = [stop - start for start, stop in pairwise(parameters.get("dimension_groups", ()))]
        scales = [_of_groups(region["scale_factor"], max(len(sizes), 1)) for region in regions]
        self._scales = [_of_pairs(each, sizes) for each in scales]
        self._offsets = [_of_pairs(each, sizes) for each in self._joints(scales)]

    def _joints(self, scales: list[list[Any]]) -> list[list[Any]]:
        """Each region's o, by group: the distance that is reached at its border, less what it makes of it itself."""
        offsets: list[list[Any]] = []
        for region, border in enumerate(self.borders):
            reached = [border] * len(scales[0])
            if region:
                before = zip(scales[region - 1], offsets[-1], strict=True)
                reached = [self._divided(border, scale) + offset for scale, offset in before]
            own = zip(reached, scales[region], strict=True)
            offsets.append([distance - self._divided(border, scale) for distance, scale in own])
        return offsets

    def _divided(self, distance: Any, scale: Any) -> Any:
        return distance // scale if self._whole else distance / scale

    def key_positions(self, region: int, positions: Tensor, tokens_so_far: Tensor) -> Tensor:
        """Positions j / s: [B, T], or [B, T, P] where pairs differ."""
        scale = on(positions.device, self._scales[region])
        if isinstance(scale, Tensor):
            positions = positions[..., None]
        exact = self._whole and not isinstance(scale, float)
        divided: Tensor = self._divided(positions if exact else positions.to(widest(positions.device)), scale)
        return divided

    def query_positions(self, region: int, positions: Tensor, tokens_so_far: Tensor) -> Tensor:
        """Positions i / s + o, in the same terms."""
        moved: Tensor = self.key_positions(region, positions, tokens_so_far) + on(
            positions.device, self._offsets[region]
        )
        return moved

    def far_query_positions(self, positions: Tensor, tokens_so_far: Tensor) -> Tensor:
        """`query_positions` of the region that is held."""
        return self.query_positions(self.held, positions, tokens_so_far)

    def far_key_positions(self, positions: Tensor, tokens_so_far: Tensor) -> Tensor:
        """`key_positions` of the region that is held."""
        return self.key_positions(self.held, positions, tokens_so_far)


def _of_groups(scale: Any, count: int) -> list[Any]:
    """A scale factor for each group; whole numbers as integers, whose division is exact."""
    scales = scale if isinstance(scale, list) else [scale] * count
    return [int(each) if each == int(each) else each for each in scales]


def _of_pairs(numbers: list[Any], sizes: list[int]) -> Any:
    """One number for each group, spread over its pairs, as a tensor [P]; the number itself without groups."""
    if not sizes:
        return numbers[0]
    whole = all(isinstance(each, int) for each in numbers)
    spread = torch.tensor(numbers, dtype=torch.int64 if whole else torch.float64, device="cpu")
    return spread.repeat_interleave(torch.tensor(sizes, device="cpu"))
