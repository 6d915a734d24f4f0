"""Bases that mean something else than they seem to, or bring what is not carried: refused, or left out and said."""

import json
import re

import pytest
from safetensors.torch import load_file, save_file

from ropext.converter.checkpoint.read import read_checkpoint
from ropext.converter.convert.api import convert_checkpoint
from ropext.converter.errors import RopextError
from ropext.converter.files.pickles import is_pickled
from ropext.converter.presets.load import load_preset
from tests.helpers.checkpoints import edit_config, write_index
from tests.helpers.tampered import PICKLES

YARN = {"rope_type": "yarn", "factor": 2.0, "original_max_position_embeddings": 32}
SEEN = "in which tokens see those after them"


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        ("is_causal", False, SEEN),
        ("is_causal", 0, SEEN),
        ("use_bidirectional_attention", True, SEEN),
        ("use_bidirectional_attention", "all", SEEN),
        ("bidirectional", True, SEEN),
        ("is_encoder_decoder", True, "only decoders"),
        ("add_cross_attention", True, "only decoders"),
        ("torch_dtype", "auto", "'auto' is no type of torch"),
        ("dtype", "auto", "'auto' is no type of torch"),
        ("dtype", ["float32"], "is no type of torch"),
        ("auto_map", {"AutoModelForCausalLM": "modeling_llama.Llama"}, "transformers has llama too: remove auto_map"),
        ("architectures", ["LlamaBiModel"], "cannot be extended"),
        ("original_max_position_embeddings", 8, None),
        ("rope_scaling", {"type": "linear", "rope_type": "yarn", "factor": 4.0}, r"rope_scaling.type: is 'linear' and"),
        ("rope_scaling", {"factor": 4.0}, "rope_scaling.factor: is 4.0, which unscaled RoPE does not read"),
        ("rope_scaling", YARN | {"truncate": None}, "rope_scaling.truncate: null is neither true nor false"),
        ("rope_scaling", YARN | {"truncate": "false"}, 'rope_scaling.truncate: "false" is neither true nor false'),
        ("quantization_config", ["gptq"], "quantization_config: expected the settings of one quantizer"),
        ("quantization_config", {"bits": 4}, "quantization_config.quant_method: is missing"),
    ],
)
def test_a_base_that_means_something_else(tiny_llama, key, value, says):
    edit_config(tiny_llama, **{key: value})
    if says is None:
        assert read_checkpoint(tiny_llama).facts.rope_type == "default"
        return
    with pytest.raises(RopextError, match=says):
        read_checkpoint(tiny_llama)


@pytest.mark.parametrize(
    ("keys", "places"),
    [
        ({"rope_scaling": {"rope_type": "default"}, "rope_parameters": {"rope_type": "linear", "factor": 4.0}},
         ("rope_scaling", "rope_parameters")),
        ({"rope_scaling": {"type": "linear", "factor": 4.0}, "rope_parameters": {"rope_type": "default"}},
         ("rope_scaling", "rope_parameters")),
        ({"rope_theta": 10000.0, "rope_parameters": {"rope_type": "default", "rope_theta": 5e5}},
         ("rope_theta", "rope_parameters")),
        ({"original_max_position_embeddings": 8,
          "rope_parameters": {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                              "original_max_position_embeddings": 32, "rope_theta": 10000.0}},
         ("original_max_position_embeddings", "rope_parameters")),
    ],
)  # fmt: skip
def test_two_spellings_that_contradict_each_other(tiny_llama, keys, places):
    config = json.loads((tiny_llama / "config.json").read_text())
    spelt = ("rope_theta", "rope_scaling", "rope_parameters")
    kept = {key: value for key, value in config.items() if key not in spelt}
    (tiny_llama / "config.json").write_text(json.dumps(kept | keys))
    with pytest.raises(RopextError) as refused:
        read_checkpoint(tiny_llama)
    assert all(place in str(refused.value) for place in places)
    assert "contradict each other" in str(refused.value)


@pytest.mark.parametrize(
    ("family", "keys", "says"),
    [
        ("qwen2", {"use_sliding_window": "false", "sliding_window": 8}, 'use_sliding_window: "false" is neither true'),
        ("mistral", {"sliding_window": 0}, "sliding_window: is 0, by which a layer would see no token"),
        ("qwen3", {"layer_types": ["chunked_attention"] * 3}, "'chunked_attention' is no kind of layer that qwen3 has"),
    ],
)
def test_windows_that_are_none(tiny_llama, family, keys, says):
    edit_config(tiny_llama, model_type=family, **keys)
    with pytest.raises(RopextError, match=says):
        read_checkpoint(tiny_llama)


def test_a_key_with_two_values(tiny_llama):
    file = tiny_llama / "config.json"
    file.write_text(file.read_text().replace("{", '{"rope_theta": 10000.0, ', 1))
    read_checkpoint(tiny_llama)
    file.write_text(file.read_text().replace("{", '{"rope_theta": 500000.0, ', 1))
    with pytest.raises(RopextError, match=r"config.json: not valid JSON: 'rope_theta' is given twice, with two values"):
        read_checkpoint(tiny_llama)


# Adapters, and weights of other names


def rename(folder, change):
    tensors = load_file(folder / "model.safetensors")
    renamed = {change(name): tensor.clone() for name, tensor in tensors.items() if change(name)}
    save_file(renamed, folder / "model.safetensors", {"format": "pt"})


def test_an_adapter_beside_the_weights(tiny_llama):
    (tiny_llama / "adapter_config.json").write_text("{}")
    with pytest.raises(RopextError, match="has a PEFT adapter beside its weights, which transformers applies"):
        read_checkpoint(tiny_llama)


def test_an_adapter_alone(tmp_path):
    (tmp_path / "adapter_config.json").write_text("{}")
    with pytest.raises(RopextError, match=r"is a PEFT adapter, and no model: .*merge it"):
        read_checkpoint(tmp_path)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda name: f"_orig_mod.{name}", "torch.compile"),
        (lambda name: f"module.{name}", "DistributedDataParallel"),
        (lambda name: f"base_model.model.{name}", "PEFT"),
        (lambda name: name.replace("q_proj.weight", "q_proj.base_layer.weight"), "PEFT"),
        (lambda name: f"_fsdp_wrapped_module.{name}", "FSDP"),
        (lambda name: "" if "layers.1." in name else name, "the weights of layer 1 are missing"),
        (lambda name: "" if "embed" in name else name, "the embeddings are missing"),
    ],
)
def test_weights_that_a_configuration_does_not_find(tiny_llama, change, says):
    rename(tiny_llama, change)
    with pytest.raises(RopextError, match=says):
        read_checkpoint(tiny_llama)


def test_a_head_that_is_missing(tiny_llama):
    edit_config(tiny_llama, tie_word_embeddings=False)
    rename(tiny_llama, lambda name: "" if "lm_head" in name else name)
    with pytest.raises(RopextError, match="lm_head is missing in its weights, and tie_word_embeddings is false"):
        read_checkpoint(tiny_llama)


def test_more_layers_than_weights(tiny_llama):
    edit_config(tiny_llama, num_hidden_layers=5)
    with pytest.raises(RopextError, match=r"layer 3 are missing, and of 1 more: the configuration asks for 5 layers"):
        read_checkpoint(tiny_llama)


def test_more_weights_than_layers_are_said(tiny_llama):
    edit_config(tiny_llama, num_hidden_layers=2)
    assert any("transformers leaves out layer 2" in note for note in read_checkpoint(tiny_llama).notes)


@pytest.mark.parametrize(
    ("lacking", "says"),
    [
        ("layers.1.self_attn.q_proj.weight", r"layers\.1|self_attn.q_proj.weight is missing in layer 1"),
        ("layers.2.mlp.", r"mlp.down_proj.weight \(and 2 more\) is missing in layer 2"),
        ("layers.0.input_layernorm", "input_layernorm.weight is missing in layer 0"),
        ("k_proj", "k_proj in every layer seems to be missing"),
        ("q_proj", "q_proj in every layer seems to be missing"),
        (".mlp.", "every feed-forward layer seems to be missing"),
        ("model.norm", "the norm after the last layer seems to be missing"),
    ],
)
def test_weights_that_layers_lack_are_said(tiny_llama, lacking, says):
    assert not any(note.startswith("weights:") for note in read_checkpoint(tiny_llama).notes)
    rename(tiny_llama, lambda name: "" if lacking in name else name)
    (note,) = (note for note in read_checkpoint(tiny_llama).notes if note.startswith("weights:"))
    assert re.search(says, note)


def test_what_the_index_does_not_say_of_its_files_is_said(tiny_llama):
    tensors = load_file(tiny_llama / "model.safetensors")
    (tiny_llama / "model.safetensors").unlink()
    first, second = ({n: tensors[n].clone() for n in tensors if ("layers" in n) is layers} for layers in (True, False))
    twice, unnamed = "model.embed_tokens.weight", "model.layers.0.self_attn.q_proj.weight"
    save_file(first | {twice: second[twice].clone()}, tiny_llama / "a.safetensors")
    save_file(second, tiny_llama / "b.safetensors")
    places = dict.fromkeys(first, "a.safetensors") | dict.fromkeys(second, "b.safetensors")
    write_index(tiny_llama, places)
    notes = read_checkpoint(tiny_llama).notes
    assert any(f"a.safetensors holds {twice}, and" in note and "another file" in note for note in notes)
    write_index(tiny_llama, {name: place for name, place in places.items() if name != unnamed})
    assert any(f"a.safetensors holds {unnamed}, which" in note for note in read_checkpoint(tiny_llama).notes)


def test_an_index_that_no_transformers_reads(tiny_llama):
    (tiny_llama / "model.safetensors").rename(tiny_llama / "a.safetensors")
    index = {"weight_map": {"lm_head.weight": "a.safetensors"}}
    (tiny_llama / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(RopextError, match="no metadata, without which transformers does not load it"):
        read_checkpoint(tiny_llama)


# What is not carried


@pytest.mark.parametrize("data", PICKLES.values(), ids=PICKLES)
@pytest.mark.parametrize("name", ["vocab.model", "LICENSE", "vocab.txt"])
def test_no_pickle_is_carried(tiny_llama, name, data):
    (tiny_llama / name).write_bytes(data)
    found = read_checkpoint(tiny_llama)
    assert name not in [file.path for file in found.files]
    assert any(note.startswith("left out:") and name in note for note in found.notes)


@pytest.mark.parametrize(
    "text",
    [
        b"Copyright\nmine\nR", b"copyright (c) us\nand them\nR", b"cats are animals\nso are dogs\nR.",
        b"", b"{}", b"[PAD]\n",
        b"\n\x0e\n\x05<unk>\x15\x00\x00\x00\x00\x18\x02", b"#version: 0.2\n\xc4\xa0 t\n",
        b"IQ== 0\nIg== 1\n", b"(MIT)\n.",
    ],
)  # fmt: skip
def test_text_is_no_pickle(text):
    assert not is_pickled(text)


def test_keys_of_elsewhere_are_dropped_and_said(tiny_llama, tiny_preset, tmp_path):
    edit_config(
        tiny_llama,
        custom_pipelines={"text-generation": {"impl": "evil/repo--mod.P"}},
        transformers_weights="other.safetensors",
        experts_implementation="evil/kernel",
    )
    settings = {
        "tokenizer_class": "X",
        "tokenizer_file": "/etc/passwd",
        "vocab_file": None,
        "name_or_path": "evil/repo",
    }
    (tiny_llama / "tokenizer_config.json").write_text(json.dumps(settings))
    (tiny_llama / "generation_config.json").write_text(json.dumps({"eos_token_id": 2, "custom_generate": "evil/repo"}))
    done = convert_checkpoint(load_preset(str(tiny_preset)), str(tiny_llama), tmp_path / "out")
    config, tokenizer, generation = (
        json.loads((done.output / name).read_text())
        for name in ("config.json", "tokenizer_config.json", "generation_config.json")
    )
    assert config.keys().isdisjoint(("custom_pipelines", "transformers_weights", "experts_implementation"))
    assert tokenizer.keys() == {"tokenizer_class", "vocab_file"}
    assert generation == {"eos_token_id": 2}
    said = "\n".join(done.plan.notes)
    for name in ("custom_pipelines", "transformers_weights", "tokenizer_file, name_or_path", "custom_generate"):
        assert name in said
