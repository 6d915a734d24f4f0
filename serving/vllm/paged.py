"""Attention over a paged cache in torch: what CPUs run, and what the kernels of GPUs are compared with.

Shape letters: N tokens of all requests, R requests, H query heads, K key heads, D head_dim, B blocks, S tokens of one.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from ropext.modeling.rope_ext_attention import Part, joined, merge
from ropext.modeling.rope_ext_sides import Side

__all__ = ["Batch", "attend_torch", "merge_torch"]

_QUERIES = 64
"""Whose logits are held at once."""
_TOGETHER = 1024
"""Queries that are taken together by fused kernels where the window is longer."""


@dataclass
class Batch:
    """The requests of a step.

    Attributes:
        num_actual_tokens: N.
        max_query_len: most new tokens of a request.
        max_seq_len: most tokens of a request, or more.
        query_start_loc: [R + 1], where the new tokens of each request begin.
        query_start_loc_cpu: the same on the host.
        seq_lens: [R], tokens of each request, the new ones included.
        block_table: [R, most blocks of a request].
        slot_mapping: [N], the place of each new token in the cache; below 0: none.
        causal: a new token sees the tokens up to itself, not all of its request.
    """

    num_actual_tokens: int
    max_query_len: int
    max_seq_len: int
    query_start_loc: Tensor
    query_start_loc_cpu: Tensor
    seq_lens: Tensor
    block_table: Tensor
    slot_mapping: Tensor
    causal: bool = True
    _chunks: dict[int, tuple[Batch, Batch, Batch]] = field(default_factory=dict, repr=False)

    def positions(self) -> Tensor:
        """[N]: where the new tokens stand."""
        ends, count = self.query_start_loc[1:], self.num_actual_tokens
        tokens = torch.arange(count, device=ends.device)
        requests = torch.searchsorted(ends, tokens, right=True).clamp(max=len(ends) - 1)
        return tokens + (self.seq_lens - ends)[requests]

    def chunks(self, stride: int, size: int) -> tuple[Batch, Batch, Batch]:
        """Return the tokens as requests that end at the borders of chunks, with their keys by chunk.

        How many requests that can be at most follows from the host's numbers: nothing waits for the device. Some may
        have no token.

        Args:
            stride: tokens of a chunk.
            size: tokens of a block, which divides it.

        Returns:
            Batches whose keys are those of the tokens' own chunk, of the chunk before, and of all older ones; the last
            two are not causal.
        """
        if stride not in self._chunks:
            self._chunks[stride] = self._in_chunks(stride, size)
        return self._chunks[stride]

    def _in_chunks(self, stride: int, size: int) -> tuple[Batch, Batch, Batch]:
        new = self.query_start_loc_cpu.diff()
        most = (new + stride - 2) // stride + 1  # chunks that so many tokens in a row can touch
        request = torch.arange(len(new)).repeat_interleave(most)
        later = torch.arange(len(request)) - (most.cumsum(0) - most)[request]  # chunks after the request's first
        request, later, new = (x.to(self.seq_lens.device, non_blocking=True) for x in (request, later, new[request]))
        end = self.seq_lens[request]
        first = end - new
        chunk = first // stride + later
        start = (chunk * stride).clamp(min=first).clamp(max=end)
        stop = torch.minimum(chunk * stride + stride, end)
        starts = self.query_start_loc[request] + start - first
        starts = torch.cat((starts, self.query_start_loc[-1:])).to(self.query_start_loc.dtype)

        def seen(first_chunk: Tensor, keys: Tensor, most: int, *, causal: bool = False) -> Batch:
            blocks = torch.arange(-(-most // size), device=keys.device) + (first_chunk * stride // size)[:, None]
            return replace(
                self,
                max_query_len=min(self.max_query_len, stride),
                max_seq_len=most,
                query_start_loc=starts,
                seq_lens=keys.clamp(min=0).to(self.seq_lens.dtype),
                block_table=self.block_table[request[:, None], blocks.clamp(max=self.block_table.shape[1] - 1)],
                causal=causal,
                _chunks={},
            )

        within, older = min(self.max_seq_len, stride), (chunk - 1).clamp(min=0)
        return (
            seen(chunk, stop - chunk * stride, within, causal=True),
            seen(older, chunk.clamp(max=1) * stride, within),
            seen(torch.zeros_like(chunk), older * stride, self.max_seq_len),
        )


def attend_torch(
    query: Tensor,
    keys: Tensor,
    values: Tensor,
    batch: Batch,
    scale: float,
    softcap: float,
    *,
    window: int | None = None,
    behind: int = 0,
) -> tuple[Tensor, Tensor]:
    """Attention of each request to its own keys, causal if the batch is.

    Args:
        query: [N, H, D].
        keys: [B, S, K, D].
        values: [B, S, K, D].
        batch: which tokens and which blocks are whose.
        scale: factor on the logits.
        softcap: bound of the logits; 0: none.
        window: each query sees its last so many keys; None: all.
        behind: the last so many keys are left out. The last query sees all others, those before one fewer each.

    Returns:
        [N, H, D], and the log-sum-exp of the logits [H, N], minus infinity where a query sees no key.
    """
    N, H, _ = query.shape
    out = query.new_zeros(query.shape)
    lse = torch.full((H, N), -torch.inf, device=query.device)
    starts, size = batch.query_start_loc.tolist(), keys.shape[1]
    for request, length in enumerate(batch.seq_lens.tolist()[: len(starts) - 1]):
        stop, end = length - behind, starts[request + 1]
        first = max(starts[request], end - stop) if batch.causal else starts[request]  # those before see no key
        if stop <= 0 or first >= end:
            continue
        start = 0 if window is None else max(0, stop - (end - first) + 1 - window)
        blocks = batch.block_table[request, start // size : (stop - 1) // size + 1].long()
        place = slice(start % size, start % size + stop - start)
        k, v = (x[blocks].flatten(0, 1)[place] for x in (keys, values))
        rows = slice(first, end)
        if softcap:
            out[rows], lse[:, rows] = _capped(query[rows], k, v, window, scale, softcap, causal=batch.causal)
        else:
            q, k, v = (x.transpose(0, 1)[None] for x in (query[rows], k, v))
            side = Side(q, k, v, scale)
            part = _banded(side, window or stop) if batch.causal else side.attend(slice(0, end - first), 0, stop)
            out[rows], lse[:, rows] = part[0][0].transpose(0, 1), part[1][0]
    return out, lse


def _banded(side: Side, window: int) -> Part:
    """Each query over the last `window` columns up to its own, by the fused kernel. The last has the last column."""
    count, length = side.query.shape[2], side.keys.shape[2]
    past = length - count
    whole = min(max(window, past), length)  # queries before this column see all keys up to their own
    parts = [side.attend(slice(0, whole - past), 0, whole, causal=True)] if whole > past else []
    for begin in range(whole - past, count, _TOGETHER):
        rows = slice(begin, min(begin + _TOGETHER, count))
        parts.append(merge(side.band(rows, past + rows.stop, window)))
    return joined(parts)


def _capped(
    query: Tensor, keys: Tensor, values: Tensor, window: int | None, scale: float, softcap: float, *, causal: bool
) -> tuple[Tensor, Tensor]:
    """The queries of a request, some at a time; causal: the last of them is the last key's."""
    outs, lses = [], []
    before = len(keys) - len(query) if causal else len(keys)
    for first in range(0, len(query), _QUERIES):
        some = query[first : first + _QUERIES]
        last = torch.arange(before + first, before + first + len(some))
        start = 0 if window is None else max(0, before + first + 1 - window)
        stop = min(before + first + len(some), len(keys))
        distance = last[:, None] - torch.arange(start, stop)
        seen = distance >= 0 if window is None else (distance >= 0) & (distance < window)
        out, lse = _dense(some, keys[start:stop], values[start:stop], seen.to(keys.device), scale, softcap)
        outs.append(out)
        lses.append(lse)
    return torch.cat(outs), torch.cat(lses, dim=1)


def _dense(
    query: Tensor, keys: Tensor, values: Tensor, seen: Tensor, scale: float, softcap: float
) -> tuple[Tensor, Tensor]:
    """Some queries [T, H, D] of a request and the keys [L, K, D] that they may see [T, L]; in float32."""
    T, H, D = query.shape
    K = keys.shape[1]
    grouped = query.float().view(T, K, H // K, D).permute(1, 2, 0, 3).reshape(K, -1, D)
    logits = (grouped @ keys.float().permute(1, 2, 0)).view(H, T, -1) * scale
    logits = (logits / softcap).tanh() * softcap
    logits = logits.masked_fill(~seen, -torch.inf)
    lse = logits.logsumexp(-1)
    weights = (logits - lse.clamp(min=torch.finfo(lse.dtype).min)[..., None]).exp()
    out = weights.view(K, -1, logits.shape[-1]) @ values.float().transpose(0, 1)
    return out.view(H, T, -1).transpose(0, 1).to(query.dtype), lse


def merge_torch(output: Tensor, near: tuple[Tensor, Tensor], far: tuple[Tensor, Tensor]) -> Tensor:
    """Write the attention over the union of two sets of keys; every query sees some of the near ones.

    Returns:
        [H, N], the log-sum-exp of both.
    """
    share = torch.sigmoid(far[1] - near[1]).T[..., None]
    output.copy_(near[0].float().lerp(far[0].float(), share))
    return torch.logaddexp(near[1], far[1])
