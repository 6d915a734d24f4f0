"""Everything `generate` does, on the tiny models."""

import pytest
import torch
import transformers
from packaging.version import Version

from ropext.modeling.rope_ext_geometry import Geometry
from tests import tiny

pytestmark = pytest.mark.usefixtures("no_grad")
NEW_TOKENS = 12
ONE_WAY = [name for name, case in tiny.CASES.items() if case.feeding]
TRANSFORMERS = Version(transformers.__version__)


def generate(model, ids, mask=None, **how):
    """The new tokens, [rows, NEW_TOKENS]."""
    how = {"do_sample": False, "max_new_tokens": NEW_TOKENS, "pad_token_id": 0} | how
    mask = torch.ones_like(ids) if mask is None else mask
    return model.generate(ids, attention_mask=mask, **how)[:, ids.shape[1] :]


def left_padded(*rows):
    width = max(row.shape[1] for row in rows)
    ids = torch.cat([torch.nn.functional.pad(row, (width - row.shape[1], 0)) for row in rows])
    mask = torch.stack([torch.arange(width) >= width - row.shape[1] for row in rows]).long()
    return ids, mask


@pytest.mark.parametrize("attn", ["eager", "sdpa"])
@pytest.mark.parametrize("name", tiny.CASES)
def test_each_row_of_a_padded_batch_is_as_if_alone(name, attn):
    model = tiny.converted(name, attn)
    rows = [tiny.tokens(length, seed=length) for length in (140, 61, 90, 9)]
    batch = generate(model, *left_padded(*rows))
    for row, together in zip(rows, batch, strict=True):
        assert torch.equal(generate(model, row)[0], together)


@pytest.mark.parametrize("name", tiny.CASES)
def test_beams_in_a_padded_batch(name):
    model = tiny.converted(name)
    rows = [tiny.tokens(length, seed=length) for length in (100, 70)]
    batch = generate(model, *left_padded(*rows), num_beams=3)
    for row, together in zip(rows, batch, strict=True):
        assert torch.equal(generate(model, row, num_beams=3)[0], together)


@pytest.mark.parametrize("how", [{}, {"num_beams": 3}, {"do_sample": True}], ids=["greedy", "beams", "sampling"])
@pytest.mark.parametrize("name", ONE_WAY)
def test_with_and_without_cache(name, how):
    model, ids = tiny.converted(name), tiny.tokens(75)
    results = []
    for use_cache in (True, False):
        torch.manual_seed(0)
        results.append(generate(model, ids, use_cache=use_cache, **how))
    assert torch.equal(*results)


@pytest.mark.parametrize("name", ONE_WAY)
def test_assisted_decoding_is_greedy_decoding(name):
    model, ids = tiny.converted(name), tiny.tokens(75)
    assert torch.equal(generate(model, ids), generate(model, ids, assistant_model=tiny.base()))


@pytest.mark.parametrize("name", ONE_WAY)
def test_prefill_in_chunks(name):
    model, ids = tiny.converted(name), tiny.tokens(90)
    chunked = generate(model, ids, prefill_chunk_size=32, past_key_values=transformers.DynamicCache())
    assert torch.equal(generate(model, ids), chunked)


def keeps_two_rotations(model):
    method, key = model.model._rope_ext_method, torch.zeros(1, 2, 1, 16)
    return method is not None and method.stored_key(key, key, Geometry(torch.zeros(1, 1), 0)).shape[-1] > 16


@pytest.mark.parametrize("name", tiny.CASES)
def test_static_cache(name):
    model = tiny.converted(name)
    if Version("5.0") > TRANSFORMERS and keeps_two_rotations(model):
        with pytest.raises(ValueError, match="static cache"):
            generate(model, tiny.tokens(90), cache_implementation="static", disable_compile=True)
        return
    ids, mask = left_padded(tiny.tokens(90), tiny.tokens(60, seed=1))
    static = generate(model, ids, mask, cache_implementation="static", disable_compile=True)
    assert torch.equal(generate(model, ids, mask), static)


@pytest.mark.parametrize("name", ["dpe", "gali", "dprope"])
def test_continuous_batching_is_refused(name):
    model = tiny.converted(name)
    for start in (model.generate_batch, model.init_continuous_batching):
        with pytest.raises(NotImplementedError, match="left-padded batch"):
            start([[5, 6, 7]])


@pytest.mark.parametrize("attn", ["flash_attention_2", "flex_attention"])
def test_backends_that_cannot_run_it_are_refused(attn):
    def run():
        model = tiny.converted("dpe")
        model.set_attn_implementation(attn)
        model.config._attn_implementation = attn  # transformers before 4.56 only warns
        model(tiny.tokens(5))

    with pytest.raises((ValueError, ImportError), match=r"not support|FlashAttention|use one of"):
        run()


def test_a_configuration_without_the_block_is_refused():
    from ropext.modeling.modeling_llama_ext import LlamaRopeExtConfig, LlamaRopeExtForCausalLM

    with pytest.raises(ValueError, match="no rope_ext block"):
        LlamaRopeExtForCausalLM(LlamaRopeExtConfig(num_hidden_layers=1))


@pytest.mark.parametrize(
    ("change", "message"),
    [({"format": 9}, "different versions of ropext"), ({"method": "yarn2"}, "this code has dca")],
)
def test_a_block_of_another_version_is_refused(change, message):
    from ropext.modeling.rope_ext_methods import build_method

    config = tiny.converted("dpe").config
    config.rope_ext = config.rope_ext | change
    with pytest.raises(ValueError, match=message):
        build_method(config)
