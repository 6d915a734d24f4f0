"""What a checkpoint folder may be, and what is refused of it."""

import json
import struct

import pytest

from ropext.converter.checkpoint.description import base_inv_freq
from ropext.converter.checkpoint.facts import read_config, read_facts
from ropext.converter.checkpoint.read import read_checkpoint
from ropext.converter.errors import RopextError
from tests.helpers.checkpoints import edit_config

LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}


LONGROPE = {"rope_type": "longrope", "short_factor": [1.0] * 8, "original_max_position_embeddings": 64}

# Facts


def test_facts(tiny_llama):
    facts = read_facts(str(tiny_llama))
    assert (facts.model_type, facts.architecture, facts.source) == (
        "llama",
        "LlamaForCausalLM",
        str(tiny_llama),
    )
    assert (facts.head_dim, facts.num_hidden_layers, facts.num_attention_heads) == (16, 3, 4)
    assert (facts.num_key_value_heads, facts.rope_theta, facts.rope_type) == (2, 10000.0, "default")
    assert facts.trained_length == 64


def test_both_spellings_say_the_same(tiny_llama):
    edit_config(tiny_llama, rope_theta=500000, rope_scaling={**LLAMA3, "type": "llama3"})
    old = read_facts(str(tiny_llama))
    edit_config(tiny_llama, rope_theta=None, rope_scaling=None, rope_parameters={**LLAMA3, "rope_theta": 500000.0})
    assert read_facts(str(tiny_llama)) == old
    assert (old.rope_theta, old.rope_type) == (500000.0, "llama3")


def test_what_llama_leaves_out(tiny_llama):
    edit_config(tiny_llama, head_dim=None, num_key_value_heads=None, rope_theta=None, rope_scaling=None)
    facts = read_facts(str(tiny_llama))
    assert (facts.head_dim, facts.num_key_value_heads, facts.rope_theta) == (16, 4, 10000.0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rope_ext": {}}, "has been converted by ropext already"),
        ({"auto_map": {"AutoConfig": "x.Y"}}, "brings its own code.* transformers has llama too: remove auto_map"),
        ({"model_type": "kimi", "auto_map": {"AutoConfig": "x.Y"}}, "start from one whose model class is part of"),
        ({"partial_rotary_factor": 0.5}, "partial_rotary_factor: is 0.5, but llama turns whole heads"),
        ({"rope_parameters": {"partial_rotary_factor": 0.5}}, "is 0.5, but llama turns whole heads"),
        ({"model_type": "phi3", "partial_rotary_factor": 1.5}, "partial_rotary_factor: is 1.5"),
        ({"model_type": "phi3", "partial_rotary_factor": "0.5"}, "partial_rotary_factor: '0.5' is not a positive"),
        ({"model_type": "phi3", "partial_rotary_factor": 0.2}, "0.2 of 16 dimensions: 3 is not positive and even"),
        (
            {"model_type": "phi3", "partial_rotary_factor": 0.5, "rope_parameters": {"partial_rotary_factor": 0.75}},
            "config.json: partial_rotary_factor is 0.5, but .* part of each head is 0.75: they contradict each other",
        ),
        (
            {"rope_parameters": {"full_attention": {"rope_type": "default"}}},
            "one dictionary for each layer type, which llama does not read",
        ),
        (
            {"rope_parameters": {"rope_theta": 5.0}},
            "rope_theta is 10000, but by rope_parameters RoPE's base is 5: .*contradict",
        ),
        ({"rope_scaling": LLAMA3, "rope_parameters": {"rope_type": "linear", "factor": 2.0}}, "contradict"),
        ({"rope_scaling": {"rope_type": 7}}, "rope_type: 7 is not a name"),
        ({"rope_theta": -1}, "rope_theta: -1 is not a positive number"),
        ({"rope_theta": "10000"}, "rope_theta: '10000' is not"),
        ({"rope_theta": 1e300}, "rope_theta: 1e\\+300 is not"),
        ({"head_dim": 15}, "head_dim: 15 is not a positive even"),
        ({"num_hidden_layers": 0}, "num_hidden_layers: 0 is not"),
        ({"num_attention_heads": True}, "num_attention_heads: True is not"),
        ({"max_position_embeddings": "64"}, "max_position_embeddings: '64' is not"),
        ({"architectures": []}, "architectures: expected one class name"),
        ({"model_type": "../llama"}, "model_type: '../llama' does not name"),
    ],
)
def test_configurations_that_are_refused(tiny_llama, changes, message):
    edit_config(tiny_llama, **changes)
    with pytest.raises(RopextError, match=message) as caught:
        read_facts(str(tiny_llama))
    assert str(tiny_llama) in str(caught.value)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "not valid JSON"),
        (b"{", "not valid JSON"),
        (b"\xff\xfe{", "not valid JSON"),
        (b"[" * 100_000, "not valid JSON"),
        (b"[]", "expected a JSON object, found list"),
    ],
)
def test_config_that_is_no_object(tiny_llama, data, message):
    (tiny_llama / "config.json").write_bytes(data)
    with pytest.raises(RopextError, match=message):
        read_facts(str(tiny_llama))


def test_private_keys_are_dropped_at_every_level(tiny_llama):
    quantization = {"quant_method": "torchao", "quant_type": {"_type": "Int8WeightOnlyConfig"}}
    edit_config(
        tiny_llama,
        _name_or_path="x",
        _attn_implementation_internal="evil/kernel",
        nested={"bits": 4, "_private": 1, "skip": [{"_deep": 1, "kept": 2}]},
        quantization_config=quantization,
    )
    config, dropped = read_config(tiny_llama)
    assert config["nested"] == {"bits": 4, "skip": [{"kept": 2}]}
    assert config["quantization_config"] == quantization
    assert dropped == ["_name_or_path", "_attn_implementation_internal", "nested._private", "nested.skip._deep"]
    assert "_attn_implementation_internal" in read_checkpoint(tiny_llama).notes[0]


# Frequencies


@pytest.mark.parametrize("theta", [10000.0, 100000.0, 500000.0])
@pytest.mark.parametrize("head_dim", [16, 64, 128])
@pytest.mark.parametrize("scaling", [None, {"rope_type": "linear", "factor": 4.0}, LLAMA3])
def test_frequencies_are_those_of_transformers(theta, head_dim, scaling):
    transformers = pytest.importorskip("transformers")
    from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

    config = transformers.LlamaConfig(
        hidden_size=2 * head_dim,
        num_attention_heads=2,
        head_dim=head_dim,
        max_position_embeddings=131072,
        rope_theta=theta,
        rope_scaling=dict(scaling) if scaling else None,
    )
    expected = LlamaRotaryEmbedding(config).inv_freq.tolist()
    ours = base_inv_freq({"model_type": "llama", "head_dim": head_dim, "rope_theta": theta, "rope_scaling": scaling})
    assert ours == pytest.approx(expected, rel=2e-7, abs=0)
    assert [struct.unpack("f", struct.pack("f", value))[0] for value in ours] == ours


@pytest.mark.parametrize(
    ("scaling", "message"),
    [
        ({"rope_type": "dynamic", "factor": 2.0}, "'dynamic' .* change with the length of each prompt. Nearest: up to"),
        ({"rope_type": "dynamic", "alpha": 1000.0}, "Nearest: .* rope_theta 26826957.9.* with rope_type 'default'"),
        ({"type": "yarn", "factor": "2"}, "rope_scaling.factor: '2' is not a positive number"),
        ({"rope_type": "longrope", "short_factor": [1.0]}, "short_factor: expected a list of 8 numbers"),
        ({**LONGROPE, "long_factor": [2.0] * 8}, "'longrope' .* picks one by the length of each prompt. Nearest: with"),
        ({"rope_type": "new"}, "'new' .* ropext does not know it: ?"),
        ({"rope_type": "linear"}, "rope_scaling.factor: None is not a positive number"),
        ({**LLAMA3, "high_freq_factor": 1.0}, "high_freq_factor: has to exceed"),
        ({**LLAMA3, "factor": 1e-9}, "a pair turns 8.99e.05 radians from token to token"),
    ],
)
def test_scalings_that_are_refused(scaling, message):
    with pytest.raises(RopextError, match=message.removesuffix(": ?")):
        base_inv_freq({"model_type": "llama", "head_dim": 16, "rope_scaling": scaling})


def test_key_heads_that_query_heads_cannot_share_are_refused(tiny_llama):
    edit_config(tiny_llama, num_key_value_heads=13)
    with pytest.raises(RopextError, match="num_key_value_heads: 13 cannot be shared evenly by 4 query heads"):
        read_facts(str(tiny_llama))


def test_json_reports_are_plain(tiny_llama):
    assert json.loads(json.dumps(vars(read_facts(str(tiny_llama)))))["head_dim"] == 16
