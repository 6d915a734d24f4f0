"""How a mask is read, as transformers gives it to an attention function.

Shape letters as in the attention file.
"""

from __future__ import annotations

import torch
from torch import Tensor


def last_row(mask: Tensor, filled: int | None) -> Tensor:
    """[B or 1, filled] booleans: what the last query sees; None: all columns are filled."""
    row = mask.bool() if mask.dim() == 2 else _booleans(mask[:, 0, -1])
    return row if filled is None else row[:, :filled]


def read_mask(mask: Tensor | None, stock: Tensor, columns: Tensor, filled: int) -> tuple[Tensor | None, Tensor | None]:
    """Take a mask apart: the keys that are no padding [B, filled]; and all of it [B, T, filled] if it is more."""
    if mask is None:
        return None, None
    if mask.dim() == 2 or mask.shape[2] == 1:
        valid = last_row(mask, filled)
        if valid.shape[1] == 1 and mask.dim() == 4:
            valid = valid.expand(-1, filled)  # as the kernels broadcast it
        if valid.shape[1] < filled:
            raise ValueError(f"attention_mask covers {valid.shape[1]} columns of {filled}; it must cover cached ones")
        return (None if bool(valid.all()) else valid), None
    if mask.shape[1] != 1:
        raise ValueError("a mask of each head's own is more than causality and padding, which this model takes")
    valid = last_row(mask, filled)
    padding = None if bool(valid.all()) else valid
    runs = numbered_runs(stock) if filled == stock.shape[1] else None
    fits = torch.ones(3, dtype=torch.bool, device=mask.device)
    for start in range(0, stock.shape[1], MASK_ROWS):  # no second mask beside the one that there is
        rows = slice(start, start + MASK_ROWS)
        fits &= _explanations(_booleans(mask[:, 0, rows, :filled]), valid, columns[rows], runs, rows)
    causal, packed, image = fits.tolist()
    if causal:
        return padding, None
    if not packed and not image:
        raise ValueError(
            "this model takes masks of causality, padding, packed documents and images only; "
            "pass a two-dimensional attention_mask"
        )
    return (None if packed else padding), _booleans(mask[:, 0, :, :filled]).expand(stock.shape[0], -1, -1)


MASK_ROWS = 512
"""Rows of a mask that are looked at together."""


def _explanations(seen: Tensor, valid: Tensor, columns: Tensor, runs: Tensor | None, rows: slice) -> Tensor:
    """[3] booleans: what rows of a mask [B, rows, L] show is causality with padding, packed documents, images too."""
    before = torch.arange(seen.shape[-1], device=seen.device) <= columns[:, None]
    expected = valid[:, None] & before
    # A query of padding may see nothing, or all where a kernel needs that. More than that does matter: the mask
    # may be one of two documents whose positions run on.
    blank = ~valid[:, columns] & (seen.all(-1) | ~seen.any(-1))
    causal = (seen == expected).all(-1) | blank
    packed = torch.zeros_like(causal)
    if runs is not None:
        packed = (seen == (before & (runs[:, rows, None] == runs[:, None]))).all(-1)
    # Tokens of an image see each other: what is more stands above the diagonal, on real tokens.
    image = (((seen & before) == expected) & (seen <= valid[:, None])).all(-1) | blank
    return torch.stack((causal.all(), packed.all(), image.all()))


def _booleans(mask: Tensor) -> Tensor:
    return mask if mask.dtype == torch.bool else mask >= 0


def numbered_runs(stock: Tensor) -> Tensor:
    """[B, T]: the number of each token's run of positions that follow each other."""
    return torch.nn.functional.pad(stock.diff(dim=-1) != 1, (1, 0)).long().cumsum(-1)
