"""Attention over a paged cache in torch, against the formula, where vLLM itself is not installed too."""

import pytest

pytest.importorskip("torch")

import torch

from ropext.serving.vllm import paged

HEADS, KEY_HEADS, WIDTH, SIZE = 4, 2, 8, 4
REQUESTS = ((0, 30), (57, 1), (40, 9), (0, 3), (5, 2), (3, 40), (11, 1), (12, 1))
"""Tokens before and new ones."""


def drawn():
    """Queries, keys and values of requests whose blocks lie in any order."""
    generator = torch.Generator().manual_seed(0)
    lengths = torch.tensor([before + new for before, new in REQUESTS])
    starts = torch.tensor([0, *(new for _, new in REQUESTS)]).cumsum(0)
    most = -(-int(lengths.max()) // SIZE)
    table = torch.randperm(most * len(REQUESTS), generator=generator).view(len(REQUESTS), most)
    count = int(starts[-1])
    batch = paged.Batch(count, 40, int(lengths.max()), starts, starts, lengths, table, torch.zeros(count))
    query = torch.randn(count, HEADS, WIDTH, generator=generator)
    keys, values = torch.randn(2, most * len(REQUESTS), SIZE, KEY_HEADS, WIDTH, generator=generator)
    return query, keys, values, batch


def plain(query, keys, values, batch, scale, softcap, window, behind):
    """Each query by itself, in float64."""
    out, lse = torch.zeros(query.shape).double(), torch.full((HEADS, len(query)), -torch.inf).double()
    for request, (before, new) in enumerate(REQUESTS):
        k, v = (x[batch.block_table[request]].flatten(0, 1).double() for x in (keys, values))
        k, v = (x.repeat_interleave(HEADS // KEY_HEADS, dim=1) for x in (k, v))
        for row in range(new):
            stop = before + row + 1 - behind
            start = 0 if window is None else max(0, stop - window)
            if stop > start:
                at = int(batch.query_start_loc[request]) + row
                logits = torch.einsum("hd,lhd->hl", query[at].double(), k[start:stop]) * scale
                logits = softcap * (logits / softcap).tanh() if softcap else logits
                lse[:, at] = logits.logsumexp(-1)
                out[at] = torch.einsum("hl,lhd->hd", logits.softmax(-1), v[start:stop])
    return out, lse


@pytest.mark.parametrize("softcap", [0.0, 1.5])
@pytest.mark.parametrize(("window", "behind"), [(None, 0), (None, 12), (12, 0), (1, 0), (200, 0)])
def test_each_query_sees_its_keys(window, behind, softcap):
    given = *drawn(), 0.7, softcap
    found, wanted = paged.attend_torch(*given, window=window, behind=behind), plain(*given, window, behind)
    for one, other in zip(found, wanted, strict=True):
        assert torch.allclose(one.double(), other, atol=1e-5)


@pytest.mark.parametrize("softcap", [0.0, 1.5])
def test_a_band_and_a_triangle_are_the_whole(softcap):
    given = *drawn(), 0.7, softcap
    near, far = paged.attend_torch(*given, window=12), paged.attend_torch(*given, behind=12)
    whole, output = paged.attend_torch(*given), torch.empty_like(near[0])
    lse = paged.merge_torch(output, near, far)
    assert torch.allclose(output, whole[0], atol=1e-5)
    assert torch.allclose(lse, whole[1], atol=1e-5)


@pytest.mark.parametrize("softcap", [0.0, 1.5])
@pytest.mark.parametrize("stride", [4, 8, 16, 60])
def test_chunks_are_the_whole(stride, softcap):
    """The own one, the one before and the older ones."""
    query, keys, values, batch = drawn()
    parts = [
        paged.attend_torch(query, keys, values, each, 0.7, softcap) for each in batch.chunks(stride, keys.shape[1])
    ]
    whole, output = paged.attend_torch(query, keys, values, batch, 0.7, softcap), torch.empty_like(query)
    lse = paged.merge_torch(output, (output, paged.merge_torch(output, *parts[:2])), parts[2])
    assert torch.allclose(output, whole[0], atol=1e-5)
    assert torch.allclose(lse, whole[1], atol=1e-5)


@pytest.mark.parametrize("stride", [4, 8, 60])
def test_each_chunk_has_its_keys(stride):
    """By the sum of equal weights: an output is the mean of the values that a token sees."""
    query, keys, _, batch = drawn()
    places = torch.arange(int(batch.seq_lens.max()) + SIZE).double()
    values = torch.zeros_like(keys).double()
    for request in range(len(REQUESTS)):
        for column, block in enumerate(batch.block_table[request].tolist()):
            values[block] = places[column * SIZE : column * SIZE + SIZE, None, None]
    chunks = batch.chunks(stride, SIZE)
    found = [paged.attend_torch(query * 0, keys, values.float(), each, 1.0, 0.0)[0][:, 0, 0] for each in chunks]
    for token, place in enumerate(batch.positions().tolist()):
        own = place // stride * stride
        before = max(own - stride, 0)
        for part, (start, stop) in zip(found, ((own, place + 1), (before, own), (0, before)), strict=True):
            mean = places[start:stop].mean() if stop > start else torch.tensor(0.0)
            assert part[token] == pytest.approx(float(mean), abs=1e-3)
