"""Keys that are kept moved between decoding steps, through all that may happen to a cache in between."""

import copy

import pytest
import torch

from ropext.modeling.rope_ext_method import Tokens
from ropext.modeling.rope_ext_notes import NOTES
from tests.helpers import tiny

pytestmark = pytest.mark.usefixtures("no_grad")
CASES = ["dpe_top_k", "gali", "gali_grid", "gali_fraction", "gali_positions", "gali_activate", "jet_long", "lampe_step"]
CLOSE = {"atol": 2e-4, "rtol": 0}


def prefilled(model, ids):
    return model(ids, use_cache=True)[tiny.CACHE]


def steps(model, cache, ids):
    """Logits [T, vocabulary] of tokens given one at a time."""
    return torch.cat([model(ids[:, i : i + 1], **{tiny.CACHE: cache}).logits for i in range(ids.shape[1])], 1)


@pytest.fixture(params=CASES)
def models(request):
    """With kept keys, and the dense reference, which keeps none."""
    return tiny.converted(request.param), tiny.converted(request.param, "eager")


def kept(cache):
    return getattr(cache, NOTES).copies[0]


def test_a_long_answer(models):
    # Group sizes change on the way: 64 tokens of window, 8 of them local, so every 56 tokens.
    ids, caches = tiny.tokens(300), []
    for model in models:
        caches.append(prefilled(model, ids[:, :90]))
    kept_steps, dense_steps = (steps(m, c, ids[:, 90:]) for m, c in zip(models, caches, strict=True))
    torch.testing.assert_close(kept_steps, dense_steps, **CLOSE)
    assert kept(caches[0])._count > 200


def test_a_step_moves_its_new_columns_only(monkeypatch):
    model = tiny.converted("gali")
    cache = prefilled(model, tiny.tokens(100))
    steps(model, cache, tiny.tokens(2))
    rotated = []
    turn = Tokens.turn_key
    monkeypatch.setattr(
        Tokens, "turn_key", lambda self, key, table: rotated.append(key.shape[2]) or turn(self, key, table)
    )
    steps(model, cache, tiny.tokens(4, seed=1))
    assert max(rotated) <= 3


@pytest.mark.parametrize("count", [1, 2, 10])
def test_tokens_taken_back_and_others_given(models, count):
    ids, other = tiny.tokens(120), tiny.tokens(60, seed=1)
    results = []
    for model in models:
        cache = prefilled(model, ids[:, :90])
        steps(model, cache, ids[:, 90:])
        cache.crop(-count)
        model(other[:, :count], **{tiny.CACHE: cache})  # as long as it was
        cropped = [steps(model, cache, other[:, 10:20])]
        cache.crop(-60)
        cropped.append(steps(model, cache, other[:, 20:]))
        results.append(torch.cat(cropped, 1))
    torch.testing.assert_close(*results, **CLOSE)


def test_a_copied_cache_goes_its_own_way(models):
    ids, results = tiny.tokens(100), []
    for model in models:
        cache = prefilled(model, ids[:, :90])
        steps(model, cache, ids[:, 90:])
        fork = copy.deepcopy(cache)
        results.append(torch.cat([steps(model, c, tiny.tokens(9, seed=s)) for s, c in enumerate((cache, fork))], 1))
    torch.testing.assert_close(*results, **CLOSE)


def test_rows_that_change_places(models):
    ids, results = tiny.tokens(100, rows=2), []
    for model in models:
        cache = prefilled(model, ids[:1, :90])
        steps(model, cache, ids[:1, 90:])
        cache.batch_repeat_interleave(2)
        logits = [steps(model, cache, tiny.tokens(5, seed=2, rows=2))]
        cache.reorder_cache(torch.tensor([1, 0]))
        logits.append(steps(model, cache, tiny.tokens(5, seed=3, rows=2)))
        cache.batch_select_indices(torch.tensor([1]))
        logits.append(steps(model, cache, tiny.tokens(5, seed=4)).expand(2, -1, -1))
        results.append(torch.cat(logits, 1))
    torch.testing.assert_close(*results, **CLOSE)
