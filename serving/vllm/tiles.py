"""Causal attention with a window by torch's fused kernel, which knows no windows: triangles and rectangles, merged.

Shape letters: H query heads, K key heads, T queries, L keys, D head_dim.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from ropext.modeling.rope_ext_attention import Part, flash_attention, merge

__all__ = ["window_attention"]

_QUERIES = 1024
"""That are taken together where the window is longer."""


def window_attention(query: Tensor, keys: Tensor, values: Tensor, window: int, scale: float) -> Part:
    """Each query sees the last keys up to its own, as many as the window is long.

    Args:
        query: [1, H, T, D]; the last one is the last key's.
        keys: [1, K, L, D], L not below T.
        values: [1, K, L, D].
        window: tokens.
        scale: factor on the logits.

    Returns:
        [1, H, T, D], and the log-sum-exp of the logits [1, H, T].
    """
    L = keys.shape[2]
    past = L - query.shape[2]
    whole = min(max(window, past), L)  # queries before this column see all keys up to their own
    parts = []
    if whole > past:
        begun = slice(0, whole)
        rows = query[:, :, : whole - past]
        parts.append(flash_attention(rows, keys[:, :, begun], values[:, :, begun], causal=True, scale=scale))
    step = min(window, _QUERIES)
    for begin in range(whole, L, step):
        rows = query[:, :, begin - past : begin - past + step]
        parts.append(merge(_parts(rows, keys, values, begin, window, scale)))
    outs, lses = zip(*parts, strict=True)
    return torch.cat(outs, dim=2), torch.cat(lses, dim=2)


def _parts(query: Tensor, keys: Tensor, values: Tensor, begin: int, window: int, scale: float) -> Iterator[Part]:
    """The band of some queries, the first of which is column `begin`: its two triangles, and what is between them."""
    end = begin + query.shape[2]
    low, high = begin - window, end - window

    def attend(rows: Tensor, start: int, stop: int, *, causal: bool, turned: bool = False) -> Part:
        columns = (x[:, :, start:stop].flip(2) if turned else x[:, :, start:stop] for x in (keys, values))
        return flash_attention(rows, *columns, causal=causal, scale=scale)

    yield attend(query, begin, end, causal=True)
    if high < begin:
        yield attend(query, high, begin, causal=False)
    if end - begin > 1:  # query t sees those after t, the last one none: causal attention read backwards
        out, lse = attend(query[:, :, :-1].flip(2), low + 1, high, causal=True, turned=True)
        out = torch.nn.functional.pad(out.flip(2), (0, 0, 0, 1))
        yield out, torch.nn.functional.pad(lse.flip(2), (0, 1), value=-torch.inf)
