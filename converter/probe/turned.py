"""Tables of cosines and sines, read back as frequencies."""

from __future__ import annotations

import math
from typing import Any

import torch

from .table import Table

__all__ = ["table_of_cache", "turned_width"]


def table_of_cache(cache: torch.Tensor) -> Table:
    """Read the frequencies that a table of cosines and sines was made of.

    Args:
        cache: [positions, pairs * 2], the cosines of a position before its sines.
    """
    cos, sin = cache[:2].to(torch.float64).chunk(2, dim=-1)
    angles = torch.atan2(sin[1], cos[1])
    return Table(tuple(angles.tolist()), math.hypot(cos[0, 0].item(), sin[0, 0].item()))


def turned_width(text: Any) -> int:
    """Return how wide the part of a head is that a runtime hands to its rotary class.

    Args:
        text: the configuration of a text model.
    """
    if getattr(text, "kv_lora_rank", None):
        return int(text.qk_rope_head_dim)
    return int(getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads)
