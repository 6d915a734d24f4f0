"""What a longer window changes of a tokenizer's settings."""

import json

import pytest

from ropext.converter.convert.tokenizer import adapt_tokenizer_config
from ropext.converter.errors import RopextError


@pytest.mark.parametrize(
    ("before", "changed"),
    [
        ({"tokenizer_class": "X", "model_max_length": 64}, {"model_max_length": 256}),
        ({"model_max_length": 64.0, "tokenizer_class": "X"}, {"model_max_length": 256}),
        (
            {"tokenizer_class": "X", "a": {"model_max_length": 1}, "chat_template": "é", "model_max_length": 1},
            {"model_max_length": 256},
        ),
        ({"tokenizer_class": None}, {"tokenizer_class": "LlamaTokenizerFast"}),
        ({"model_max_length": 64}, {"model_max_length": 256, "tokenizer_class": "LlamaTokenizerFast"}),
        ({}, {"tokenizer_class": "LlamaTokenizerFast"}),
    ],
)
def test_only_what_has_to_is_changed(before, changed):
    after = adapt_tokenizer_config(json.dumps(before), {"model_type": "llama"}, 256)
    assert json.loads(after) == {**before, **changed}
    assert list(json.loads(after))[: len(before)] == list(before)
    assert "\\u" not in after


@pytest.mark.parametrize(
    "text",
    [
        '{"tokenizer_class": "X", "model_max_length": 1000000000000000019884624838656}',
        '{"tokenizer_class": "X", "model_max_length": 256}',
        '{"tokenizer_class": "X", "model_max_length": null}',
        '{ "tokenizer_class" : "X" }',
    ],
)
def test_tokenizer_config_that_will_do_is_kept(text):
    assert adapt_tokenizer_config(text, {"model_type": "llama"}, 256) == text


def test_tokenizer_class_may_stand_in_the_model_config():
    config = {"model_type": "llama", "tokenizer_class": "X"}
    assert adapt_tokenizer_config("{}", config, 256) == "{}"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not valid JSON"),
        ("[]", "expected a JSON object"),
        ('{"auto_map": {"AutoTokenizer": ["x.Y", null]}}', "the tokenizer brings its own code"),
    ],
)
def test_tokenizer_configs_that_are_refused(text, message):
    with pytest.raises(RopextError, match=f"tokenizer_config.json: {message}"):
        adapt_tokenizer_config(text, {"model_type": "llama"}, 256)
