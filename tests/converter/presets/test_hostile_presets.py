"""Presets made to do harm: one clear message, in bounded time."""

import time
from pathlib import Path

import pytest
from click.testing import CliRunner

from ropext.converter.cli.app import main


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('description: "\\ud800"', "is not a usable str"),
        ('"\\ud800": 1', "a key must be a word"),
        ("initial_window: 0x" + "f" * 5_000, "is not a usable int"),
        ("initial_window: 99999999999999999999", "is not a usable int"),
        ("a: &a [x, x]\n" + "".join(f"b{i}: &b{i} [*a, *a]\n" for i in range(9)), "unknown key"),
        ("a: &a [1,1,1,1,1,1,1,1,1]\nb: &b [" + "*a," * 99 + "]\nc: &c [" + "*b," * 99 + "]", "holds too much"),
        ("a: !!python/object/apply:os.mkdir [evil]", "is not allowed"),
        ("[" * 5_000, "nested too deeply"),
        ("name: ../../evil", "use letters, digits"),
        ("#" * 300_000, "too long for a preset"),
        ("", "error"),
    ],
)
def test_presets(tmp_path, text, message):
    (tmp_path / "p.yaml").write_text(text)
    run = CliRunner().invoke(main, ["validate", str(tmp_path / "p.yaml")])
    assert run.exit_code == 2
    assert message in run.stderr
    assert not Path("evil").exists()


def test_thousands_of_items_that_have_to_differ(tmp_path):
    head = "name: t\ndescription: d\nbase_model: b\ninitial_window: 64\ntarget_window: 256\nmethod: dprope\n"
    items = ",".join(f"{{a: {number}}}" for number in range(5_000))
    (tmp_path / "p.yaml").write_text(f"{head}parameters: {{candidates: [{items}]}}\n")
    start = time.process_time()
    assert CliRunner().invoke(main, ["validate", str(tmp_path / "p.yaml")]).exit_code == 2
    assert time.process_time() - start < 10


def test_a_preset_without_end():
    run = CliRunner().invoke(main, ["validate", "/dev/zero"])
    assert run.exit_code == 2
    assert "too long for a preset" in run.stderr
