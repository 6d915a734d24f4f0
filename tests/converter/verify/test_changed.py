"""`ropext verify` finds a single flipped bit, and what was changed together with its digest."""

import json
import random
import shutil
import struct

import pytest

from ropext.converter.convert.api import convert_checkpoint
from ropext.converter.convert.config import dump_json
from ropext.converter.presets.load import load_preset
from ropext.converter.verify import checks as verification
from ropext.converter.verify.checks import verify
from tests.helpers import tiny
from tests.helpers.checkpoints import write_header
from tests.helpers.verified import (
    change_config,
    flip,
    record_anew,
    statuses,
    texts,
)
from tests.modeling.test_loading import write_preset


def test_flipped_bits(tmp_path, monkeypatch):
    """One at random places of every file; the card may be edited, and so may what is recorded of it."""
    monkeypatch.setattr(verification, "carried_out", carried_out_without_models)
    shutil.copytree(tiny.TINY_LLAMA, tmp_path / "tiny-llama")
    file = write_preset(tmp_path, "dpe_top_k")
    file.write_text(f"# Found on books.\n{file.read_text()}# As published.\n")
    folder = convert_checkpoint(load_preset(str(file)), None, tmp_path / "out", link="copy").output
    rng = random.Random(0)
    tried = 0
    for path in sorted(folder.iterdir()):
        for start, stop, count in regions(path):
            for at in rng.sample(range(start, stop), min(count, stop - start)):
                bit = rng.randrange(8)
                flip(path, at, bit)
                assert verify(str(folder)).bad, (path.name, at, bit)
                flip(path, at, bit)
                tried += 1
    assert tried > 200
    assert not verify(str(folder)).bad


def regions(file):
    """Where to flip bits of a file, as (start, stop, how many)."""
    data = file.read_bytes()
    if file.suffix == ".safetensors":
        tensors = 8 + struct.unpack("<Q", data[:8])[0]
        return [(0, tensors, 20), (tensors, len(data), 20)]
    if file.name == "ropext.json":
        text = (data.index(b'"text": "'), data.index(b'"overrides"'))
        card = (data.index(b'"README.md": {'), data.index(b"}", data.index(b'"README.md": {')))
        comments = [(at, at + 12, 3) for at in (data.index(b"# Found"), data.index(b"# As"))]
        return [(0, text[0], 10), (*text, 20), *comments, (text[1], card[0], 40), (card[1], len(data), 10)]
    return {"config.json": [(0, len(data), 60)], "README.md": []}.get(file.name, [(0, len(data), 3)])


def carried_out_without_models(name, check, real=verification.carried_out):
    """The checks that read files, for those are to find it."""
    if name in ("headers", "reference", "base"):
        return verification.Check(name, "unchecked", "")
    return real(name, check)


def test_flipped_bit_in_a_table(copied):
    folder = copied()
    text = (folder / "config.json").read_bytes()
    at = text.index(b'"bits": "') + len(b'"bits": "') + 3
    for bit in range(8):
        flip(folder / "config.json", at, bit)
        assert "bad" in (statuses(verify(str(folder), quick=True))[name] for name in ("files",))
        flip(folder / "config.json", at, bit)


# The same with digests to match: what is in the file has to give it away


def halve(config):
    config["rope_ext"]["inv_freq"][3] /= 2


def select_more(config):
    table = config["rope_ext"]["tables"]["selected_pairs"]
    table["bits"] = table["bits"].replace(table["bits"][0], "/" if table["bits"][0] != "/" else "A", 1)


@pytest.mark.parametrize(
    ("change", "check", "says"),
    [
        (halve, "config", "rope_ext.inv_freq[3]: is "),
        (select_more, "config", "rope_ext.tables.selected_pairs.bits"),
        (lambda c: c["rope_ext"]["parameters"].update(local_window=17), "config", "rope_ext.parameters.local_window"),
        (lambda c: c.update(hidden_act="silu"), "config", "hidden_act: is "),
        (lambda c: c["auto_map"].update(AutoModel="org/evil--x.Y"), "config", "is no class of this checkpoint"),
        (lambda c: c["auto_map"].update(AutoModel="other.Model"), "config", "is no class of this checkpoint"),
        (lambda c: c.update(_attn_implementation="evil/kernel"), "config", "_attn_implementation: is no key"),
        (lambda c: c.update(attn_implementation="evil/kernel"), "config", "attn_implementation: is no key"),
        (lambda c: c.update(configuration_files=["config.4.0.0.json"]), "config", "configuration_files: is no key"),
        (lambda c: c["rope_ext"].update(format=1), "config", "rope_ext.format: is 1"),
        (lambda c: c["rope_ext"].update(format=3), "config", "rope_ext.format: is 3"),
        (lambda c: c["rope_ext"].update(method="gali"), "record", "method is 'dpe', and config.json says 'gali'"),
        (lambda c: c.update(intermediate_size=97), "headers", "and the configuration asks for"),
        (lambda c: c.update(num_hidden_layers=4), "headers", "layers.3."),
        (lambda c: c.update(num_hidden_layers=2), "headers", "belongs to a layer beyond the 2"),
    ],
)
def test_changed_configuration(copied, change, check, says):
    folder = copied()
    change_config(folder, change)
    report = verify(str(folder))
    assert statuses(report)[check] == "bad", report
    assert any(says in fault for found in report.checks if found.name == check for fault in found.faults)


def test_changed_code(copied):
    folder = copied()
    with (folder / "rope_ext_dpe.py").open("a") as stream:
        stream.write("import os\n")
    record_anew(folder)
    report = verify(str(folder), quick=True)
    assert texts(report)["code"].startswith("rope_ext_dpe.py: is not that of ropext ")


def test_code_of_another_version(copied):
    folder = copied()
    (folder / "rope_ext_dpe.py").write_text("# older\n")
    record = json.loads((folder / "ropext.json").read_text())
    (folder / "ropext.json").write_bytes(dump_json({**record, "ropext_version": "0.0.9"}))
    change_config(folder, lambda config: config["rope_ext"].update(ropext_version="0.0.9"))
    report = verify(str(folder), quick=True)
    assert report.verdict == "incomplete"
    assert "code" in report.unchecked
    assert texts(report)["code"].startswith("not known: configuration_llama_ext.py: is not that of ropext ")


@pytest.mark.parametrize(
    "name", ["evil.py", "adapter_config.json", "model-2.safetensors", "tokenizer_config.json", "chat_template.jinja"]
)
def test_added_file_that_loading_would_use(copied, name):
    folder = copied()
    (folder / name).write_text("{}")
    report = verify(str(folder), quick=True)
    assert f"{name}: was added, and loading would use it" in texts(report)["files"]


def test_tokenizer_with_code(copied):
    folder = copied()
    (folder / "tokenizer_config.json").write_text('{"auto_map": {"AutoTokenizer": ["x.Y", null]}}')
    assert statuses(verify(str(folder), quick=True))["config"] == "bad"


@pytest.mark.parametrize("path", ["config.json", "model.safetensors", "rope_ext_dpe.py", "generation_config.json"])
def test_missing_file(copied, path):
    folder = copied()
    (folder / path).unlink()
    report = verify(str(folder), quick=True)
    assert not report.good
    said = "neither model.safetensors" if path == "model.safetensors" else f"{path}: is missing"
    assert any(said in fault for check in report.checks for fault in check.faults)


def test_missing_tensor(copied):
    folder = copied()
    file = folder / "model.safetensors"
    data = file.read_bytes()
    length = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8 : 8 + length])
    header["model.layers.0.self_attn.x_proj.weight"] = header.pop("model.layers.0.self_attn.q_proj.weight")
    write_header(file, header, len(data) - 8 - length)
    record_anew(folder)
    report = verify(str(folder))
    assert texts(report)["headers"] == "model.layers.0.self_attn.q_proj.weight is missing"
    assert texts(report)["reference"] == "no model is run, as headers is bad"


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"format": 1}', b'{"format": 9}', b"\xff"])
@pytest.mark.parametrize("path", ["config.json", "ropext.json"])
def test_damaged_beyond_reading(copied, path, content):
    folder = copied()
    (folder / path).write_bytes(content)
    report = verify(str(folder))
    assert not report.good
    assert "Error:" not in " ".join(texts(report).values())
