"""`ropext verify`: what a conversion wrote is good, and how the command says it."""

import json
import os
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner
from safetensors.torch import load_file, save_file

from ropext.converter.cli.app import main
from ropext.converter.convert.api import convert_checkpoint
from ropext.converter.converted.read import read_converted, rebuild
from ropext.converter.errors import RopextError
from ropext.converter.presets.load import load_preset
from ropext.converter.verify import model as verify_model
from ropext.converter.verify.checks import verify
from ropext.modeling import rope_ext_band, rope_ext_contacts
from tests.helpers import tiny
from tests.helpers.verified import (
    CHECKS,
    NATIVE,
    change_config,
    flip,
    statuses,
    texts,
)
from tests.modeling.test_loading import preset_file, write_preset

METHODS = ("dpe", "dpe_top_k", "gali", "dca", "jet_long", "rerope_activate", "string", "original", *NATIVE)


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


@pytest.mark.parametrize("source", ["nowhere", "a/b/c", ""])
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
