"""Noise that is a function of where it falls: the same for the same seed, whatever the batch, chunking or backend.

Each number comes from a 32-bit integer hash of (seed, layer, head, query position, key position).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

_MASK = 0xFFFFFFFF


def _mix(x: Tensor) -> Tensor:
    """A bijection of 32-bit integers, held in int64, that spreads every bit of its input over its output."""
    x = (x ^ (x >> 16)) * 0x7FEB352D & _MASK
    x = (x ^ (x >> 15)) * 0x846CA68B & _MASK
    return x ^ (x >> 16)


def _uniform_bits(seeds: tuple[int, int], heads: int, query_BT: Tensor, key_BL: Tensor) -> Tensor:
    """[B, heads, T, L] 32-bit integers, from seed and layer, head, query and key position."""
    state = torch.zeros((), dtype=torch.int64, device=query_BT.device)
    for seed in seeds:
        state = _mix(state ^ (seed & _MASK))
    head = _mix(state ^ torch.arange(heads, device=query_BT.device))
    query = _mix(head[None, :, None] ^ (query_BT[:, None] & _MASK))
    return _mix(query[..., None] ^ (key_BL[:, None, None] & _MASK))


def _unit(bits: Tensor) -> Tensor:
    """32-bit integers to float32 in (0, 1]."""
    return (bits + 1).float() * 2.0**-32


def gaussian_noise(seeds: tuple[int, int], heads: int, query_BT: Tensor, key_BL: Tensor) -> Tensor:
    """Standard normal noise, float32.

    Args:
        seeds: the seed and the layer.
        heads: query heads, H.
        query_BT: [B, T] positions of the queries, integers.
        key_BL: [B, L] positions of the keys, integers.

    Returns:
        [B, H, T, L].
    """
    bits = _uniform_bits(seeds, heads, query_BT, key_BL)
    radius = (-2 * _unit(bits).log()).sqrt()
    return radius * (_unit(_mix(bits ^ 0x9E3779B9)) * (2 * math.pi)).cos()


def uniform_noise(seeds: tuple[int, int], heads: int, query_BT: Tensor, key_BL: Tensor) -> Tensor:
    """Uniform noise between plus and minus the square root of 3, of deviation 1, in the form of `gaussian_noise`."""
    bits = _uniform_bits(seeds, heads, query_BT, key_BL)
    return (_unit(bits) * 2 - 1) * math.sqrt(3)
