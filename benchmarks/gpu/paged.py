"""Attention over vLLM's paged cache, near and far parts and both merged, against the plain formula.

On a GPU by vLLM's kernels, as the plugin calls them; in a rehearsal by the plugin's own torch code.
"""

from dataclasses import dataclass

import torch

from benchmarks.gpu.budget import error_of, judged
from benchmarks.gpu.formula import attention, everything
from ropext.serving.vllm import flash, paged

H, K, S = 8, 2, 16
"""Query heads, key heads, tokens of a block."""
WINDOW = 50
REQUESTS = ((0, 70), (130, 1), (500, 33), (20, 5), (0, 10), (2000, 1), (49, 2))
"""Tokens before and new ones."""


@dataclass(frozen=True)
class Drawn:
    """Random requests.

    Attributes:
        queries: [N, H, D] of the near and of the far part.
        caches: [blocks, S, K, 2 D] of the near and of the far part, keys and values.
        batch: which of it is whose.
    """

    queries: list
    caches: list
    batch: object

    def on(self, device, dtype=None):
        """A copy on another device."""
        names = ("query_start_loc", "seq_lens", "block_table", "slot_mapping")
        moved = {name: getattr(self.batch, name).to(device) for name in names}
        both = ([x.to(device, dtype) for x in each] for each in (self.queries, self.caches))
        return Drawn(*both, type(self.batch)(**vars(self.batch) | moved))


def drawn(D, dtype):
    """Requests of several lengths whose blocks lie in any order."""
    generator = torch.Generator().manual_seed(0)
    lengths = torch.tensor([before + new for before, new in REQUESTS], dtype=torch.int32)
    starts = torch.tensor([0, *(new for _, new in REQUESTS)], dtype=torch.int32).cumsum(0, dtype=torch.int32)
    most = -(-int(lengths.max()) // S)
    count, blocks = int(starts[-1]), most * len(REQUESTS)
    table = torch.randperm(blocks, generator=generator).view(len(REQUESTS), most).int()
    new = [new for _, new in REQUESTS]
    batch = paged.Batch(count, max(new), int(lengths.max()), starts, starts, lengths, table, torch.zeros(count))
    queries = [torch.randn(count, H, D, generator=generator).to(dtype) for _ in range(2)]
    exact, far, values = torch.randn(3, blocks, S, K, D, generator=generator).to(dtype)
    return Drawn(queries, [torch.cat((keys, values), dim=-1) for keys in (exact, far)], batch)


def plain(given, scale):
    """The formula's near, far and merged attention, each an output [N, H, D] and a log-sum-exp [H, N]."""
    found = {"near": [], "far": [], "both": []}
    for request, (before, new) in enumerate(REQUESTS):
        begin, L = int(given.batch.query_start_loc_cpu[request]), before + new
        table = given.batch.block_table[request].long()
        flat = [cache[table].flatten(0, 1)[:L].transpose(0, 1)[None] for cache in given.caches]
        (exact, values), (far, _) = (each.chunk(2, dim=-1) for each in flat)
        near_query, far_query = (query[begin : begin + new].transpose(0, 1)[None] for query in given.queries)
        causal = everything(new, L).tril(L - new)
        beyond = causal.tril(L - new - WINDOW)
        near = causal & ~beyond
        found["near"].append(attention(near_query, exact, values, near, scale))
        found["far"].append(attention(far_query, far, values, beyond, scale))
        # Every key twice, as near and as far, of which a query sees one.
        keys = torch.cat([torch.nn.functional.pad(x, pad) for x, pad in zip((exact, far), pads(exact), strict=True)], 2)
        both = torch.cat((near_query, far_query), -1), keys, torch.cat((values, values), 2)
        found["both"].append(attention(*both, torch.cat((near, beyond), -1), scale))
    return {what: _joined(parts) for what, parts in found.items()}


def pads(keys):
    """Zeros behind near keys and before far ones."""
    D = keys.shape[-1]
    return (0, D), (D, 0)


def _joined(parts):
    outs, lses = zip(*parts, strict=True)
    return torch.cat([out[0].transpose(0, 1) for out in outs]), torch.cat([lse[0] for lse in lses], dim=1)


def paged_attention(given, scale):
    """The plugin's near, far and merged attention, in the form of `plain`."""
    near_cache, far_cache = (cache.chunk(2, dim=-1) for cache in given.caches)
    cuda = given.caches[0].is_cuda
    attend, merge = (flash.attend_flash, flash.merge_flash) if cuda else (paged.attend_torch, paged.merge_torch)
    how = given.batch, scale, 0.0
    near = attend(given.queries[0], *near_cache, *how, window=WINDOW)
    beyond = attend(given.queries[1], *far_cache, *how, behind=WINDOW)
    both = torch.empty_like(near[0])
    return {"near": near, "far": beyond, "both": (both, merge(both, near, beyond))}


def cells(setting):
    """A head dimension in a type; vLLM's kernels take 16 bits only."""
    types = setting.pick(("bfloat16", "float16"), ("bfloat16", "float32"))
    return [f"{dtype} head_dim {D}" for dtype in types for D in setting.pick((64, 128), (16,))]


def run(cell, setting):
    """All parts of a cell."""
    dtype, _, D = cell.name.split()
    labels = {"dtype": dtype, "head_dim": int(D), "length": max(map(sum, REQUESTS))}
    given, scale = drawn(int(D), getattr(torch, dtype)), int(D) ** -0.5
    truths = plain(given.on("cpu", torch.float64), scale)
    found = {}
    cell.attempt("runs", lambda: found.update(paged_attention(given.on(cell.device), scale)) or {"ok": True}, **labels)
    plains = plain(given.on(cell.device), scale)
    for what, parts in found.items():
        cell.attempt(what, lambda what=what, parts=parts: compared(parts, plains[what], truths[what], dtype), **labels)


def compared(parts, plains, truths, dtype):
    """Figures of a part, on the queries that see some of its keys; those that see none have to say so."""
    results = ([x.cpu() for x in each] for each in (parts, plains, truths))
    (out, lse), (plain_out, plain_lse), (truth, truth_lse) = results
    seen = truth_lse.isfinite().all(0)
    figures = judged(error_of(out[seen], truth[seen]), error_of(plain_out[seen], truth[seen]), dtype)
    lses = [x[:, seen] for x in (lse, plain_lse, truth_lse)]
    of_lse = judged(error_of(lses[0], lses[2]), error_of(lses[1], lses[2]), dtype)
    silent = bool((~lse[:, ~seen].isfinite()).all()) and bool((out[~seen] == 0).all())
    ok = figures["ok"] and of_lse["ok"] and silent
    return figures | {"ok": ok, "lse_error": of_lse["error"], "lse_allowed": of_lse["allowed"]}
