"""Jet-Long (arXiv 2607.07740): SelfExtend whose group size follows the length, the base as long as the window suffices.

With L tokens so far, G = ceil(L / window); distances as SelfExtend's with local window w0.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from .rope_ext_band import BandMethod


class JetLong(BandMethod):
    """Groups of G tokens, G from the length so far: the cache keeps keys as the base does."""

    moves_keys_by_length = True

    def __init__(self, block: dict[str, Any]) -> None:
        parameters = block["parameters"]
        super().__init__(block, parameters["local_window"])
        self.group_window: int = parameters["window"]

    def is_base(self, length: int | None) -> bool:
        """Up to the window there are no groups."""
        return super().is_base(length) or (length is not None and length <= self.group_window)

    def group_at(self, length: int) -> int:
        """G of a length."""
        return -(-length // self.group_window)

    def far_query_positions(self, positions: Tensor, tokens_so_far: Tensor) -> Tensor:
        """floor(i / G) + w0 - floor(w0 / G): [B, T]."""
        group = self._groups(tokens_so_far)
        return positions // group + self.window - self.window // group

    def far_key_positions(self, positions: Tensor, tokens_so_far: Tensor) -> Tensor:
        """floor(j / G): [B, T]."""
        return positions // self._groups(tokens_so_far)

    def _groups(self, tokens_so_far: Tensor) -> Tensor:
        return -(-tokens_so_far // self.group_window)
