"""The oracle in stock modules, and the regions that it takes, against the loops over pairs of tokens."""

import numpy as np
import pytest
import torch

from tests.helpers import families, tiny
from tests.helpers.oracle import of_case
from tests.reference import dynamic_ntk, stock
from tests.reference.regions import Setting, regions
from tests.reference.rope import logit, stock_logits

LENGTH = 100
CASES = [name for name in tiny.CASES if name != "gali_noise"]  # noise is no function of positions


def pair_logit(case, length):
    """The naive logit of a case, for an input of `length` tokens."""
    if case.method == "dynamic_ntk":
        return dynamic_ntk.pair_logit(10000.0, 16, length=length, initial_window=tiny.INITIAL_WINDOW, **case.parameters)
    if case.method in ("dprope", "linear", "ntk", "profile", "yarn"):
        factor = case.parameters.get("attention_factor", 1.0) ** 2
        return lambda layer, q, k, i, j: factor * logit(q, k, float(i - j), np.array(case.inv_freq))
    return of_case(case, length)


def by_regions(case, query, key, ends, layer):
    """Logits [H, T, T] of unrotated queries and keys [H, T, D]."""
    inv_freq = torch.tensor(tiny.INV_FREQ, dtype=torch.float64)
    p = torch.arange(len(ends), dtype=torch.float64)

    def turned(x, positions, amplitude):
        angle = (positions if positions.dim() == 2 else positions[:, None]) * inv_freq
        return torch.complex(*x.chunk(2, -1)) * torch.polar(torch.full_like(angle, amplitude), angle)

    total = 0.0
    for region in regions(case, Setting(p, ends, inv_freq, layer)):
        q, k = turned(query, region.a, region.amplitude), turned(key, region.b, region.amplitude)
        total = total + torch.where(region.mask, region.weight * (q @ k.conj().transpose(1, 2)).real, 0.0)
    return total


@pytest.mark.parametrize("name", CASES)
def test_regions_are_the_naive_logits(name):
    case, layer = tiny.CASES[name], 1
    query, key = torch.randn(2, 4, LENGTH, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    actual = by_regions(case, query, key, [LENGTH] * LENGTH, layer)
    expected, q, k = pair_logit(case, LENGTH), query.numpy(), key.numpy()
    for i in range(LENGTH):
        for j in range(i + 1):
            np.testing.assert_allclose(actual[:, i, j], expected(layer, q[:, i], k[:, j], i, j), atol=1e-5)


@pytest.mark.parametrize("name", [name for name in CASES if not tiny.CASES[name].feeding and name != "dynamic_ntk"])
def test_each_query_has_the_length_of_its_own_forward(name):
    case = tiny.CASES[name]
    ends = [80] * 80 + list(range(81, LENGTH + 1))
    query, key = torch.randn(2, 4, LENGTH, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    actual = by_regions(case, query, key, ends, 0)
    for i in (40, 70, 79, 80, 90, 99):
        expected = pair_logit(case, ends[i])
        for j in range(i + 1):
            naive = expected(0, query[:, i].numpy(), key[:, j].numpy(), i, j)
            np.testing.assert_allclose(actual[:, i, j], naive, atol=1e-5)


@pytest.mark.usefixtures("no_grad")
@pytest.mark.parametrize("name", CASES)
def test_the_oracle_is_the_loop_in_a_stock_llama(name):
    case, ids = tiny.CASES[name], tiny.tokens(80)
    base = tiny.base("eager", torch.float64)
    expected = stock_logits(base, ids[0], pair_logit(case, 80))
    actual = stock.logits(base, lambda setting: regions(case, setting), input_ids=ids)
    torch.testing.assert_close(actual, expected, atol=1e-4, rtol=0)


@pytest.mark.usefixtures("no_grad")
@pytest.mark.parametrize("family", ["gemma", "olmo2", "phi", "qwen3"])
def test_the_oracle_is_the_loop_in_other_stock_models(family):
    case, ids = tiny.CASES["dpe_top_k"], tiny.tokens(80)
    base = families.precise(family)
    expected = stock_logits(base, ids[0], pair_logit(case, 80))
    actual = stock.logits(base, lambda setting: regions(case, setting), input_ids=ids)
    torch.testing.assert_close(actual, expected, atol=1e-4, rtol=0)


@pytest.mark.usefixtures("no_grad")
def test_a_model_is_itself_again_after_the_oracle():
    base, ids = tiny.base(), tiny.tokens(80)
    before = base(ids).logits
    stock.logits(base, lambda setting: regions(tiny.CASES["dpe"], setting), input_ids=ids)
    assert base.config._attn_implementation == "sdpa"
    assert torch.equal(base(ids).logits, before)
