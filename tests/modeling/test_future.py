"""What a converted model does on a transformers of tomorrow: it is right, or says what is wrong.

Each change is made to the transformers that is installed, under a version that this code has not been tested on.
"""

import pytest
import torch
import transformers
from transformers.models.llama import modeling_llama

from ropext.modeling.rope_ext_contacts import attention
from tests.helpers import tiny
from tests.helpers.tiny import generate

CASES = ["self_extend", "dpe", "dpe_top_k", "dca", "gali_grid", "jet_long", "string", "rerope_leaky"]
SAYS_SO = r"transformers 9\.9\.9"


@pytest.fixture(autouse=True)
def of_tomorrow(monkeypatch):
    from ropext.modeling import rope_ext_contacts, rope_ext_model, rope_ext_positions

    told = rope_ext_model.OTHER_VERSION.replace(transformers.__version__, "9.9.9")
    for module in (rope_ext_model, rope_ext_contacts, rope_ext_positions):
        monkeypatch.setattr(module, "OTHER_VERSION", told)
    monkeypatch.setattr("transformers.__version__", "9.9.9")


def answer(name, length=90):
    return generate(tiny.converted(name), tiny.tokens(length))


@pytest.mark.parametrize("name", CASES)
def test_nothing_has_changed(name, monkeypatch):
    found = answer(name)
    monkeypatch.undo()
    assert torch.equal(found, answer(name))


@pytest.mark.parametrize("name", CASES)
def test_a_cache_by_another_name(name, monkeypatch):
    """Found by its type: the same answer."""
    expected = answer(name)
    original = modeling_llama.LlamaAttention.forward

    def forward(self, hidden_states, position_embeddings=None, attention_mask=None, store=None, **kwargs):
        return original(self, hidden_states, position_embeddings, attention_mask, store, **kwargs)

    layer = modeling_llama.LlamaDecoderLayer.forward

    def renamed(self, *args, **kwargs):
        attend = self.self_attn.forward
        self.self_attn.forward = lambda *a, **k: attend(
            *a, **{"store" if n == tiny.CACHE else n: v for n, v in k.items()}
        )
        try:
            return layer(self, *args, **kwargs)
        finally:
            del self.self_attn.forward

    monkeypatch.setattr(modeling_llama.LlamaAttention, "forward", forward)
    monkeypatch.setattr(modeling_llama.LlamaDecoderLayer, "forward", renamed)
    assert torch.equal(answer(name), expected)


@pytest.mark.parametrize("name", CASES)
def test_a_cache_that_is_not_passed_on(name, monkeypatch):
    original = modeling_llama.LlamaAttention.forward

    def forward(self, *args, **kwargs):
        return original(self, *args, **{n: None if n == tiny.CACHE else v for n, v in kwargs.items()})

    monkeypatch.setattr(modeling_llama.LlamaAttention, "forward", forward)
    with pytest.raises((RuntimeError, ValueError), match=SAYS_SO):
        answer(name)


@pytest.mark.parametrize("name", CASES)
def test_a_cache_that_loses_keys(name, monkeypatch):
    original = transformers.DynamicCache.update

    def update(self, key, value, layer, *args, **kwargs):
        keys, values = original(self, key, value, layer, *args, **kwargs)
        return keys[:, :, -key.shape[2] :], values[:, :, -key.shape[2] :]

    monkeypatch.setattr(transformers.DynamicCache, "update", update)
    with pytest.raises((RuntimeError, ValueError), match=SAYS_SO):
        answer(name)


@pytest.mark.parametrize("name", CASES)
def test_rotary_modules_without_positions(name, monkeypatch):
    original = modeling_llama.LlamaRotaryEmbedding.forward

    def forward(self, x):
        return original(self, x, torch.arange(x.shape[1], device=x.device)[None])

    monkeypatch.setattr(modeling_llama.LlamaRotaryEmbedding, "forward", forward)
    model = modeling_llama.LlamaModel.forward

    def called(self, *args, **kwargs):
        embed = self.rotary_emb.__class__.__call__
        monkeypatch.setattr(self.rotary_emb.__class__, "__call__", lambda module, x, *a, **k: embed(module, x))
        return model(self, *args, **kwargs)

    monkeypatch.setattr(modeling_llama.LlamaModel, "forward", called)
    with pytest.raises((RuntimeError, ValueError), match=SAYS_SO):
        answer(name)


@pytest.mark.parametrize("name", CASES)
def test_attention_that_asks_nobody(name, monkeypatch):
    original = modeling_llama.LlamaAttention.forward

    def forward(self, *args, **kwargs):
        view, self.config = self.config, self.config.rope_ext_attachment.config
        try:
            return original(self, *args, **kwargs)
        finally:
            self.config = view

    monkeypatch.setattr(modeling_llama.LlamaAttention, "forward", forward)
    with pytest.raises((RuntimeError, ValueError), match=SAYS_SO):
        answer(name)


@pytest.mark.parametrize("name", CASES)
def test_an_argument_that_is_not_known(name, monkeypatch):
    from ropext.modeling import rope_ext_contacts

    def told_more(*args, **kwargs):
        return attention(*args, **kwargs, key_selection=torch.ones(1))

    monkeypatch.setattr(rope_ext_contacts, "attention", told_more)
    with pytest.raises((RuntimeError, ValueError), match="key_selection"):
        answer(name)


def test_what_is_wrong_is_said_at_each_forward(monkeypatch):
    model = tiny.converted("self_extend")
    monkeypatch.setattr(type(model.model.rope_ext_attachment.method.pairs), "rotate", lambda self, x, table: x)
    for _ in range(2):
        with pytest.raises(RuntimeError, match="rotates in another way"):
            model(tiny.tokens(90))
