"""The backend `flash_attention_2`, by a stand-in for the package: its signature, its layout, plain softmax inside."""

import sys
from types import ModuleType

import pytest
import torch

from ropext.converter.methods.registry import FREQUENCY_METHODS
from ropext.modeling.rope_ext_attention import flash_attention, packaged_attention
from tests.helpers import families, tiny
from tests.helpers.tiny import generate, left_padded

pytestmark = pytest.mark.usefixtures("no_grad")


def flash_attn_func(
    q,
    k,
    v,
    dropout_p=0.0,
    softmax_scale=None,
    causal=False,
    window_size=(-1, -1),
    softcap=0.0,
    alibi_slopes=None,
    deterministic=False,
    return_attn_probs=False,
):
    """As flash-attn 2 documents it: [B, T, H, D], causality aligned at the last key, grouped heads."""
    assert dropout_p == softcap == 0.0
    assert alibi_slopes is None
    assert q.shape[2] % k.shape[2] == 0
    assert q.shape[3] == k.shape[3] == v.shape[3]
    k, v = (x.repeat_interleave(q.shape[2] // k.shape[2], 2) for x in (k, v))
    logits = torch.einsum("bthd,blhd->bhtl", q, k) * softmax_scale
    distance = torch.arange(q.shape[1])[:, None] + k.shape[1] - q.shape[1] - torch.arange(k.shape[1])
    left, right = window_size
    hidden = (distance < 0) if causal or right == 0 else torch.zeros_like(distance, dtype=torch.bool)
    if left >= 0:
        hidden |= distance > left
    logits = logits.masked_fill(hidden, -torch.inf)
    out = torch.einsum("bhtl,blhd->bthd", logits.softmax(-1), v)
    return (out, logits.logsumexp(-1), None) if return_attn_probs else out


@pytest.fixture(autouse=True)
def package(monkeypatch):
    """Pretend that the package is installed; counts its calls."""
    calls = []
    module = ModuleType("flash_attn")

    def counted(*args, **kwargs):
        calls.append(kwargs)
        return flash_attn_func(*args, **kwargs)

    module.flash_attn_func = counted
    monkeypatch.setitem(sys.modules, "flash_attn", module)
    return calls


def with_package(model):
    """Switched after loading, where transformers asks for a GPU."""
    model.config._attn_implementation = "flash_attention_2"
    return model


@pytest.mark.parametrize(("queries", "keys", "causal"), [(5, 5, True), (5, 9, True), (1, 9, True), (5, 9, False)])
def test_both_kernels_agree(queries, keys, causal):
    generator = torch.Generator().manual_seed(0)
    query = torch.randn(2, 4, queries, 16, generator=generator)
    key, value = (torch.randn(2, 2, keys, 16, generator=generator) for _ in range(2))
    parts = [
        flash_attention(query, key, value, causal=causal, scale=0.3, backend=backend)
        for backend in ("sdpa", "flash_attention_2")
    ]
    for own, packaged in zip(*parts, strict=True):
        torch.testing.assert_close(own, packaged)


@pytest.mark.parametrize("window", [None, 3])
def test_values_may_be_narrower_than_keys(window):
    query, key, value = torch.randn(1, 4, 5, 24), torch.randn(1, 2, 5, 24), torch.randn(1, 2, 5, 16)
    out, lse = packaged_attention(query, key, value, causal=True, scale=0.3, window=window)
    logits = (query @ key.repeat_interleave(2, 1).mT * 0.3).masked_fill(torch.ones(5, 5).triu(1) > 0, -torch.inf)
    logits = logits.masked_fill(torch.ones(5, 5).tril(-(window or 5)) > 0, -torch.inf)
    torch.testing.assert_close(out, logits.softmax(-1) @ value.repeat_interleave(2, 1))
    torch.testing.assert_close(lse, logits.logsumexp(-1))


def test_a_window_counts_the_query_itself():
    query, key, value = (torch.randn(1, 2, 7, 16) for _ in range(3))
    out, _ = packaged_attention(query, key, value, causal=True, scale=0.3, window=1)
    torch.testing.assert_close(out, value)


# A forward that is the base's own, as all of `original`, goes by transformers' own call of the package.
METHODS = sorted({"original"} ^ {name for name, case in tiny.CASES.items() if case.method not in FREQUENCY_METHODS})


@pytest.mark.parametrize("name", METHODS)
def test_logits_are_those_of_torchs_kernels(name, package):
    ids, mask = left_padded(tiny.tokens(150), tiny.tokens(90, seed=1))
    expected = tiny.converted(name)(ids, attention_mask=mask).logits
    logits = with_package(tiny.converted(name))(ids, attention_mask=mask).logits
    torch.testing.assert_close(logits[mask == 1], expected[mask == 1], atol=2e-4, rtol=0)
    assert package


@pytest.mark.parametrize("name", METHODS)
def test_decoding_is_that_of_torchs_kernels(name):
    ids = tiny.tokens(130, rows=2)
    assert torch.equal(generate(with_package(tiny.converted(name)), ids), generate(tiny.converted(name), ids))


def test_a_band_takes_two_calls_however_long(package):
    with_package(tiny.converted("self_extend"))(tiny.tokens(1000))
    layers = 3
    assert [call["window_size"] for call in package] == [(-1, -1), (15, 0), (-1, -1)] * layers


@pytest.mark.parametrize("family", families.FAMILIES)
def test_families(family):
    ids = tiny.tokens(100)
    expected = families.converted(family, "dpe_top_k")(ids).logits
    logits = with_package(families.converted(family, "dpe_top_k"))(ids).logits
    torch.testing.assert_close(logits, expected, atol=2e-4, rtol=0)


def test_without_the_package_it_says_so(monkeypatch):
    monkeypatch.delitem(sys.modules, "flash_attn")
    with pytest.raises(ImportError, match="flash_attn"):
        with_package(tiny.converted("dpe"))(tiny.tokens(100))
