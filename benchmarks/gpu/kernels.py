"""Each attention primitive on the device against the plain formula."""

from collections.abc import Callable
from dataclasses import dataclass

import torch

from benchmarks.gpu import aten, subjects
from benchmarks.gpu.budget import error_of, judged
from benchmarks.gpu.comparison import PACKAGED
from benchmarks.gpu.formula import B, H, attention, causal, drawn, everything
from benchmarks.gpu.setting import TYPES

WINDOW = 50
PACKAGED_UP_TO = 256
"""Dimensions of a head, by the package flash-attn."""
FARTHEST = 131072


@dataclass(frozen=True)
class Check:
    """Attention over random tensors.

    Attributes:
        queries: how many.
        keys: how many.
        kv_heads: how many.
        attend: of (query, key, value, scale), output and log-sum-exp by the code under test.
        seen: of (queries, keys), the keys that each query sees, booleans.
    """

    queries: int
    keys: int
    kv_heads: int
    attend: Callable
    seen: Callable


def flash(q, k, v, scale):
    return subjects.flash_attention(q, k, v, causal=True, scale=scale)


def rectangle(q, k, v, scale):
    return subjects.flash_attention(q, k, v, causal=False, scale=scale)


def merged(q, k, v, scale):
    parts = [(k[:, :, part], v[:, :, part]) for part in (slice(0, 37), slice(37, 38), slice(38, None))]
    return subjects.merge([rectangle(q, *part, scale) for part in parts])


def backwards(q, k, v, scale):
    """The keys after each query's own, as the band reads them; the last query sees none and is left out."""
    flipped = (x.flip(2) for x in (q[:, :, :-1], k[:, :, 1:], v[:, :, 1:]))
    return tuple(x.flip(2) for x in flash(*flipped, scale))


def transposed(q, k, v, scale):
    """Flash attention on tensors that are [B, T, H, D] in memory, as projections give them."""
    return flash(*(x.transpose(1, 2).contiguous().transpose(1, 2) for x in (q, k, v)), scale)


def blockwise(q, k, v, scale):
    return subjects.blockwise_attention(q, k, v, causal=True, scale=scale)


def dense(q, k, v, scale):
    logits = subjects.grouped_logits(q, k) * scale
    allowed = causal(q.shape[2], k.shape[2])[None].to(q.device)
    weights = subjects.masked_softmax(logits, allowed)
    return subjects.weighted_values(weights, v), logits.masked_fill(~allowed, -torch.inf).float().logsumexp(-1)


def packaged(q, k, v, scale):
    return subjects.flash_attention(q, k, v, causal=True, scale=scale, backend="flash_attention_2")


def packaged_window(q, k, v, scale):
    return subjects.packaged_attention(q, k, v, causal=True, scale=scale, window=WINDOW)


CHECKS = {
    "causal": Check(200, 200, 8, flash, causal),
    "causal, grouped heads": Check(200, 200, 2, flash, causal),
    "causal, more keys than queries": Check(70, 200, 2, flash, causal),
    "causal, one query": Check(1, 200, 2, flash, causal),
    "rectangle": Check(70, 200, 2, rectangle, everything),
    "rectangle, more queries than keys": Check(200, 70, 2, rectangle, everything),
    "rectangle, one key": Check(70, 1, 2, rectangle, everything),
    "rectangle, one query": Check(1, 200, 2, rectangle, everything),
    "merge of three ranges": Check(70, 200, 2, merged, everything),
    "above the diagonal": Check(200, 200, 8, backwards, lambda T, L: ~causal(T, L)),
    "above the diagonal, grouped heads": Check(200, 200, 2, backwards, lambda T, L: ~causal(T, L)),
    "transposed in memory": Check(200, 200, 2, transposed, causal),
    "blockwise": Check(200, 200, 2, blockwise, causal),
    "dense": Check(70, 200, 2, dense, causal),
    "dense, one query": Check(1, 200, 2, dense, causal),
}
PACKAGED_CHECKS = {
    "flash-attn": Check(70, 200, 2, packaged, causal),
    "flash-attn, window": Check(70, 200, 2, packaged_window, lambda T, L: causal(T, L).triu(L - T - WINDOW + 1)),
}


def cells(setting):
    """The questions to torch's kernel; then a head dimension or rotations, in a type."""
    widths = setting.pick((64, 80, 100, 128, 256, 320), (16, 24))
    parts = [*(f"head_dim {D}" for D in widths), "rotation"]
    return aten.CELLS + [f"{dtype} {part}" for dtype in TYPES for part in parts]


def run(cell, setting):
    """All checks of a cell."""
    if cell.name in aten.CELLS:
        aten.run(cell)
        return
    dtype, part = cell.name.split(maxsplit=1)
    if part == "rotation":
        check_rotation(cell, dtype)
    else:
        check_attention(cell, dtype, int(part.split()[1]))


def check_attention(cell, dtype, D):
    """All primitives in a type at a head dimension."""
    labels = {"dtype": dtype, "head_dim": D}
    packaged = PACKAGED and dtype != "float32" and D <= PACKAGED_UP_TO
    checks = CHECKS | (PACKAGED_CHECKS if packaged else {})
    for what, check in checks.items():
        cell.attempt(what, lambda check=check: compared(check, dtype, D, cell.device), length=check.keys, **labels)
    for what, check in PACKAGED_CHECKS.items():
        if what not in checks:
            why = f"takes 16 bits and at most {PACKAGED_UP_TO} dimensions" if PACKAGED else "is not installed"
            cell.row(what, ok=None, note=f"not run: the package flash-attn {why}", length=check.keys, **labels)


def compared(check, dtype, D, device):
    """Figures of one check: of the output, and of the log-sum-exp."""
    tensors, scale = drawn(check.queries, check.keys, check.kv_heads, D, getattr(torch, dtype)), D**-0.5
    seen, on_device = check.seen(check.queries, check.keys), [x.to(device) for x in tensors]
    results = check.attend(*on_device, scale)
    rows = slice(0, results[0].shape[2])
    truths = attention(*(x.double() for x in tensors), seen, scale)
    plains = attention(*on_device, seen, scale)
    out, lse = (
        judged(error_of(result, truth[:, :, rows]), error_of(plain[:, :, rows], truth[:, :, rows]), dtype)
        for result, truth, plain in zip(results, truths, plains, strict=True)
    )
    return out | {"ok": out["ok"] and lse["ok"], "lse_error": lse["error"], "lse_allowed": lse["allowed"]}


def check_rotation(cell, dtype):
    """Rotations from one position to another, as far as the longest texts, for both kinds of table."""
    generator = torch.Generator().manual_seed(0)
    count, P = 64, 32
    x = torch.randn(B, H, count, 2 * P, generator=generator).to(getattr(torch, dtype))
    inv_freq = 1.0 / 500000.0 ** (torch.arange(P).float() / P)
    for what, shape in {"a position for all pairs": (B, count), "a position for each pair": (B, count, P)}.items():
        positions = torch.randint(FARTHEST, shape, generator=generator)

        def measure(positions=positions):
            stock = torch.randint(FARTHEST, (B, count), generator=generator)
            own = (stock[:, None, :, None].float() * inv_freq).expand(B, 1, count, P)
            rotated = turned(x.float(), own).to(x.dtype)  # as the model gives it to attention
            places, inv = (stock.to(cell.device), positions.to(cell.device)), inv_freq.to(cell.device)
            pairs = subjects.Pairs(inv)
            found = pairs.rotate(rotated.to(cell.device), pairs.turn(*places, inv, inv))
            angle = (positions.view(B, 1, count, -1).double() * inv_freq.double()).expand(B, 1, count, P)
            truth = turned(x.double(), angle)
            twice = turned(turned(x.double(), own.double()).to(x.dtype).double(), angle - own.double()).to(x.dtype)
            return judged(error_of(found, truth), error_of(twice, truth), dtype)

        cell.attempt(f"rotation, {what}", measure, dtype=dtype, length=FARTHEST, head_dim=2 * P)


def turned(x, angle):
    """Each pair of `x` rotated by its angle."""
    first, second = x.chunk(2, dim=-1)
    return torch.cat((first * angle.cos() - second * angle.sin(), second * angle.cos() + first * angle.sin()), dim=-1)
