"""Keys in a cache that something else evicts, changes or masks, as kvpress does by hooks on the attention modules."""

import copy

import pytest
import torch
from transformers import DynamicCache

from tests.helpers import tiny

LENGTH = 150
EXACT_AND_FAR = ["string", "dpe_top_k", "gali_grid", "self_extend", "dca", "original"]
"""Methods whose caches hold exact keys, and those whose caches hold far ones."""


def halved(held):
    held.keys, held.values = held.keys[:, :, ::2], held.values[:, :, ::2]


def turned(held):
    """Keys of their number, as after a rotation to other positions."""
    held.keys = held.keys.roll(1, dims=-1)


def pruned(held):
    """In place, as ThinK does."""
    held.keys[..., 3] = 0.0


def pressed(model, cache, change, layers=(0, 1, 2)):
    """Let a change happen after the attention of some layers, while the context is read."""

    def after(module, args, output):
        change(cache.layers[module.layer_idx])

    return [model.model.layers[layer].self_attn.register_forward_hook(after) for layer in layers]


@pytest.mark.parametrize("change", [halved, turned, pruned])
@pytest.mark.parametrize("name", EXACT_AND_FAR)
def test_keys_that_are_evicted_or_changed_while_a_text_is_read_are_refused(name, change, no_grad):
    if (name, change) in (("original", turned), ("original", pruned)):
        pytest.skip("the base's own function reads, and its distances are in the keys")
    model, cache = tiny.converted(name), DynamicCache()
    model(tiny.tokens(8))  # the checks before the first forward
    hooks = pressed(model, cache, change)
    with pytest.raises(ValueError, match="evicted, changed or masked by something else, as kvpress does"):
        model(tiny.tokens(LENGTH), **{tiny.CACHE: cache})
    for hook in hooks:
        hook.remove()
    fresh = DynamicCache()  # the model itself is as it was
    model(tiny.tokens(LENGTH), **{tiny.CACHE: fresh})
    assert fresh.get_seq_length() == LENGTH


def test_one_layer_that_evicts_is_enough(no_grad):
    model, cache = tiny.converted("string"), DynamicCache()
    model(tiny.tokens(8))
    pressed(model, cache, halved, [2])
    with pytest.raises(ValueError, match="evicted"):
        model(tiny.tokens(LENGTH), **{tiny.CACHE: cache})


@pytest.mark.parametrize("name", EXACT_AND_FAR)
def test_keys_that_are_evicted_between_forwards_are_refused(name, no_grad):
    model, cache = tiny.converted(name), DynamicCache()
    model(tiny.tokens(LENGTH), **{tiny.CACHE: cache})
    for held in cache.layers:
        halved(held)
    with pytest.raises(ValueError, match="evicted"):
        model(tiny.tokens(1), position_ids=torch.tensor([[LENGTH]]), **{tiny.CACHE: cache})


@pytest.mark.parametrize("name", ["string", "self_extend"])
def test_keys_that_are_masked_for_single_heads_are_refused(name, no_grad):
    model, cache, ids = tiny.converted(name), DynamicCache(), tiny.tokens(LENGTH)
    model(ids, **{tiny.CACHE: cache})
    module = model.model.layers[1].self_attn
    module.masked_key_indices = torch.zeros(1, 3).long(), torch.zeros(1, 3).long(), torch.arange(3)[None]
    with pytest.raises(ValueError, match="masked by something else"):
        model(tiny.tokens(1), **{tiny.CACHE: cache})
    expected = tiny.converted(name)(ids).logits
    assert torch.equal(model(ids).logits, expected)  # of a text that begins anew they say nothing
    assert module.masked_key_indices is None


@pytest.mark.parametrize("name", ["string", "self_extend", "gali_grid"])
def test_a_cache_that_was_cropped_or_copied_goes_on(name, no_grad):
    model, ids = tiny.converted(name), tiny.tokens(LENGTH)
    expected = model(ids).logits[:, -20:]
    cache = DynamicCache()
    model(ids, **{tiny.CACHE: cache})
    copied = copy.deepcopy(cache)
    for each in (copied, cache):
        each.crop(-20)
        actual = model(ids[:, -20:], **{tiny.CACHE: each}).logits
        torch.testing.assert_close(actual, expected, atol=1e-4, rtol=1e-4)


def test_a_frequency_method_lets_keys_be_evicted(no_grad):
    model, cache = tiny.converted("yarn"), DynamicCache()
    model(tiny.tokens(8))
    pressed(model, cache, halved)
    model(tiny.tokens(LENGTH), **{tiny.CACHE: cache})
    assert cache.get_seq_length() == LENGTH // 2
