"""Attention by its formula, on random tensors: what kernels are compared with.

Shape letters: B batch, H query heads, K key heads, T queries, L keys, D head_dim.
"""

import torch

B, H = 2, 8


def drawn(T, L, K, D, dtype):
    """Query [B, H, T, D], key and value [B, K, L, D] on the CPU."""
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(B, *shape, D, generator=generator).to(dtype) for shape in ((H, T), (K, L), (K, L))]


def everything(T, L):
    """[T, L] booleans: every query sees every key."""
    return torch.ones(T, L, dtype=torch.bool)


def causal(T, L):
    """The last query sees all keys, each one before it a key less."""
    return everything(T, L).tril(L - T)


def attention(query, key, value, seen, scale):
    """Softmax attention in the type of the tensors: output [B, H, T, D] and log-sum-exp [B, H, T]."""
    key, value = (x.repeat_interleave(query.shape[1] // x.shape[1], 1) for x in (key, value))
    logits = (query @ key.mT * scale).masked_fill(~seen.to(query.device), -torch.inf)
    wide = logits if logits.dtype == torch.float64 else logits.float()
    return wide.softmax(-1).to(value.dtype) @ value, wide.logsumexp(-1)
