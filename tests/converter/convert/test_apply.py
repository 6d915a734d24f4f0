"""`apply`: a method on a loaded model is what a conversion would be, and leaves no trace."""

import json
import warnings

import pytest
import torch
from transformers import MistralConfig, MistralForCausalLM

from ropext.converter.convert.api import convert_checkpoint
from ropext.converter.convert.apply import apply
from ropext.converter.errors import InvalidPreset, RopextError, UsageError
from ropext.converter.model_classes import configuration_class, model_class
from ropext.converter.presets.load import load_preset
from ropext.modeling.rope_ext_model import decoder_of
from tests.helpers import families, tiny, zoo
from tests.modeling.test_loading import preset_file

pytestmark = pytest.mark.usefixtures("no_grad")
METHODS = {
    "self_extend": {"group_size": 6, "local_window": 16},
    "gali": {"chunk_size": 24, "local_window": 8},
    "yarn": {},
    "dynamic_ntk": {},
    "original": {},
}


def preset(folder, method, **parameters):
    return load_preset(str(preset_file(folder, f"tiny-{method}", method, METHODS.get(method, {}) | parameters)))


def converted(family, base, by, folder):
    """The model of a folder that the command wrote, of the classes that it ships."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        base.save_pretrained(folder / "base")
    output = convert_checkpoint(by, str(folder / "base"), folder / "converted").output
    config = configuration_class(family)(**json.loads((output / "config.json").read_text()))
    model = model_class(family, by.method).from_pretrained(output, config=config).eval()
    model.generation_config.eos_token_id = None
    return model


def generated(model, ids):
    """The tokens that follow, by a cache of the model's own."""
    model.generation_config.eos_token_id = None
    return tiny.generate(model, ids, max_new_tokens=5, eos_token_id=None)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("family", ["llama", "gemma3_text"])
def test_is_the_converted_model_and_then_the_base_again(family, method, tmp_path):
    base, by = zoo.build(family), preset(tmp_path, method)
    other = converted(family, zoo.build(family), by, tmp_path)
    short, long = zoo.inputs(family, 12)["input_ids"], zoo.inputs(family, 150)["input_ids"]
    before = base(long).logits, base(short).logits, generated(base, long)
    with apply(base, by):
        assert torch.equal(base(long).logits, other(long).logits)
        assert torch.equal(base(short).logits, other(short).logits)
        assert torch.equal(generated(base, long), generated(other, long))
        assert torch.equal(base(long).logits, before[0]) == (method == "original")
    after = base(long).logits, base(short).logits, generated(base, long)
    assert all(map(torch.equal, before, after))


def test_acts_on_the_layers_with_full_attention_alone(tmp_path):
    model = zoo.build("gemma3_text")
    with apply(model, preset(tmp_path, "self_extend")) as applied:
        assert applied.attachment.layers == {1, 3}


def test_may_be_taken_off_by_hand_and_another_put_on(tmp_path):
    model, ids = tiny.base(), tiny.tokens(120)
    before = model(ids).logits
    first = apply(model, preset(tmp_path, "self_extend"))
    there = model(ids).logits
    first.remove()
    second = apply(model, preset(tmp_path, "yarn"))
    assert not torch.equal(model(ids).logits, there)
    first.remove()  # is off already, and leaves the second alone
    assert not torch.equal(model(ids).logits, before)
    second.remove()
    second.remove()
    assert torch.equal(model(ids).logits, before)


def test_is_taken_off_after_an_error(tmp_path):
    model, ids = tiny.base(), tiny.tokens(120)
    before = model(ids).logits
    with pytest.raises(ZeroDivisionError), apply(model, preset(tmp_path, "self_extend")):
        raise ZeroDivisionError
    assert torch.equal(model(ids).logits, before)


def test_takes_a_model_without_its_head_and_the_file_of_a_preset(tmp_path):
    model, ids = tiny.base(), tiny.tokens(120)
    file = preset_file(tmp_path, "tiny-self_extend", "self_extend", METHODS["self_extend"])
    with apply(model, file):
        expected = model.model(ids).last_hidden_state
    with apply(model.model, file):
        assert torch.equal(model.model(ids).last_hidden_state, expected)


@pytest.mark.parametrize("family", ["llama", "gemma3_text"])
def test_a_preset_that_does_not_fit(family, tmp_path):
    model = zoo.build(family)
    file = preset_file(tmp_path, "tiny-self_extend", "self_extend", METHODS["self_extend"])
    too_long = load_preset(str(file), ["initial_window=1024", "target_window=2048"])
    with pytest.raises(InvalidPreset, match="initial_window"):
        apply(model, too_long)
    with pytest.raises(InvalidPreset, match="head_dim"):
        apply(model, load_preset(str(file), ['requires={"head_dim": 80}']))
    assert not hasattr(decoder_of(model), "rope_ext_attachment")


def test_applied_twice(tmp_path):
    model, ids = tiny.base(), tiny.tokens(120)
    with apply(model, preset(tmp_path, "self_extend")):
        once = model(ids).logits
        with pytest.raises(UsageError, match="the model has a method already"):
            apply(model, preset(tmp_path, "yarn"))
        assert torch.equal(model(ids).logits, once)


def test_a_converted_model(tmp_path):
    for name in ("self_extend", "yarn"):
        with pytest.raises(UsageError, match="it was converted"):
            apply(tiny.converted(name), preset(tmp_path, "yarn"))


def test_a_family_that_cannot_be_done(tmp_path):
    with pytest.raises(RopextError, match="model_type 'cohere2' cannot be converted"):
        apply(zoo.build("cohere2"), preset(tmp_path, "self_extend"))


def test_layers_that_all_slide(tmp_path):
    config = MistralConfig(**families.arguments("mistral") | {"sliding_window": 64})
    model = MistralForCausalLM(config)
    with pytest.raises(UsageError, match=r"sliding window of 64 tokens\. Load it with sliding_window=None"):
        apply(model, preset(tmp_path, "self_extend"))


def test_a_method_that_fails_its_test_is_taken_off(tmp_path, monkeypatch):
    from ropext.modeling import rope_ext_model

    def fail(decoder):
        raise RuntimeError("differs")

    monkeypatch.setenv("ROPEXT_SELF_TEST", "1")
    monkeypatch.setattr(rope_ext_model, "self_test", fail)
    model, ids = tiny.base(), tiny.tokens(120)
    before = model(ids).logits
    with pytest.raises(RuntimeError, match="differs"):
        apply(model, preset(tmp_path, "self_extend"))
    assert torch.equal(model(ids).logits, before)
