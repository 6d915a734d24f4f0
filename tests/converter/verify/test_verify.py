"""`ropext verify`: what a conversion wrote is good, and a single flipped bit is not."""

import json
import os
import random
import shutil
import struct
import sys
import warnings
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load_file, save_file
from transformers import CONFIG_MAPPING

from ropext.converter import model_code
from ropext.converter.cli.app import main
from ropext.converter.convert.api import convert_checkpoint
from ropext.converter.convert.config import dump_json
from ropext.converter.convert.native import UnsupportedSpelling
from ropext.converter.converted.read import read_converted, rebuild
from ropext.converter.errors import RopextError
from ropext.converter.model_code import sha256
from ropext.converter.presets.load import load_preset
from ropext.converter.verify import checks as verification
from ropext.converter.verify import model as verify_model
from ropext.converter.verify import parts as verify_parts
from ropext.converter.verify.checks import verify
from ropext.modeling import rope_ext_band, rope_ext_contacts
from tests.converter.convert import test_quantized
from tests.helpers import families, tiny, zoo, zoo_composites
from tests.helpers.checkpoints import LLAMA3, edit_config, sealed, write_header
from tests.helpers.saved import saved
from tests.modeling.test_loading import preset_file, write_preset

NATIVE = ("dprope", "linear", "ntk", "yarn", "dynamic_ntk")
CHECKS = ("record", "files", "weights", "headers", "code", "config", "reference", "base")
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
    (folder / "ropext.json").write_bytes(sealed(record))


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
    assert found.pop("base") == ("good" if promised else "none")
    assert set(found.values()) == {"good"}


def test_each_check_is_told_as_it_begins_and_ends(made):
    heard = []
    report = verify(str(made("dpe")), quick=True, hear=lambda name, check: heard.append((name, check)))
    assert heard == [pair for check in report.checks for pair in ((check.name, None), (check.name, check))]
    assert [check.name for check in report.checks] == list(CHECKS)


def test_each_line_says_what_was_done(made):
    found = texts(verify(str(made("dpe_top_k"))))
    assert found["record"].startswith("made by ropext ")
    assert found["files"].endswith("files, 98.28 KiB, as recorded") or "as recorded" in found["files"]
    assert found["headers"] == "30 tensors, as config.json asks for"
    assert "8 frequencies, tables selected_pairs, guards" in found["config"]
    assert found["reference"] == (
        "2 of 3 layers, float32: 49 tokens as by dense attention; 3 of 49 tokens one at a time after a cache"
    )
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
    assert report.verdict == "incomplete"
    assert report.unchecked == ["weights", "reference", "base"]


def test_edited_card_is_no_fault(copied):
    folder = copied()
    (folder / "README.md").write_text("Mine.\n")
    (folder / "notes.txt").write_text("Mine.\n")
    report = verify(str(folder))
    assert report.good
    assert texts(report)["files"].endswith("; the card was written anew since; not of the conversion: notes.txt")


def test_weights_that_were_linked_unread(made, tmp_path):
    base = made("dpe").parent
    convert_checkpoint(load_preset(str(write_preset(base, "dpe"))), None, tmp_path / "out", digests=False)
    report = verify(str(tmp_path / "out"), quick=False)
    assert report.verdict == "incomplete"
    assert report.unchecked == ["weights"]
    assert "convert again with --digests" in texts(report)["weights"]


# Every family, and bases of every kind


@pytest.fixture(scope="module")
def bases(tmp_path_factory):
    """A function that returns a folder of a family's stock model, of a class of its; not to be changed."""
    place = tmp_path_factory.mktemp("bases")

    def make(family, auto="AutoModelForCausalLM", **changes):
        folder = place / "-".join([family, auto, *changes])
        if not folder.exists():
            torch.manual_seed(0)
            config = CONFIG_MAPPING[family](**families.arguments(family) | changes)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                families.stock_class(family, auto)(config).save_pretrained(folder)
        return folder

    return make


def converted(base, place, name, *, native=False):
    """Convert a base by the preset of a tiny case."""
    output = place / f"{name}-{'native' if native else 'remote'}"
    return convert_checkpoint(load_preset(str(write_preset(place, name))), str(base), output, native=native).output


def require_good(folder, *unchecked):
    """Hold a folder to all checks but some; `base` alone among these is one that has nothing to check."""
    report = verify(str(folder))
    other = "none" if unchecked == ("base",) else "unchecked"
    assert statuses(report) == {name: other if name in unchecked else "good" for name in CHECKS}, report
    return texts(report)


@pytest.mark.parametrize("family", families.FAMILIES)
def test_family(family, bases, tmp_path):
    for name in ("dpe", "gali"):
        found = require_good(converted(bases(family), tmp_path, name))
        assert found["reference"].startswith("2 of 3 layers, float32: ")
        assert "bit for bit" in found["base"]
    require_good(converted(bases(family), tmp_path, "dprope"), "base")
    exported = 0
    for name in NATIVE:
        try:
            folder = converted(bases(family), tmp_path, name, native=True)
        except UnsupportedSpelling:
            continue
        exported += 1
        require_good(folder, *(["base"] if name != "dynamic_ntk" else []))
    assert exported == (1 if family in ("olmo", "olmo2", "phi3") else len(NATIVE))


@pytest.fixture(scope="module")
def others(tmp_path_factory):
    """A function that returns a folder of one of the many other types; not to be changed."""
    place = tmp_path_factory.mktemp("others")

    def make(name, table=zoo):
        return saved(name, place, table)

    return make


def with_method(base, place, method, parameters, *, native=False):
    preset = load_preset(str(preset_file(place, f"tiny-{method}", method, parameters)))
    return convert_checkpoint(preset, str(base), place / f"{method}-{native}", native=native).output


SELF_EXTEND = ("self_extend", {"group_size": 6, "local_window": 16})


@pytest.mark.parametrize(
    ("name", "layers"),
    [
        ("gemma3_text", 4),  # every other layer slides
        ("gemma2", 4),  # the same, and bounds its logits, which torch's kernels do not
        ("gpt_oss", 4),  # the same, with sinks
        ("smollm3", 2),  # the last layer has no rotary positions
        ("olmo_hybrid", 4),  # every other layer is recurrent; transformers renames and joins its weights
        ("falcon_h1", 2),  # has a number that JSON does not have
        ("deepseek_v3", 2),
        ("gpt_neox", 2),  # transformers renames its head
        ("sarvam_moe", 2),  # transformers splits a tensor of three
        ("minimax_m2", 2),  # counts the dimensions that are turned
    ],
)
def test_other_types(name, layers, others, tmp_path):
    found = require_good(with_method(others(name), tmp_path, *SELF_EXTEND))
    assert found["reference"].startswith(f"{layers} of 4 layers, float32: ")
    require_good(with_method(others(name), tmp_path, "linear", {}), "base")
    if name not in ("gemma3_text", "deepseek_v3"):
        require_good(with_method(others(name), tmp_path, "linear", {}, native=True), "base")


def test_part_of_a_model_whose_layers_share_a_table(others, tmp_path):
    found = require_good(with_method(others("gemma3n_text"), tmp_path, *SELF_EXTEND), "reference", "base")
    assert found["reference"].startswith("its embeddings of each layer lie in one table")


def test_a_text_model_inside_another_is_not_run(others, tmp_path):
    folder = with_method(others("llava", zoo_composites), tmp_path, *SELF_EXTEND)
    found = require_good(folder, "headers", "reference", "base")
    assert found["headers"] == "no model of type 'llava' is run: only text models are, not those with one inside"


def test_a_cache_that_transformers_itself_reads_otherwise(others, tmp_path):
    """MiniMax's recurrence, as transformers 5.24 has it."""
    folder, real = with_method(others("llama"), tmp_path, *SELF_EXTEND), verify_model._stepped
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(verify_model, "_stepped", lambda *given: (real(*given)[0] * 1.5, real(*given)[1]))
        found = require_good(folder, "reference")
    assert "itself reads tokens of the base after a cache otherwise than without one, by 0.5" in found["reference"]


@pytest.mark.parametrize("family", families.MIXTURES)
def test_experts_are_counted(family, bases, tmp_path):
    folder = converted(bases(family), tmp_path, "dpe")
    tensors = load_file(folder / "model.safetensors")
    names = [name for name in tensors if "layers.2." in name and "experts" in name]
    spoilt = {name: tensor for name, tensor in tensors.items() if name != names[-1]}
    (folder / "model.safetensors").unlink()
    save_file(spoilt, folder / "model.safetensors", {"format": "pt"})
    record_anew(folder)
    assert texts(verify(str(folder)))["headers"].startswith("the experts of layer 2 have ")


HEADS = [(family, auto) for family in ("gemma", "mixtral", "qwen3") for auto in model_code.auto_map(family)]


@pytest.mark.parametrize(("family", "auto"), [(family, auto) for family, auto in HEADS if auto != "AutoConfig"])
def test_head(family, auto, bases, tmp_path):
    require_good(converted(bases(family, auto), tmp_path, "dpe"))
    require_good(converted(bases(family, auto), tmp_path, "ntk", native=True), "base")


@pytest.mark.parametrize(
    ("family", "changes"),
    [
        ("llama", {"tie_word_embeddings": True}),
        ("phi3", {"partial_rotary_factor": 1.0}),
        ("mistral", {"sliding_window": 64, "max_position_embeddings": 512}),
        ("qwen2", {"use_sliding_window": True, "sliding_window": 24, "max_window_layers": 1}),
    ],
)
def test_base_of_another_kind(family, changes, bases, tmp_path):
    found = require_good(converted(bases(family, **changes), tmp_path, "dpe"))
    assert "made-up" not in found["reference"]


@pytest.mark.parametrize(("name", "native"), [("dpe", False), ("gali", False), ("dprope", False), ("dprope", True)])
def test_base_that_is_scaled(name, native, tiny_llama, tmp_path):
    edit_config(tiny_llama, rope_scaling=LLAMA3)
    require_good(converted(tiny_llama, tmp_path, name, native=native), *(["base"] if name == "dprope" else []))


def test_weights_without_the_prefix_of_their_model(bases, tmp_path):
    """As embedding models are published: the class of a language model, the names of its inner part."""
    base = Path(shutil.copytree(bases("qwen3", tie_word_embeddings=True), tmp_path / "base"))
    tensors = {name.removeprefix("model."): value for name, value in load_file(base / "model.safetensors").items()}
    save_file(tensors, base / "model.safetensors", {"format": "pt"})
    require_good(converted(base, tmp_path, "dpe"))


@pytest.mark.parametrize("kind", test_quantized.KINDS, ids=lambda kind: kind.__name__)
def test_quantized_base(kind, tiny_llama, tmp_path, monkeypatch):
    for package in ("bitsandbytes", "torchao", "compressed_tensors", "gptqmodel", "awq", "optimum"):
        monkeypatch.setitem(sys.modules, package, None)  # importing it fails
    test_quantized.replace_matrices(tiny_llama, kind)
    for name, native in (("dpe", False), ("yarn", True)):
        folder = converted(tiny_llama, tmp_path, name, native=native)
        found = require_good(folder, *(["base"] if native else []))
        assert "2 of 3 layers, made-up weights in the place of quantized ones" in found["reference"]
    tensors = load_file(folder / "model.safetensors")
    gone = [key for key in tensors if "layers.1.self_attn.q_proj" in key]
    (folder / "model.safetensors").unlink()
    save_file({key: value for key, value in tensors.items() if key not in gone}, folder / "model.safetensors")
    record_anew(folder)
    assert texts(verify(str(folder)))["headers"] == "model.layers.1.self_attn.q_proj.weight is missing"


def test_layer_that_is_too_large(made, monkeypatch):
    monkeypatch.setattr(verify_parts, "MOST_BYTES", 1000)
    found = verify(str(made("dpe")))
    assert found.verdict == "incomplete"
    assert texts(found)["reference"] == texts(found)["base"]
    assert texts(found)["base"].startswith("one layer takes ")


# A flipped bit


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


# The model


def test_wrong_kernel_is_found(made, monkeypatch):
    real = rope_ext_band.BandMethod.flash

    def flash(self, tokens):
        out, lse = real(self, tokens)
        return 1.01 * out, lse

    monkeypatch.setattr(rope_ext_band.BandMethod, "flash", flash)
    assert texts(verify(str(made("dpe"))))["reference"].startswith("differs from the reference by ")


def test_wrong_base_is_found(made, monkeypatch):
    monkeypatch.setattr(rope_ext_band.BandMethod, "is_base", lambda self, length: length is not None and length <= 40)
    report = verify(str(made("dpe")))
    assert texts(report)["base"].endswith("the method promises 40")
    monkeypatch.setattr(rope_ext_contacts.View, "_attn_implementation", rope_ext_contacts.NAME)
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
    text = run("verify", folder).stdout
    assert text.endswith(f"{folder}: good\n")
    assert len(text.splitlines()) == 9
    text = run("verify", folder, "--quick", status=3).stdout
    assert text.endswith(f"{folder}: incomplete, not checked: weights, reference, base\n")
    flip(folder / "rope_ext_band.py", 50)
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
    base = Path(shutil.copytree(tiny.TINY_LLAMA, tmp_path / "tiny-llama"))
    tensors = load_file(base / "model.safetensors")
    names = sorted(tensors)
    shards = {"model-00001-of-00002.safetensors": names[::2], "model-00002-of-00002.safetensors": names[1::2]}
    for file, held in shards.items():
        save_file({name: tensors[name] for name in held}, base / file)
    index = {"metadata": {}, "weight_map": {name: file for file, held in shards.items() for name in held}}
    (base / "model.safetensors.index.json").write_text(json.dumps(index))
    os.unlink(base / "model.safetensors")
    preset = load_preset(str(preset_file(tmp_path, "tiny-dpe", "dpe", tiny.DPE)))
    convert_checkpoint(preset, None, tmp_path / "out", link="copy")
    assert verify(str(tmp_path / "out")).good
    (tmp_path / "out" / "model-00002-of-00002.safetensors").unlink()
    report = verify(str(tmp_path / "out"))
    assert set(report.bad) == {"weights", "headers"}


def test_damaged_table(copied):
    folder = copied("dpe_top_k")
    change_config(folder, lambda config: config["rope_ext"]["tables"]["selected_pairs"].update(bits="!"))
    with pytest.raises(RopextError, match="selected_pairs is damaged"):
        rebuild(read_converted(folder))
