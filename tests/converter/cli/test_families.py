"""`ropext families`, and the tables of docs/families.md, which are its output."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from ropext.converter.checkpoint.families import FAMILIES, supported
from ropext.converter.cli.app import main
from ropext.converter.cli.families import markdown

DOCS = Path(__file__).parents[3] / "docs" / "families.md"


def run(*arguments):
    result = CliRunner().invoke(main, ["families", *arguments])
    assert result.exit_code == 0, result.output
    return result.stdout


def test_one_line_each():
    printed = run()
    lines = {line.split()[0]: line for line in printed.splitlines() if line and not line.startswith(" ")}
    assert set(supported()) <= set(lines)
    assert "all" in lines["llama"].split()
    assert "full attention" in lines["gemma3_text"]
    assert "of its text model: gemma3_text" in lines["gemma3"]
    assert "halves of the last 64 of 192 dimensions" in lines["deepseek_v3"]
    assert max(map(len, lines.values())) < 230


def test_every_reason_is_given():
    printed = run()
    for family in FAMILIES.values():
        if family.refused:
            assert family.refused in printed
            assert family.model_type in printed


def test_json_has_every_row():
    rows = {row["model_type"]: row for row in json.loads(run("--json"))}
    assert set(rows) == set(FAMILIES)
    assert rows["llama"]["class"] == "LlamaForCausalLM"
    assert rows["qwen3_vl_text"]["inside"] == "qwen3_vl"
    assert rows["mamba"] == {"model_type": "mamba", "supported": False, "why": FAMILIES["mamba"].refused}


def test_docs_hold_the_tables():
    text = DOCS.read_text()
    for table in markdown().strip().split("\n\n"):
        assert table in text, "run `ropext families --markdown` and put its tables into docs/families.md"


@pytest.mark.parametrize("name", supported())
def test_class_names_are_whole(name):
    family = FAMILIES[name]
    assert family.stem
    assert family.stock_class.startswith(family.stem)
    assert family.sizes or family.text
