"""Jet-Long (arXiv 2607.07740): SelfExtend whose group size follows the length, the base as long as the window suffices.

With L tokens so far, G = ceil(L / window); distances as SelfExtend's with local window w0.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from .rope_ext_band import BandMethod
from .rope_ext_method import Tokens


class JetLong(BandMethod):
    """Groups of G tokens, G from the length so far: the cache keeps keys as the base does."""

    keys_stay = False
    by_pieces = True
    by_axis = False  # the length of a text with images is not the number of its tokens

    def __init__(self, block: dict[str, Any]) -> None:
        parameters = block["parameters"]
        super().__init__(block, parameters["local_window"])
        self.group_window: int = parameters["window"]

    def is_base(self, length: int) -> bool:
        """Up to the window there are no groups."""
        return super().is_base(length) or length <= self.group_window

    def shrink(self) -> dict[str, Any]:
        """Groups of one token, so that distances do not depend on the pieces."""
        return super().shrink() | {"group_window": 1 << 30}

    def copies_hold(self, tokens: Tokens) -> int:
        """G: copies of far keys hold as long as it stays."""
        return -(-(tokens.length + tokens.geometry.first_position) // self.group_window)

    def far_query_positions(self, positions: Tensor, tokens_so_far: Tensor) -> Tensor:
        """floor(i / G) + w0 - floor(w0 / G): [B, T]."""
        group = self._groups(tokens_so_far)
        return positions // group + self.window - self.window // group

    def far_key_positions(self, positions: Tensor, tokens_so_far: Tensor) -> Tensor:
        """floor(j / G): [B, T]."""
        return positions // self._groups(tokens_so_far)

    def _groups(self, tokens_so_far: Tensor) -> Tensor:
        return -(-tokens_so_far // self.group_window)
