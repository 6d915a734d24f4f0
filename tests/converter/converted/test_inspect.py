"""`ropext inspect`: converted checkpoints and base models."""

import base64
import json

import pytest
from click.testing import CliRunner

from ropext.converter.cli.app import main
from ropext.converter.convert.api import convert_checkpoint
from ropext.converter.converted.inspect import inspect_source, render
from ropext.converter.presets.load import load_preset
from tests.helpers.checkpoints import edit_config


@pytest.fixture
def converted(tiny_llama, tiny_preset, tmp_path):
    folder = tmp_path / "converted"
    convert_checkpoint(load_preset(str(tiny_preset)), str(tiny_llama), folder)
    return folder


def edit_block(folder, **changes):
    file = folder / "config.json"
    config = json.loads(file.read_text())
    config["rope_ext"].update(changes)
    file.write_text(json.dumps(config))


def test_converted(converted):
    report = inspect_source(str(converted))
    assert (report["kind"], report["method"], report["preset"]) == ("converted", "dpe", "tiny-dpe")
    assert (report["initial_window"], report["target_window"]) == (64, 256)
    assert report["parameters"]["scale_factors"] == [2, 8, 4, 16]
    assert report["base"]["folder"] == "tiny-llama"
    assert report["base"]["rope_theta"] == 10000.0
    assert report["inv_freq"] == 8
    assert "modeling_llama_ext.py" in report["code"]
    assert all(code["as_recorded"] and code["as_in_this_ropext"] for code in report["code"].values())


def test_tables_are_measured(converted):
    table = {"shape": [3, 4, 8], "bits": base64.b64encode(bytes(12)).decode()}
    edit_block(converted, tables={"selected_pairs": table})
    assert inspect_source(str(converted))["tables"] == {"selected_pairs": {"shape": [3, 4, 8], "bytes": 12}}


def test_edited_code_is_told(converted):
    file = converted / "rope_ext_dpe.py"
    file.write_text(file.read_text() + "# edited\n")
    (converted / "foreign.py").write_text("")
    code = inspect_source(str(converted))["code"]
    assert (code["rope_ext_dpe.py"]["as_recorded"], code["rope_ext_dpe.py"]["as_in_this_ropext"]) == (
        False,
        False,
    )
    assert (code["foreign.py"]["as_recorded"], code["foreign.py"]["as_in_this_ropext"]) == (None, False)


def test_converted_without_provenance(converted):
    (converted / "ropext.json").unlink()
    report = inspect_source(str(converted))
    assert {code["as_recorded"] for code in report["code"].values()} == {None}


def test_base(tiny_llama):
    report = inspect_source(str(tiny_llama))
    assert (report["kind"], report["model_type"], report["head_dim"]) == ("base", "llama", 16)
    assert (report["rope_theta"], report["trained_length"], report["dtype"]) == (10000.0, 64, "float32")
    assert report["supported"] is True
    assert report["presets_that_fit"] == []
    assert "needs head_dim 128" in report["presets_that_do_not"]["llama3-8b-dpe"]


def test_presets_that_fit(tiny_llama):
    edit_config(
        tiny_llama,
        head_dim=128,
        num_attention_heads=32,
        num_hidden_layers=32,
        num_key_value_heads=8,
        rope_theta=500000.0,
        max_position_embeddings=8192,
    )
    report = inspect_source(str(tiny_llama))
    assert "llama3-8b-dpe" in report["presets_that_fit"]
    assert "needs rope_type llama3" in report["presets_that_do_not"]["llama31-8b-dpe"]


def test_base_without_weights_or_support(tiny_llama):
    (tiny_llama / "model.safetensors").unlink()
    edit_config(tiny_llama, model_type="gpt2")
    report = inspect_source(str(tiny_llama))
    assert report["supported"] is False
    assert report["presets_that_do_not"] == {}


def test_text_names_everything(converted, tiny_llama):
    for folder in (converted, tiny_llama):
        report = inspect_source(str(folder))
        text = render(report)
        assert all(key in text for key in report)
        assert "{" not in text
        assert max(map(len, text.splitlines())) < 250


def test_command(converted):
    result = CliRunner().invoke(main, ["inspect", str(converted), "--json"])
    assert json.loads(result.stdout)["method"] == "dpe"
    assert "local_window" in CliRunner().invoke(main, ["inspect", str(converted)]).stdout


@pytest.mark.parametrize(
    "changes",
    [{"inv_freq": None}, {"tables": {"x": {}}}, {"tables": {"x": {"shape": [1], "bits": "?"}}}, {"base": 7}],
)
def test_block_that_is_not_ours(converted, changes):
    edit_block(converted, **changes)
    result = CliRunner().invoke(main, ["inspect", str(converted)])
    assert result.exit_code == 1
    assert "rope_ext: not as ropext writes it" in result.stderr


@pytest.mark.parametrize(("data", "message"), [("{", "ropext.json: not valid JSON"), ("\0", "not valid JSON")])
def test_broken_provenance(converted, data, message):
    (converted / "ropext.json").write_text(data)
    result = CliRunner().invoke(main, ["inspect", str(converted)])
    assert result.exit_code == 1
    assert message in result.stderr


def test_folder_without_a_model(tmp_path):
    result = CliRunner().invoke(main, ["inspect", str(tmp_path)])
    assert result.exit_code == 1
    assert result.stderr == f"error: {tmp_path}: no config.json: this is not a Hugging Face checkpoint.\n"
