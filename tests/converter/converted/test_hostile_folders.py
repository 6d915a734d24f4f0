"""Converted folders made to do harm: they are read in bounds, and print nothing odd."""

import json
import os

import pytest
from click.testing import CliRunner

from ropext.converter.cli.app import main
from ropext.converter.text import printable
from tests.helpers.refusals import refused


@pytest.mark.parametrize("name", ["config.json", "ropext.json", "evil.py"])
def test_inspect_reads_small_files_only(convert, tmp_path, name):
    assert convert().exit_code == 0
    (tmp_path / "out" / name).unlink(missing_ok=True)
    os.mkfifo(tmp_path / "out" / name)
    refused(CliRunner().invoke(main, ["inspect", str(tmp_path / "out")]))


def test_verify_of_what_is_no_file(convert, tmp_path):
    assert convert().exit_code == 0
    out = tmp_path / "out"
    for name in ("generation_config.json", "rope_ext_dpe.py", "config.json", "model.safetensors"):
        (out / name).unlink()
        os.mkfifo(out / name)
    record = json.loads((out / "ropext.json").read_text())
    record["files"]["generation_config.json"]["bytes"] = 0
    (out / "ropext.json").write_text(json.dumps(record))
    run = CliRunner().invoke(main, ["verify", str(out), "--quick"])
    assert run.exit_code == 1
    assert run.stdout.endswith("bad: record, files, headers, code, config\n")


def test_verify_prints_neither_control_characters_nor_lines_of_others(convert, tmp_path):
    assert convert().exit_code == 0
    file = tmp_path / "out" / "ropext.json"
    record = json.loads(file.read_text()) | {"ropext_version": "1\n\x1b[2Jgood       record     made"}
    file.write_text(json.dumps(record))
    run = CliRunner().invoke(main, ["verify", str(tmp_path / "out"), "--quick"])
    assert run.exit_code == 1
    assert "\x1b" not in run.stdout
    assert len(run.stdout.splitlines()) == 9


def test_inspect_prints_no_control_characters(convert, tmp_path):
    assert convert().exit_code == 0
    file = tmp_path / "out" / "config.json"
    file.write_text(file.read_text().replace('"tiny-dpe"', '"\\u001b]0;x\\u0007"'))
    run = CliRunner().invoke(main, ["inspect", str(tmp_path / "out")])
    assert run.exit_code == 0
    assert "\\x1b]0;x\\x07" in run.stdout
    assert "\x1b" not in run.stdout


def test_printable():
    assert printable("ä 😀\n\tb") == "ä 😀\n\tb"
    assert printable("\x1b\x9b\udcff\u202e") == "\\x1b\\x9b\\udcff\\u202e"
