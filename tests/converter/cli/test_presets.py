"""`ropext presets`, `schema` and `validate`."""

import json
from dataclasses import replace

from click.testing import CliRunner

from ropext.converter.cli.app import main
from ropext.converter.methods.schemas import METHODS
from ropext.converter.presets.load import list_presets, load_preset
from tests.helpers.checkpoints import edit_config
from tests.helpers.presets import EXAMPLES, TINY

SHIPPED = list_presets()


def ropext(*args):
    return CliRunner().invoke(main, args)


def test_presets_list():
    table = ropext("presets", "list")
    assert table.exit_code == 0
    assert all(preset.name in table.stdout and preset.description in table.stdout for preset in SHIPPED)
    records = json.loads(ropext("presets", "list", "--json").stdout)
    assert [record["name"] for record in records] == [preset.name for preset in SHIPPED]


def test_presets_list_is_filtered(tiny_llama):
    def names(*args):
        return [record["name"] for record in json.loads(ropext("presets", "list", "--json", *args).stdout)]

    assert names("--method", "rerope") == ["smollm2-135m-rerope"]
    assert names("SMOLLM2", "--method", "dpe") == ["smollm2-135m-dpe", "smollm2-135m-dpe-512"]
    assert names("meta-llama/Meta-Llama-3-8B") == [p.name for p in SHIPPED if "Llama-3-8B" in p.base_model]
    assert names("--fits", tiny_llama) == []
    edit_config(tiny_llama, hidden_size=576, num_attention_heads=9, num_key_value_heads=3, head_dim=64)
    edit_config(tiny_llama, rope_theta=100000.0, max_position_embeddings=8192)
    assert "smollm2-135m-dpe" in names("--fits", tiny_llama)
    assert ropext("presets", "list", "--method", "yarm").stderr.startswith("error: unknown method 'yarm'; did you mean")
    assert "no shipped preset is like that" in ropext("presets", "list", "nothing").stderr


def test_presets_list_is_a_table():
    lines = ropext("presets", "list", "--method", "rerope").stdout.splitlines()
    assert lines[0].split() == ["NAME", "METHOD", "BASE", "MODEL", "TOKENS", "DESCRIPTION"]
    assert lines[1].split()[:2] == ["smollm2-135m-rerope", "rerope"]
    assert "8k -> 16k" in lines[1]


def test_presets_show_is_verbatim():
    assert ropext("presets", "show", "llama3-8b-dpe").stdout == load_preset("llama3-8b-dpe").text
    missed = ropext("presets", "show", "llama3-8b-dep")
    assert missed.exit_code == 2
    assert missed.stderr.startswith("error: unknown preset 'llama3-8b-dep'; did you mean")


def test_schema():
    assert json.loads(ropext("schema").stdout)["title"] == "ropext preset"
    assert json.loads(ropext("schema", "dpe").stdout)["title"] == "DPE parameters"
    missed = ropext("schema", "dep")
    assert (missed.exit_code, missed.stdout) == (2, "")
    assert f"unknown method 'dep'; did you mean 'dpe'? there are {', '.join(METHODS)}" in missed.stderr


def test_validate_reports_every_file():
    files = [
        str(EXAMPLES / "valid" / "dpe.yaml"),
        "nowhere.yaml",
        str(EXAMPLES / "invalid" / "groups-end.yaml"),
    ]
    result = ropext("validate", *files, "smollm2-135m-dpe")
    assert result.exit_code == 2
    assert f"{files[0]}: valid (dpe, 64 -> 256 tokens)" in result.stdout
    assert "smollm2-135m-dpe: valid" in result.stdout
    assert len(result.stderr.splitlines()) == 2
    assert "error: nowhere.yaml: there is no preset file" in result.stderr
    assert "Traceback" not in result.stderr


def test_validate_against_a_model(monkeypatch):
    from ropext.converter.checkpoint import facts as model_facts

    monkeypatch.setattr(model_facts, "read_facts", lambda source: replace(TINY, source=source))
    assert ropext("validate", str(EXAMPLES / "valid" / "dpe.yaml"), "--model", "org/tiny").exit_code == 0
    missed = ropext("validate", "smollm2-135m-dpe", "--model", "org/tiny")
    assert missed.exit_code == 2
    assert "requires.head_dim: is 64, but org/tiny has 16" in missed.stderr
