"""Keys that are kept moved between decoding steps, through all that may happen to a cache in between."""

import copy

import pytest
import torch

from ropext.modeling import rope_ext_copies
from ropext.modeling.rope_ext_method import Method, Tokens
from ropext.modeling.rope_ext_notes import NOTES
from tests.helpers import tiny

pytestmark = pytest.mark.usefixtures("no_grad")
RECENT = ["self_extend", "dpe", "bands"]  # exact ones, beside a cache of far ones
CASES = ["dpe_top_k", "gali", "gali_grid", "gali_fraction", "gali_positions", "gali_activate", "jet_long", "lampe_step"]
CLOSE = {"atol": 2e-4, "rtol": 0}


def prefilled(model, ids):
    return model(ids, use_cache=True)[tiny.CACHE]


def steps(model, cache, ids):
    """Logits [T, vocabulary] of tokens given one at a time."""
    return torch.cat([model(ids[:, i : i + 1], **{tiny.CACHE: cache}).logits for i in range(ids.shape[1])], 1)


@pytest.fixture(params=[*CASES, *RECENT])
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
    assert kept(caches[0]).nbytes > 0


@pytest.mark.parametrize("name", RECENT)
def test_a_window_moves_to_the_beginning_of_its_memory(name, monkeypatch):
    """And the keys in it are those of the cache, turned back once."""
    monkeypatch.setattr(rope_ext_copies, "SLACK", 5)
    model, dense = tiny.converted(name), tiny.converted(name, "eager")
    ids, turned = tiny.tokens(150), []
    monkeypatch.setattr(
        Method, "_back", lambda self, *args, back=Method._back: turned.append(args) or back(self, *args)
    )
    cache, other = prefilled(model, ids[:, :90]), prefilled(dense, ids[:, :90])
    torch.testing.assert_close(steps(model, cache, ids[:, 90:]), steps(dense, other, ids[:, 90:]), **CLOSE)
    window = model.model.rope_ext_attachment.method.window
    assert kept(cache)._keys.shape[2] == window + 5
    assert len(turned) <= 2 * model.config.num_hidden_layers  # at the first step, in either model


def test_keys_kept_in_inference_mode_are_not_written_to_outside(models):
    ids, results = tiny.tokens(110), []
    for model in models:
        with torch.inference_mode():
            cache = prefilled(model, ids[:, :90])
            steps(model, cache, ids[:, 90:100])
        results.append(steps(model, cache, ids[:, 100:]))
    torch.testing.assert_close(*results, **CLOSE)


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
