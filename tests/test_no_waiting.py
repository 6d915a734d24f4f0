"""A decoding step never waits for its device: on `meta`, where tensors hold nothing, to ask one for a number fails."""

import pytest
import torch
from transformers import DynamicCache, StaticCache

from tests import tiny

pytestmark = pytest.mark.usefixtures("no_grad")
# The mask of a forward that is the base's own is made by transformers, which asks it.
METHODS = ["dca", "dca_activate", "dpe", "dpe_activate", "dpe_top_k", "gali", "gali_grid", "gali_noise", "jet_long"]
METHODS += ["rerope", "self_extend", "self_extend_uneven", "string"]


def to_meta(model, cache):
    """As if both were on an accelerator."""
    for layer in cache.layers:
        for name, value in vars(layer).items():
            if isinstance(value, torch.Tensor):
                setattr(layer, name, value.to("meta"))
        layer.device = torch.device("meta")
    return model.to("meta")


@pytest.mark.parametrize("padding", [0, 9])
@pytest.mark.parametrize("name", METHODS)
def test_dynamic_cache(name, padding):
    model, ids = tiny.converted(name), tiny.tokens(100, rows=2)
    mask = torch.ones(2, 102, dtype=torch.long)
    mask[1, :padding] = 0
    cache = model(ids, attention_mask=mask[:, :100], **{tiny.CACHE: DynamicCache()})[tiny.CACHE]
    model = to_meta(model, cache)
    for end in (101, 102):
        step = {"attention_mask": mask[:, :end].to("meta"), tiny.CACHE: cache}
        position = torch.full((2, 1), end - 1, device="meta")
        assert model(ids[:, :1].to("meta"), position_ids=position, **step).logits.is_meta


@pytest.mark.parametrize("padding", [0, 9])
def test_what_a_prefill_found_spares_the_steps_their_mask(padding):
    model, ids = tiny.converted("self_extend"), tiny.tokens(100, rows=2)
    mask = torch.ones(2, 101, dtype=torch.long)
    mask[1, :padding] = 0
    cache = model(ids, attention_mask=mask[:, :100], **{tiny.CACHE: DynamicCache()})[tiny.CACHE]
    dense = []
    method = model.model._rope_ext_method
    method.dense = lambda tokens: dense.append(tokens) or type(method).dense(method, tokens)
    model = to_meta(model, cache)
    model(ids[:, :1].to("meta"), attention_mask=mask.to("meta"), **{tiny.CACHE: cache})
    assert bool(dense) == bool(padding)


@pytest.mark.parametrize("name", METHODS)
def test_static_cache(name):
    model, ids = tiny.converted(name), tiny.tokens(100)
    cache = StaticCache(config=model.config, max_cache_len=110)
    model(ids, **{tiny.CACHE: cache})
    if not isinstance(cache.get_seq_length(), torch.Tensor):
        pytest.skip("this version of transformers asks the cache for its length itself")
    model = to_meta(model, cache)
    assert model(ids[:, :1].to("meta"), **{tiny.CACHE: cache}).logits.is_meta
