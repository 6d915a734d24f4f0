"""Tables for people and for pipes."""

import re
from collections import Counter

import pytest

from ropext.converter.cli.screen import is_terminal, table, width_of

HEADERS = ("name", "tokens")
ROWS = [("smollm2-135m-rerope", 65536), ("short", 8)]


@pytest.fixture
def terminal(monkeypatch):
    """A terminal of some width."""

    def of(columns, **environment):
        for name in ("NO_COLOR", "FORCE_COLOR", "COLORTERM"):
            monkeypatch.delenv(name, raising=False)
        for name, value in {"TERM": "xterm-256color", "COLUMNS": str(columns), **environment}.items():
            monkeypatch.setenv(name, value)

    return of


def test_plain_text_is_aligned():
    lines = table(HEADERS, ROWS, right=("tokens",), terminal=False).splitlines()
    assert lines == ["NAME                 TOKENS", "smollm2-135m-rerope   65536", "short                     8"]


def test_not_a_terminal_is_plain(capsys):
    assert not is_terminal()
    assert table(HEADERS, ROWS) == table(HEADERS, ROWS, terminal=False)


def test_a_terminal_gets_colour_and_lines(terminal):
    terminal(100)
    text = table(HEADERS, ROWS, terminal=True)
    assert "\x1b[" in text
    assert "─" in text or "-" in text
    assert "smollm2-135m-rerope" in text


def test_names_stay_in_one_piece(terminal):
    terminal(60)
    text = table(("name", "what"), [("smollm2-135m-self_extend", "word " * 40)], terminal=True)
    assert "smollm2-135m-self_extend" in text
    assert text.count("\n") > 5


def test_cells_beside_a_long_name_are_not_cut(terminal):
    terminal(80)
    rows = [("smollm2-135m-rerope", *["not resolved (n = 3)"] * 4)]
    text = re.sub(r"\x1b\[[0-9;]*m", "", table(("model", "4k", "8k", "12k", "16k"), rows, terminal=True))
    assert max(map(len, text.splitlines())) <= 80
    assert (text.count("resolved"), text.count("3)")) == (4, 4)


def test_no_color_is_honoured(terminal):
    terminal(100, NO_COLOR="1")
    assert not re.search(r"\x1b\[[0-9;]*3[0-9]", table(HEADERS, ROWS, terminal=True))


@pytest.mark.parametrize("columns", [0, 1, 10, 24, 40])
def test_narrow_terminals_lose_nothing(terminal, columns):
    terminal(columns)
    text = re.sub(r"\x1b\[[0-9;]*m", "", table(HEADERS, ROWS, terminal=True))
    for wanted in ("smollm2-135m-rerope", "65536", "short"):
        assert not Counter(wanted) - Counter(text)


def test_width_zero_is_a_width(monkeypatch):
    monkeypatch.setenv("COLUMNS", "0")
    assert width_of(80) > 0


def test_control_characters_are_spelt_out():
    assert "\x1b" not in table(HEADERS, [("\x1b[31mred", 1)], terminal=False)


def test_markup_is_text(terminal):
    terminal(100)
    assert "[bold]x[/bold]" in table(HEADERS, [("[bold]x[/bold]", 1)], terminal=True)


def test_no_rows():
    assert table(HEADERS, [], terminal=False) == "NAME  TOKENS"
