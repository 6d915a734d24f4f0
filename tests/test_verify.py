"""`ropext verify`: what a conversion wrote is good, and a single flipped bit is not."""

import json
import os
import shutil
import struct
from pathlib import Path

import pytest
from click.testing import CliRunner

from ropext.converter import verify as verification
from ropext.converter import verify_model
from ropext.converter.cli import main
from ropext.converter.commands_convert import convert_checkpoint
from ropext.converter.config import dump_json
from ropext.converter.converted import read_converted, rebuild
from ropext.converter.emit import sealed
from ropext.converter.errors import RopextError
from ropext.converter.presets import load_preset
from ropext.converter.shipped import sha256
from ropext.converter.verify import verify
from ropext.modeling import rope_ext_band

from . import tiny
from .checkpoints import write_header
from .test_loading import preset_file, write_preset

NATIVE = ("dprope", "linear", "ntk", "yarn", "dynamic_ntk")
METHODS = ("dpe", "dpe_top_k", "gali", "dca", "jet_long", "rerope_activate", "string", "original", *NATIVE)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Folders converted once, by the name of their case; not to be changed."""
    place = tmp_path_factory.mktemp("made")
    shutil.copytree(tiny.TINY_LLAMA, place / "tiny-llama")

    def make(name, *, native=False):
        folder = place / f"{name}-{'native' if native else 'remote'}"
        if not folder.exists():
            convert_checkpoint(load_preset(str(write_preset(place, name))), None, folder, native=native, link="copy")
        return folder

    return make


@pytest.fixture
def copied(made, tmp_path):
    """Return a function that copies such a folder, to be changed."""

    def copy(name="dpe_top_k", **how):
        return Path(shutil.copytree(made(name, **how), tmp_path / "converted"))

    return copy


def statuses(report):
    return {check.name: check.status for check in report.checks}


def texts(report):
    return {check.name: check.text for check in report.checks}


def flip(file, at, bit=0):
    data = bytearray(file.read_bytes())
    data[at] ^= 1 << bit
    file.write_bytes(data)


def record_anew(folder):
    """Bring the digests up to date, as somebody would who changes a file on purpose."""
    record = json.loads((folder / "ropext.json").read_text())
    for path in record["files"]:
        data = (folder / path).read_bytes()
        record["files"][path] = {"sha256": sha256(data), "bytes": len(data)}
    record["code"] = {path: entry["sha256"] for path, entry in record["files"].items() if path.endswith(".py")}
    (folder / "ropext.json").write_bytes(dump_json(sealed(record)))


def change_config(folder, change):
    """Edit `config.json` and its digest, so that only what it says can give it away."""
    config = json.loads((folder / "config.json").read_text())
    change(config)
    (folder / "config.json").write_bytes(dump_json(config))
    record_anew(folder)


# What is good


@pytest.mark.parametrize(("name", "native"), [*((name, False) for name in METHODS), *((name, True) for name in NATIVE)])
def test_what_was_converted_is_good(made, name, native):
    report = verify(str(made(name, native=native)))
    assert report.good, report
    found = statuses(report)
    promised = name not in NATIVE or name == "dynamic_ntk"
    assert found.pop("base") == ("good" if promised else "unchecked")
    assert set(found.values()) == {"good"}


def test_each_line_says_what_was_done(made):
    found = texts(verify(str(made("dpe_top_k"))))
    assert found["record"].startswith("made by ropext ")
    assert found["files"].endswith("files, 98.28 KiB, as recorded") or "as recorded" in found["files"]
    assert found["headers"] == "30 tensors, as config.json asks for"
    assert "8 frequencies, tables selected_pairs, guards" in found["config"]
    assert found["reference"] == "2 of 3 layers, float32: 49 tokens as by dense attention"
    assert found["base"] == "2 of 3 layers, float32: 16 tokens bit for bit; the method promises 16"


def test_whole_model(made):
    found = texts(verify(str(made("dpe")), whole=True))
    assert found["reference"].startswith("3 of 3 layers")


def test_end_of_a_long_prompt(made, monkeypatch):
    monkeypatch.setattr(verify_model, "MOST_LOGITS", 1)
    for name in ("dpe_top_k", "gali", "jet_long"):
        report = verify(str(made(name)))
        assert report.good, report
        assert "32 tokens after a made-up cache of" in texts(report)["reference"]


def test_quick_reads_no_weights(copied):
    folder = copied()
    flip(folder / "model.safetensors", -1)
    report = verify(str(folder), quick=True)
    assert report.good
    assert statuses(report)["weights"] == statuses(report)["reference"] == "unchecked"


def test_edited_card_is_no_fault(copied):
    folder = copied()
    (folder / "README.md").write_text("Mine.\n")
    (folder / "notes.txt").write_text("Mine.\n")
    report = verify(str(folder), quick=True)
    assert report.good
    assert texts(report)["files"].endswith("; the card was written anew since; not of the conversion: notes.txt")


def test_weights_that_were_linked_unread(made, tmp_path):
    base = made("dpe").parent
    convert_checkpoint(load_preset(str(write_preset(base, "dpe"))), None, tmp_path / "out", digests=False)
    report = verify(str(tmp_path / "out"), quick=False)
    assert report.good
    assert statuses(report)["weights"] == "unchecked"
    assert "convert again with --digests" in texts(report)["weights"]


# A flipped bit


KINDS = {
    "weights": "model.safetensors",
    "code": "modeling_llama_ext.py",
    "sibling": "rope_ext_band.py",
    "config": "config.json",
    "record": "ropext.json",
    "generation": "generation_config.json",
}


@pytest.mark.parametrize("place", [0.0, 0.01, 0.3, 0.7, 1.0])
@pytest.mark.parametrize("kind", KINDS)
def test_flipped_bit(copied, kind, place, monkeypatch):
    monkeypatch.setattr(verification, "carried_out", carried_out_without_models)
    folder = copied()
    file = folder / KINDS[kind]
    if kind == "record":  # its own digests: of the rest of it, the preset, nothing more is known
        text = file.read_bytes()
        first = text.index(b'"code"')
        at = first + int(place * (len(text) - 1 - first))
    else:
        at = int(place * (file.stat().st_size - 1))
    for bit in (0, 3, 6):
        flip(file, at, bit)
        assert not verify(str(folder)).good, (kind, at, bit)
        flip(file, at, bit)
    assert verify(str(folder)).good


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
        (lambda c: c["rope_ext"].update(format=2), "config", "rope_ext.format: is 2"),
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
    assert report.good
    assert statuses(report)["code"] == "unchecked"
    assert texts(report)["code"].startswith("made by ropext 0.0.9, whose code this one, ")


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
    assert texts(report)["reference"].startswith("1 tensors are missing, such as ")


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"format": 1}', b'{"format": 9}', b"\xff"])
@pytest.mark.parametrize("path", ["config.json", "ropext.json"])
def test_damaged_beyond_reading(copied, path, content):
    folder = copied()
    (folder / path).write_bytes(content)
    report = verify(str(folder))
    assert not report.good
    assert "Error:" not in " ".join(texts(report).values())


# The model


def test_wrong_kernel_is_found(made, monkeypatch):
    real = rope_ext_band.BandMethod.flash
    monkeypatch.setattr(rope_ext_band.BandMethod, "flash", lambda self, tokens: 1.01 * real(self, tokens))
    assert texts(verify(str(made("dpe"))))["reference"].startswith("differs from the reference by ")


def test_wrong_base_is_found(made, monkeypatch):
    monkeypatch.setattr(rope_ext_band.BandMethod, "is_base", lambda self, length: length is not None and length <= 40)
    report = verify(str(made("dpe")))
    assert texts(report)["base"].endswith("the method promises 40")
    real = rope_ext_band.BandMethod.exact_keys
    monkeypatch.setattr(rope_ext_band.BandMethod, "exact_keys", lambda self, *args: 1.0001 * real(self, *args))
    assert texts(verify(str(made("dpe"))))["base"].startswith("differs from the base within 40 tokens")


# The command


def run(*args, status=0):
    result = CliRunner().invoke(main, [str(arg) for arg in args])
    assert result.exit_code == status, result.output
    assert "Traceback" not in result.output
    return result


def test_command(copied):
    folder = copied()
    text = run("verify", folder, "--quick").stdout
    assert text.endswith(f"{folder}: good\n")
    assert len(text.splitlines()) == 9
    flip(folder / "rope_ext_dca.py", 50)
    text = run("verify", folder, "--quick", status=1).stdout
    assert text.endswith(f"{folder}: bad: files, code\n")
    assert run("verify", folder, "--quick", "-q", status=1).output == ""
    report = json.loads(run("verify", folder, "--quick", "--json", status=1).stdout)
    assert report["good"] is False
    assert [check["check"] for check in report["checks"] if check["status"] == "bad"] == ["files", "code"]


@pytest.mark.parametrize("source", ["nowhere", "a/b/c"])
def test_misuse(source):
    assert "no such folder" in run("verify", source, status=2).stderr


def test_base_is_refused():
    assert "is nothing that ropext converted" in run("verify", tiny.TINY_LLAMA, status=2).stderr
    assert "--revision x does not apply" in run("verify", tiny.TINY_LLAMA, "--revision", "x", status=2).stderr


def test_preset_that_does_not_fit_any_more(copied):
    folder = copied("dpe")
    change_config(folder, lambda config: config.update(head_dim=32))
    assert "its preset does not fit config.json" in texts(verify(str(folder), quick=True))["config"]


def test_sharded(tmp_path):
    from safetensors.torch import load_file, save_file

    base = Path(shutil.copytree(tiny.TINY_LLAMA, tmp_path / "tiny-llama"))
    tensors = load_file(base / "model.safetensors")
    names = sorted(tensors)
    shards = {"model-00001-of-00002.safetensors": names[::2], "model-00002-of-00002.safetensors": names[1::2]}
    for file, held in shards.items():
        save_file({name: tensors[name] for name in held}, base / file)
    index = {"weight_map": {name: file for file, held in shards.items() for name in held}}
    (base / "model.safetensors.index.json").write_text(json.dumps(index))
    os.unlink(base / "model.safetensors")
    preset = load_preset(str(preset_file(tmp_path, "tiny-dpe", "dpe", tiny.DPE)))
    convert_checkpoint(preset, None, tmp_path / "out", link="copy")
    assert verify(str(tmp_path / "out")).good
    (tmp_path / "out" / "model-00002-of-00002.safetensors").unlink()
    report = verify(str(tmp_path / "out"))
    assert {"weights", "headers", "reference"} <= set(report.bad)


def test_damaged_table(copied):
    folder = copied("dpe_top_k")
    change_config(folder, lambda config: config["rope_ext"]["tables"]["selected_pairs"].update(bits="!"))
    with pytest.raises(RopextError, match="selected_pairs is damaged"):
        rebuild(read_converted(folder))
