"""The files of a base: what each is there for, and weights that are refused."""

import itertools
import struct

import pytest

from ropext.converter.checkpoint.read import read_checkpoint
from ropext.converter.errors import RopextError
from ropext.converter.files import safetensors_header
from ropext.converter.hub import client as hub
from ropext.converter.hub.types import LocalSource
from tests.helpers.checkpoints import edit_config, shard, snapshot, write_index, write_shard


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


def test_links_in_a_circle_are_refused(tiny_llama):
    (tiny_llama / "model.safetensors").unlink()
    (tiny_llama / "model.safetensors").symlink_to("b")
    (tiny_llama / "b").symlink_to("model.safetensors")
    with pytest.raises(RopextError, match=r"model.safetensors: its symbolic links lead in a circle"):
        read_checkpoint(tiny_llama)


def test_links_within_the_folder_are_followed(tiny_llama):
    (tiny_llama / "model.safetensors").rename(tiny_llama / "weights")
    (tiny_llama / "model.safetensors").symlink_to("weights")
    weights = read_checkpoint(tiny_llama).weights
    assert [file.real.name for file in weights] == ["weights"]


def test_download_cache_is_followed_and_recognised(tiny_llama, tmp_path):
    digest = "ab" * 32
    folder = snapshot(tiny_llama, tmp_path / "hub", {"model.safetensors": digest})
    blob = folder.parent.parent / "blobs" / digest
    (weights,) = read_checkpoint(folder).weights
    assert weights.real == blob
    assert weights.sha256 == digest
    assert hub.resolve(str(folder)) == LocalSource(folder, "org/tiny", "c" * 40)


@pytest.mark.parametrize("linked", ["file", "folder"])
def test_a_second_hop_leads_nowhere(tiny_llama, tmp_path, linked):
    digest = "ab" * 32
    folder = snapshot(tiny_llama, tmp_path / "hub", {"model.safetensors": digest})
    blob = folder.parent.parent / "blobs" / digest
    moved = blob if linked == "file" else blob.parent
    moved.rename(tmp_path / "shared")
    moved.symlink_to(tmp_path / "shared")
    with pytest.raises(RopextError, match=r"is a symbolic link to .*shared.*, outside the checkpoint"):
        read_checkpoint(folder)


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
        ("adapter_config.json", "has a PEFT adapter beside its weights"),
        ("notes.txt", "found neither"),
        ("model-00001-of-00002.safetensors", "found only model-00001-of-00002.safetensors: without the index"),
        ("model.fp16.safetensors", "found only model.fp16.safetensors, which transformers does not load by itself"),
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


def test_folder_without_config(tmp_path):
    with pytest.raises(RopextError, match=r"no config.json: this is not a Hugging Face checkpoint"):
        read_checkpoint(tmp_path)
