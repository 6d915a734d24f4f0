"""Files made to do harm: one clear message, nothing run, nothing written, in bounded time and memory.

Most of these were found by `python -m tools.fuzz`.
"""

import json
import os
import pickle
import resource
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from ropext.converter.errors import RopextError
from ropext.converter.files import json_object
from tests.helpers.checkpoints import shard, write_header, write_index
from tests.helpers.refusals import refused

ROOT = Path(__file__).parents[2]


def edit(folder, name, **changes):
    file = folder / name
    text = json.dumps(json.loads(file.read_text()) | {key: f"<{key}>" for key in changes})
    for key, raw in changes.items():
        text = text.replace(f'"<{key}>"', raw)
    file.write_bytes(text.encode("utf-8", "surrogatepass"))


# Configurations


@pytest.mark.parametrize(
    ("key", "raw", "message"),
    [
        ("model_type", "{}", "does not name a model family"),
        ("model_type", "[[]]", "does not name a model family"),
        ("rope_theta", "1e-320", "rope_theta"),
        ("rope_theta", "1", "rope_theta"),
        ("rope_theta", "3.4028235677973366e38", "rope_theta"),
        ("rope_theta", "9" * 400, "rope_theta"),
        ("rope_theta", "9" * 5000, "not valid JSON"),
        ("rope_theta", "NaN", "not valid JSON: NaN is no number"),
        ("initializer_range", "1e999", "not valid JSON: 1e999 is too large a number"),
        ("initializer_range", "-Infinity", "not valid JSON"),
        ("head_dim", "1000000000000", "head_dim"),
        ("num_hidden_layers", "9" * 30, "num_hidden_layers"),
        ("num_attention_heads", "1e3", "num_attention_heads"),
        ("note", '"\\ud800"', "half of a surrogate pair"),
        ("note", '"\ud800"', "not valid JSON"),
        ("note", '{"\\udc00": 1}', "half of a surrogate pair"),
        ("note", "[" * 70 + "]" * 70, "nested more than 64 levels deep"),
        ("note", "[" * 100_000 + "]" * 100_000, "not valid JSON"),
        ("note", "[" + "{}," * 1_000_000 + "{}]", "it is too long"),
        ("note", '"' + "x" * 5_000_000 + '"', "too long"),
        ("model_type", '"' + "x" * 1_000_000 + '"', "model_type"),
        ("architectures", '["\\u001b[2J"]', "\\x1b[2J"),
    ],
)
def test_configurations(convert, tiny_llama, key, raw, message):
    edit(tiny_llama, "config.json", **{key: raw})
    refused(convert(), message)


@pytest.mark.parametrize(
    ("key", "raw"), [("attn_implementation", '"somebody/kernel"'), ("configuration_files", '["config.4.0.0.json"]')]
)
def test_what_would_fetch_a_kernel_or_another_configuration_is_dropped(convert, tiny_llama, tmp_path, key, raw):
    edit(tiny_llama, "config.json", **{key: raw})
    assert key in convert().stdout
    assert key not in json.loads((tmp_path / "out" / "config.json").read_text())


def test_a_pair_of_surrogates_is_a_character():
    assert json_object.parse_object('{"a": "\\ud83d\\ude00"}', "f") == {"a": "😀"}


# Weights


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        ({"dtype": "F32", "shape": [4], "data_offsets": [0, 8]}, "invalid shape, data type, or offset"),
        ({"dtype": "F32", "shape": [2**62, 2**62], "data_offsets": [0, 8]}, "overflow"),
        ({"dtype": "F32", "shape": [0, 2**62], "data_offsets": [0, 8]}, "invalid shape"),
        ({"dtype": "F32", "shape": [-1, -2], "data_offsets": [0, 8]}, "-1"),
        ({"dtype": "F32", "shape": "2", "data_offsets": [0, 8]}, "invalid type"),
        ({"dtype": [], "data_offsets": [0, 8]}, "invalid type"),
        ({"dtype": "\x1b[2J", "shape": [8], "data_offsets": [0, 8]}, "unknown variant"),
        ({"dtype": "U8", "shape": [8], "data_offsets": ["0", "8"]}, "invalid type"),
        ({"dtype": "U8", "shape": [8], "data_offsets": [False, 8]}, "invalid type"),
        ({"dtype": "U8", "shape": [8], "data_offsets": [0.0, 8.0]}, "invalid type"),
        ({"dtype": "U8", "shape": [8], "data_offsets": [0, 10**30]}, "invalid type"),
        ({"dtype": "U8", "shape": [8], "data_offsets": [0, 16]}, ""),
        ({"dtype": "U8", "shape": [0], "data_offsets": [8, 8]}, ""),
        ({"data_offsets": [0, 8]}, "missing field"),
        ({}, "missing field"),
        (7, "invalid type"),
    ],
)
def test_headers(convert, tiny_llama, entry, reason):
    write_header(tiny_llama / "model.safetensors", {"a": entry}, 8)
    run = convert()
    refused(run, "not a safetensors file, or cut off (")
    assert reason in run.stderr
    assert "\x1b" not in run.stderr


@pytest.mark.parametrize(
    "offsets", [((0, 8), (4, 12)), ((0, 8), (9, 17)), ((8, 16), (8, 16)), ((0, 8), (0, 8)), ((0, 8), (8, 0))]
)
def test_tensors_that_overlap_or_leave_gaps(convert, tiny_llama, offsets):
    header = {f"t{i}": {"dtype": "U8", "shape": [8], "data_offsets": list(each)} for i, each in enumerate(offsets)}
    write_header(tiny_llama / "model.safetensors", header, 17)
    refused(convert(), "not a safetensors file, or cut off (")


@pytest.mark.parametrize(
    "header",
    [b"[]", b"{x", b'{"\xff\xff\xff"}', b'{"a":1,"a":1}', b'{"a":' + b"[" * 200_000, b'{"a\\ud800":{}}'],
)
def test_headers_that_are_no_json_objects(convert, tiny_llama, header):
    (tiny_llama / "model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header)
    refused(convert(), "not a safetensors file, or cut off (")


def test_tensors_of_all_files_are_bounded_together(convert, tiny_llama, monkeypatch):
    shard(tiny_llama, count=3)
    monkeypatch.setattr("ropext.converter.checkpoint.read.MAX_TENSORS", 5)
    refused(convert(), "its files hold more than 5 tensors")


OUTSIDE = ["../m.safetensors", "/m.safetensors", "a/../m.safetensors", "C:m.safetensors", "a\\m.safetensors"]
ODD = [
    "./m.safetensors",
    "a//m.safetensors",
    ".m.safetensors",
    ".git/m.safetensors",
    "m\n.safetensors",
    "\x1b.safetensors",
]
NONE = ["m.bin", "model.pkl", "", "x" * 300 + ".safetensors", None, {}, 7]


@pytest.mark.parametrize("name", [*OUTSIDE, *ODD, *NONE])
def test_names_in_an_index(convert, tiny_llama, name):
    shard(tiny_llama)
    write_index(tiny_llama, {"layer.0.a": name})
    refused(convert(), "is not the name of")


@pytest.mark.parametrize("name", ["model.safetensors", "model.safetensors.index.json", "config.json"])
def test_pipes_and_folders_are_no_files(convert, tiny_llama, name):
    (tiny_llama / name).unlink(missing_ok=True)
    if "index" in name:
        (tiny_llama / "model.safetensors").unlink()
    os.mkfifo(tiny_llama / name)
    refused(convert())
    (tiny_llama / name).unlink()
    (tiny_llama / name).mkdir()
    refused(convert())


# What is carried


def test_no_pickle_is_copied(convert, tiny_llama, tmp_path):
    data = pickle.dumps(["x"])
    names = ["vocab.pkl", "LICENSE.pkl", "chat_template.pickle", "NOTICE.pt", "tokenizer.model", "LICENSE", "vocab.npz"]
    for name in names:
        (tiny_llama / name).write_bytes(data)
    (tiny_llama / "COPYING").write_bytes(b"PK\x03\x04")
    run = convert()
    assert run.exit_code == 0
    assert f"left out: COPYING, {', '.join(sorted(names))}" in run.stdout
    assert not {"COPYING", *names} & set(os.listdir(tmp_path / "out"))


def test_names_that_are_no_text(convert, tiny_llama, tmp_path):
    for name in (b"LICENSE\xff", b"NOTICE\x1b[2J", b"readme.md", b"Config.json"):
        Path(os.fsdecode(os.fsencode(tiny_llama) + b"/" + name)).write_text("x")
    run = convert()
    assert run.exit_code == 0, run.output
    assert "LICENSE\\udcff, NOTICE\\x1b[2J" in run.stdout
    assert {"readme.md", "Config.json"}.isdisjoint(os.listdir(tmp_path / "out"))


BOMB = "a: &a [x, x]\n" + "".join(f"a{i}: &b{i} [*a, *a]\n" for i in range(30))
CARDS = {
    "date": "a: !!timestamp x",
    "truth": "a: !!bool maybe",
    "number": "a: !!int ''",
    "itself": "a: &a [*a]",
    "merge": "a: &a {b: 1}\nc: {<<: *a}",
    "bomb": BOMB,
    "deep": "[" * 3_000,
    "deep-key": "license: [" * 90,
    "long": "license: " * 40_000,
    "surrogate": 'license: "\\ud800"',
    "code": "a: !!python/object/apply:os.mkdir [evil]",
    "key": "? [a]\n: b",
    "date-key": "license: {1: 2, 2020-01-01: 3}",
}


@pytest.mark.parametrize("front", CARDS.values(), ids=CARDS)
def test_cards(convert, tiny_llama, tmp_path, front):
    (tiny_llama / "README.md").write_text(f"---\n{front}\n---\nText of the base.\n")
    run = convert()
    assert run.exit_code == 0, run.output
    card = (tmp_path / "out" / "README.md").read_text()
    assert card.startswith("---\nlibrary_name: transformers\n")
    assert "Text of the base." in card
    assert not Path("evil").exists()


def test_a_card_that_is_too_long(convert, tiny_llama):
    (tiny_llama / "README.md").write_text("x" * 5_000_000)
    refused(convert(), "README.md: 5000000 bytes is too long")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"auto_map": {"AutoTokenizer": "x.Y"}}', "brings its own code"),
        ('{"model_max_length": NaN}', "NaN is no number"),
        ("[]", "expected a JSON object"),
        ("[" * 10_000, "not valid JSON"),
    ],
)
def test_tokenizer_settings(convert, tiny_llama, text, message):
    (tiny_llama / "tokenizer_config.json").write_text(text)
    refused(convert(), message)


# All together


def _limited():
    resource.setrlimit(resource.RLIMIT_DATA, (300_000_000, 300_000_000))


@pytest.mark.parametrize(
    "text",
    [
        '{"a": [' + "[]," * 7_900_000 + "0]}",
        '{"a": [' + '{"a":0},' * 700_000 + "0]}",
        '{"a": "' + "x" * 23_000_000 + '😀"}',
        '{"metadata": {}, "weight_map": {' + ",".join(f'"a.{i}": "x{i}.safetensors"' for i in range(300_000)) + "}}",
    ],
    ids=["lists", "objects", "text", "names"],
)
def test_large_files_take_bounded_memory(tiny_llama, tiny_preset, tmp_path, text):
    (tiny_llama / "model.safetensors").unlink()
    (tiny_llama / "model.safetensors.index.json").write_text(text)
    args = ["convert", str(tiny_llama), "-p", str(tiny_preset), "-o", str(tmp_path / "out")]
    program = [sys.executable, "-m", "ropext", *args]
    run = subprocess.run(program, capture_output=True, text=True, preexec_fn=_limited, timeout=60)
    assert run.returncode == 1
    assert run.stderr.splitlines()[-1].startswith("error: ")
    assert "fault of ropext" not in run.stderr


def test_some_hundred_inputs():
    program = [sys.executable, "-m", "tools.fuzz", "--inputs", "300", "--seed", "1"]
    run = subprocess.run(program, cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr


def test_what_is_no_json_object():
    with pytest.raises(RopextError, match="expected a JSON object, found list"):
        json_object.parse_object("[]", "f")
