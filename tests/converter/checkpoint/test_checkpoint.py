"""What a checkpoint folder may be, and what is refused of it."""

import itertools
import json
import struct

import pytest

from ropext.converter.checkpoint.description import base_inv_freq
from ropext.converter.checkpoint.facts import read_config, read_facts
from ropext.converter.checkpoint.read import read_checkpoint
from ropext.converter.errors import RopextError, UsageError
from ropext.converter.files import safetensors_header
from ropext.converter.hub import client as hub
from ropext.converter.hub.types import LocalSource
from tests.helpers.checkpoints import edit_config, shard, snapshot, write_index, write_shard

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
    edit_config(
        tiny_llama,
        _name_or_path="x",
        _attn_implementation_internal="evil/kernel",
        nested={"bits": 4, "_private": 1, "skip": [{"_deep": 1, "kept": 2}]},
        quantization_config={"quant_type": {"_type": "Int8WeightOnlyConfig"}},
    )
    config, dropped = read_config(tiny_llama)
    assert config["nested"] == {"bits": 4, "skip": [{"kept": 2}]}
    assert config["quantization_config"] == {"quant_type": {"_type": "Int8WeightOnlyConfig"}}
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
    ],
)
def test_scalings_that_are_refused(scaling, message):
    with pytest.raises(RopextError, match=message.removesuffix(": ?")):
        base_inv_freq({"model_type": "llama", "head_dim": 16, "rope_scaling": scaling})


# Files


def test_roles(tiny_llama):
    names = {
        "tokenizer": ["tokenizer.json", "tokenizer.model", "vocab.json", "merges.txt", "chat_template.jinja"],
        "license": ["LICENSE", "LICENSE.txt", "NOTICE", "USE_POLICY.md", "licence-model.pdf"],
        "other": [
            "training_args.bin",
            "model.onnx",
            "optimizer.pt",
            "weird.model.py",
            ".gitattributes",
            "x.gguf",
        ],
    }
    for name in itertools.chain(*names.values()):
        (tiny_llama / name).write_text("x")
    (tiny_llama / "original").mkdir()
    (tiny_llama / "additional_chat_templates").mkdir()
    (tiny_llama / "additional_chat_templates" / "tool.jinja").write_text("x")
    found = read_checkpoint(tiny_llama)
    roles = {file.path: file.role for file in found.files}
    for role in ("tokenizer", "license"):
        assert {name for name in roles if roles[name] == role} >= set(names[role])
    assert roles["additional_chat_templates/tool.jinja"] == "tokenizer"
    assert not set(names["other"]) & set(roles)
    assert found.notes == (f"left out: {', '.join(sorted([*names['other'], 'original']))}",)


def test_links_out_of_the_folder_are_refused(tiny_llama, tmp_path):
    secret = tmp_path / "secret"
    secret.write_text("x")
    (tiny_llama / "LICENSE").symlink_to(secret)
    with pytest.raises(RopextError, match=r"LICENSE: is a symbolic link to .*secret, outside the checkpoint"):
        read_checkpoint(tiny_llama)


def test_links_within_the_folder_are_followed(tiny_llama):
    (tiny_llama / "model.safetensors").rename(tiny_llama / "weights")
    (tiny_llama / "model.safetensors").symlink_to("weights")
    weights = read_checkpoint(tiny_llama).weights
    assert [file.real.name for file in weights] == ["weights"]


def test_download_cache_is_followed_and_recognised(tiny_llama, tmp_path):
    digest = "ab" * 32
    folder = snapshot(tiny_llama, tmp_path / "hub", {"model.safetensors": digest})
    shared = tmp_path / "shared"
    blob = folder.parent.parent / "blobs" / digest
    blob.rename(shared)
    blob.symlink_to(shared)
    (weights,) = read_checkpoint(folder).weights
    assert weights.real == shared
    assert weights.sha256 == digest
    assert hub.resolve(str(folder)) == LocalSource(folder, "org/tiny", "c" * 40)


# Weights


def test_shards(tiny_llama):
    shard(tiny_llama, count=3)
    found = read_checkpoint(tiny_llama)
    assert [file.path for file in found.weights][-1] == "model.safetensors.index.json"
    assert [file.role for file in found.weights] == ["weights"] * 3 + ["index"]


def test_single_file_wins_over_an_index(tiny_llama):
    (tiny_llama / "model.safetensors.index.json").write_text("{}")
    found = read_checkpoint(tiny_llama)
    assert [file.path for file in found.weights] == ["model.safetensors"]
    assert "index.json is left out" in found.notes[0]


def _cut(folder):
    file = next(folder.glob("*.safetensors"))
    file.write_bytes(file.read_bytes()[:-1])


def _append(folder):
    file = next(folder.glob("*.safetensors"))
    file.write_bytes(file.read_bytes() + b"x")


def _written(data):
    return lambda folder: (folder / "model.safetensors").write_bytes(data)


WEIGHT_FAULTS = {
    "not a safetensors file, or cut off .*not fully covered": _cut,
    "not a safetensors file, or cut off .*not fully covered.*; download it again": _append,
    "not a safetensors file, or cut off: 3 bytes": _written(b"abc"),
    "not a safetensors file, or cut off: 0 bytes": _written(b""),
    "its header claims 7": _written(struct.pack("<Q", 7) + b"{}"),
    "its header claims 18446744073709551615": _written(b"\xff" * 20),
    "Git LFS pointer.*git lfs pull": _written(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"),
}


@pytest.mark.parametrize("message", WEIGHT_FAULTS)
def test_weights_that_are_refused(tiny_llama, message):
    WEIGHT_FAULTS[message](tiny_llama)
    with pytest.raises(RopextError, match=message) as caught:
        read_checkpoint(tiny_llama)
    assert "model.safetensors" in str(caught.value)


def test_header_length_is_bounded(tiny_llama, monkeypatch):
    monkeypatch.setattr(safetensors_header, "MAX_HEADER_BYTES", 100)
    with pytest.raises(RopextError, match="its header claims 3056"):
        read_checkpoint(tiny_llama)


def test_truncated_shard_is_named(tiny_llama):
    shard(tiny_llama)
    file = tiny_llama / "model-00002-of-00002.safetensors"
    size = file.stat().st_size
    with file.open("r+b") as stream:
        stream.truncate(size - 5)
    with pytest.raises(RopextError, match=rf"{file.name}: not a safetensors file, or cut off"):
        read_checkpoint(tiny_llama)


@pytest.mark.parametrize(
    ("weight_map", "message"),
    [
        ({"a": "missing.safetensors"}, "names missing.safetensors, which is not there"),
        (
            {"a": "../model.safetensors"},
            "'../model.safetensors' is not the name of a safetensors file within",
        ),
        ({"a": "/etc/x.safetensors"}, "is not the name of"),
        ({"a": "..\\x.safetensors"}, "is not the name of"),
        ({"a": "config.json"}, "'config.json' is not the name of"),
        ({"a": 1}, "1 is not the name of"),
        ({}, "no weight_map"),
        ([], "no weight_map"),
        ({"a": "model-00001-of-00002.safetensors"}, "promises a, which it does not hold"),
    ],
)
def test_indices_that_are_refused(tiny_llama, weight_map, message):
    shard(tiny_llama)
    write_index(tiny_llama, weight_map)
    with pytest.raises(RopextError, match=message):
        read_checkpoint(tiny_llama)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("pytorch_model.bin", r"only pickles, which can run code \(pytorch_model.bin\)\..*save_pretrained"),
        ("consolidated.00.pth", "only pickles"),
        ("adapter_config.json", "PEFT adapter; merge it"),
        ("notes.txt", "found neither"),
    ],
)
def test_folders_without_safetensors(tiny_llama, name, message):
    (tiny_llama / "model.safetensors").unlink()
    (tiny_llama / name).write_text("x")
    with pytest.raises(RopextError, match=message):
        read_checkpoint(tiny_llama)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_type": "gpt2"}, "model_type 'gpt2' cannot be converted: it has no rotary positions"),
        ({"model_type": "lama"}, "model_type: 'lama' is not in ropext's table of model families; did you mean 'llama'"),
        ({"architectures": ["LlamaForNothing"]}, "'LlamaForNothing' cannot be extended; of llama there are"),
    ],
)
def test_unsupported_models(tiny_llama, changes, message):
    edit_config(tiny_llama, **changes)
    with pytest.raises(RopextError, match=message):
        read_checkpoint(tiny_llama)


def test_no_weights_are_read(tiny_llama, monkeypatch):
    """A terabyte of zeros: reading it would not end."""
    write_shard(tiny_llama / "model.safetensors", ["a", "b"], bytes_each=1 << 39)
    assert read_checkpoint(tiny_llama).weights[0].size > 1 << 40


# Sources


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("nowhere", "there is no such folder, and it is no Hub id"),
        ("a/b/c", "there is no such folder, and it is no Hub id"),
        ("", "there is no such folder"),
        ("../x", "there is no such folder"),
        ("a/../b", "there is no such folder"),
    ],
)
def test_sources_that_are_neither(source, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=message):
        hub.resolve(source)


def test_file_or_revision_in_place_of_a_folder(tiny_llama):
    with pytest.raises(UsageError, match="is a file; name the folder"):
        hub.resolve(str(tiny_llama / "config.json"))
    with pytest.raises(UsageError, match="local folder, so --revision main does not apply"):
        hub.resolve(str(tiny_llama), "main")


def test_folder_without_config(tmp_path):
    with pytest.raises(RopextError, match=r"no config.json: this is not a Hugging Face checkpoint"):
        read_checkpoint(tmp_path)


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (
            "GatedRepoError",
            "access to this model is gated: ask for access at https://.*org/name.*hf auth login",
        ),
        ("RepositoryNotFoundError", "no such folder here and no such model on the Hub.*hf auth login"),
        ("RevisionNotFoundError", "has no revision 'v9'"),
        ("LocalEntryNotFoundError", "not in the local cache; .* name a folder"),
        ("OfflineModeIsEnabled", "not in the local cache"),
        ("HfHubHTTPError", "the Hub answered: boom; try again later"),
        ("HFValidationError", "it is no Hub id: boom"),
    ],
)
def test_what_the_hub_answers(monkeypatch, error, message):
    errors = pytest.importorskip("huggingface_hub.errors")
    kind = getattr(errors, error)

    def refuse(*args, **kwargs):
        raise (kind.__new__(kind, "boom") if not issubclass(kind, ValueError | ConnectionError) else kind("boom"))

    monkeypatch.setattr("huggingface_hub.snapshot_download", refuse)
    monkeypatch.setattr(errors.HfHubHTTPError, "__str__", lambda self: "boom\nmore")
    with pytest.raises(RopextError, match=message):
        hub.resolve("org/name", "v9")


def test_offline(monkeypatch, tmp_path):
    constants = pytest.importorskip("huggingface_hub.constants")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(RopextError, match="org/name: HF_HUB_OFFLINE is set and the model is not in the local cache"):
        hub.resolve("org/name")


def test_download_is_pinned_to_the_commit(monkeypatch, tmp_path):
    pytest.importorskip("huggingface_hub")
    folder = tmp_path / "models--org--name" / "snapshots" / ("d" * 40)
    folder.mkdir(parents=True)
    asked = {}

    def download(repo_id, **kwargs):
        asked.update(kwargs, repo_id=repo_id)
        return str(folder)

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    assert hub.resolve("org/name", "main") == LocalSource(folder, "org/name", "d" * 40)
    assert asked["revision"] == "main"
    assert not any("bin" in pattern or "pth" in pattern for pattern in asked["allow_patterns"])


def test_json_reports_are_plain(tiny_llama):
    assert json.loads(json.dumps(vars(read_facts(str(tiny_llama)))))["head_dim"] == 16
