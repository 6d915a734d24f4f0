"""Long texts in pieces: the same answers, losses and continuations, and whole where pieces would be another text."""

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, DynamicCache

from ropext.converter.evaluation.run import reading
from ropext.converter.evaluation.run.transformers_model import SwitchableModel
from tests.helpers import tiny
from tests.helpers.asked import tokenizer, with_tokenizer

from .test_evaluation import preset, text_of

CUT = ["original", "dpe", "self_extend", "rerope"]
WHOLE = ["gali", "jet_long", "dca", "dynamic_ntk", "yarn"]


@pytest.fixture
def short_pieces(monkeypatch):
    """Pieces of 32 tokens from 100 tokens on."""
    monkeypatch.setattr(reading, "LONG", 100)
    monkeypatch.setattr(reading, "PIECE", 32)


def told(model, prompt, text):
    """What is asked of a model about long texts, and how many tokens came in each forward of its decoder."""
    counts = []
    hook = model.model.base_model.register_forward_pre_hook(
        lambda module, args, kwargs: counts.append((kwargs.get("input_ids", args[0] if args else None)).shape[1]),
        with_kwargs=True,
    )
    answers = model.answers(prompt)
    losses, again = model.losses_and_answers(prompt, 3)
    written = model.continuation(text, 5)
    hook.remove()
    return [each.log_probability for each in (*answers, *again)] + losses, written, counts


def compared(model, short_long):
    """The same, read whole and in pieces."""
    prompt, text = text_of(161, questions=2), tokenizer().decode(tiny.tokens(150)[0])
    whole = told(model, prompt, text)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reading, "LONG", short_long)
        patch.setattr(reading, "PIECE", 32)
        return whole, told(model, prompt, text)


@pytest.mark.parametrize("method", [*CUT, *WHOLE])
def test_what_is_read_in_pieces_is_answered_alike(method, tiny_llama, no_grad):
    model = SwitchableModel(with_tokenizer(tiny_llama))
    parameters = {"parameters": {"chunk_size": 48, "local_window": 8, "temperature": True}} if method == "dca" else {}
    model.use(preset(method, **parameters))
    (numbers, written, _), (others, same, counts) = compared(model, 100)
    assert others == pytest.approx(numbers, abs=2e-4 if method in CUT else 0)
    assert written == same
    assert (max(counts) == 32) == (method in CUT)
    assert counts.count(1) > 0  # the last piece of 161 tokens, or a token that is written


def test_layers_that_slide_are_answered_alike(tmp_path, no_grad):
    torch.manual_seed(0)
    sizes = {"hidden_size": 48, "intermediate_size": 64, "num_hidden_layers": 3, "num_attention_heads": 4}
    kinds = ["sliding_attention", "full_attention", "sliding_attention"]
    config = AutoConfig.for_model(
        "gemma3_text", **sizes, num_key_value_heads=2, head_dim=16, vocab_size=128, sliding_window=24, layer_types=kinds
    )
    stock = AutoModelForCausalLM.from_config(config)
    stock.generation_config.eos_token_id = 2
    stock.save_pretrained(tmp_path)
    (numbers, written, _), (others, same, counts) = compared(SwitchableModel(with_tokenizer(tmp_path)), 100)
    assert others == pytest.approx(numbers, abs=2e-4)
    assert (written, max(counts)) == (same, 32)


def test_frequencies_that_depend_on_the_length_are_read_at_once(short_pieces):
    stock = tiny.base()
    assert not reading.is_cut(stock, 101)  # no layer has a window
    stock.config.sliding_window = 24
    assert reading.is_cut(stock, 101)
    assert not reading.is_cut(stock, 100)
    for kind, cut in (("dynamic", False), ("longrope", False), ("yarn", True)):
        stock.config.rope_parameters = {"rope_type": kind, "factor": 2.0, "rope_theta": 10000.0}
        assert reading.is_cut(stock, 101) == cut
    for other, cut in (("full", False), ("sliding", True), ("linear", False)):
        stock.config.layer_types = [f"{other}_attention", "full_attention", "full_attention"]
        assert reading.is_cut(stock, 101) == cut


def test_a_text_is_cut_into_pieces_in_order(short_pieces, no_grad):
    stock, cache = tiny.base(), DynamicCache()
    stock.config.sliding_window = 1000
    pieces = list(reading.read(stock, tiny.tokens(130), cache))
    places = [(start, output.last_hidden_state.shape[1]) for start, output in pieces]
    assert places == [(0, 32), (32, 32), (64, 32), (96, 32), (128, 2)]
    assert cache.get_seq_length() == 130
    whole = stock.model(tiny.tokens(130)).last_hidden_state[:, -2:]
    torch.testing.assert_close(pieces[-1][1].last_hidden_state, whole, atol=1e-5, rtol=1e-5)
