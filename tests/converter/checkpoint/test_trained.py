"""How far a model was trained to read, where `max_position_embeddings` does not say it."""

import json

import pytest

from ropext.converter.checkpoint.facts import facts_of
from ropext.converter.checkpoint.trained import trained_length
from ropext.converter.checkpoint.wanted import want
from ropext.converter.errors import UsageError
from tests.helpers.checkpoints import edit_config

SIZES = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "num_hidden_layers": 2,
    "head_dim": 16,
    "hidden_act": "silu",
    "rms_norm_eps": 1e-6,
    "vocab_size": 128,
    "rope_theta": 10000.0,
}
CLASSES = {
    "llama": "LlamaForCausalLM",
    "mistral": "MistralForCausalLM",
    "qwen2": "Qwen2ForCausalLM",
    "qwen3": "Qwen3ForCausalLM",
}
CHUNKS = {"chunk_size": 262144, "local_size": 8192, "original_max_position_embeddings": 262144}
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768}


def config(family, length, **keys):
    return {
        "model_type": family,
        "architectures": [CLASSES[family]],
        "max_position_embeddings": length,
        **SIZES,
        **keys,
    }


CASES = {
    "as it says": (config("llama", 8192), 8192, "max_position_embeddings", None),
    "qwen3": (config("qwen3", 40960), 32768, "adds 8192 for the answer", "--initial-window 40960"),
    "qwen3-2507": (config("qwen3", 262144), 262144, "max_position_embeddings", None),
    "mistral-nemo": (config("mistral", 1024000, sliding_window=None), 128000, "Nemo", "--initial-window 1024000"),
    "window": (config("mistral", 32768, sliding_window=4096), 4096, "slide over 4096", None),
    "vicuna-16k": (
        config("llama", 4096, rope_scaling={"type": "linear", "factor": 4.0}),
        16384,
        "a linear factor of 4",
        "--initial-window 4096",
    ),
    "linear, raised": (
        config("llama", 32768, rope_scaling={"type": "linear", "factor": 8.0}),
        32768,
        "max_position_embeddings",
        None,
    ),
    "qwen2.5-1m": (config("qwen2", 1010000, dual_chunk_attention_config=CHUNKS), 262144, "dual_chunk", None),
    "yarn": (config("qwen2", 131072, rope_scaling=YARN), 131072, "max_position_embeddings", "--initial-window 32768"),
    "odd": (config("llama", 200000), 200000, "max_position_embeddings", "no power of two"),
}


@pytest.mark.parametrize("name", CASES)
def test_trained_length(name):
    written, tokens, why, doubt = CASES[name]
    found = trained_length(written)
    assert found.tokens == tokens
    assert why in found.why
    assert (doubt in found.doubt) if doubt else not found.doubt
    assert found.tokens <= facts_of(written, "model").seen_length


def write(folder, name):
    (folder / "config.json").write_text(json.dumps(CASES[name][0]))
    return str(folder)


def test_what_is_taken_and_what_to_check(tmp_path):
    wanted = want(write(tmp_path, "qwen3"), "128k")
    assert (wanted.trained.tokens, wanted.target) == (32768, 131072)
    (note,) = wanted.notes
    assert note.startswith("taken as trained to 32768 tokens (Qwen3 was trained to 32768 tokens")
    assert not want(write(tmp_path, "qwen3"), "128k", "40960").notes
    assert want(write(tmp_path, "mistral-nemo"), "256k").trained.tokens == 128000


def test_a_target_below_it_says_where_it_comes_from(tmp_path):
    with pytest.raises(UsageError) as caught:
        want(write(tmp_path, "vicuna-16k"), "8k")
    assert "must be more than the 16384 tokens" in str(caught.value)
    assert "if 4096 counts the factor already: --initial-window 4096" in str(caught.value)


@pytest.mark.parametrize(("name", "window"), [("window", 8192), ("as it says", 16384), ("vicuna-16k", 32768)])
def test_more_than_it_can_have_seen_is_refused(tmp_path, name, window):
    with pytest.raises(UsageError, match=f"--initial-window {window}: "):
        want(write(tmp_path, name), "128k", window)


def test_a_preset_may_begin_at_the_stretched_length(run, tiny_llama):
    edit_config(tiny_llama, rope_scaling={"type": "linear", "factor": 4.0})
    run("convert", tiny_llama, "--method", "ntk", "--target", "1k", "-o", "out")
    run("convert", tiny_llama, "--method", "ntk", "--target", "1k", "--initial-window", "300", "-o", "x", status=2)


def test_inspect_says_it(run, tmp_path):
    report = json.loads(run("inspect", write(tmp_path, "qwen3"), "--json").stdout)
    assert report["trained_length"] == 40960
    assert report["trained"]["tokens"] == 32768
    text = run("inspect", tmp_path, "--initial-window", "16k").stdout
    assert "tokens 16384" in text
    assert "why --initial-window" in text
