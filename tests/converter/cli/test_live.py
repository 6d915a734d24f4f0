"""Progress: a bar on a terminal, plain lines elsewhere, nothing for what ends at once."""

import io
import time
from itertools import count
from types import SimpleNamespace

import pytest

from ropext.converter.cli import live as living
from ropext.converter.cli.live import live
from ropext.converter.cli.progress import progress_line


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def at_once(monkeypatch):
    """A line for every step, on a clock that counts how often it is read."""
    monkeypatch.setattr(living, "_PATIENCE", 0.0)
    monkeypatch.setattr(living, "_SECONDS", 0.0)
    monkeypatch.setattr(living, "time", SimpleNamespace(monotonic=count().__next__))


def test_what_ends_at_once_says_nothing(capsys, monkeypatch):
    monkeypatch.setattr(living, "_PATIENCE", 1.0)
    with live("reading", 2) as bar:
        bar.at(1, 2)
        bar.start("writing")
    time.sleep(1.2)
    assert capsys.readouterr() == ("", "")


def test_what_takes_longer_is_said_within_a_second(capsys, monkeypatch):
    monkeypatch.setattr(living, "_PATIENCE", 0.05)
    with live("reading"):
        time.sleep(0.3)
    assert capsys.readouterr().err == "reading\n"


def test_plain_lines(capsys, at_once):
    with live("reading", 3) as bar:
        bar.at(1, 3)
        bar.at(3, 3)
        bar.hear("writing", 0, 0)
        bar.hear("writing", 1, 4)
        bar.say("a result")
    out, err = capsys.readouterr()
    assert out == "a result\n"
    lines = [line.partition(" (")[0] for line in err.splitlines()]
    assert lines[0] == "reading"
    assert "writing" in lines
    assert "(3 of 3" in err
    assert "\r" not in err
    assert "\x1b" not in err


@pytest.mark.parametrize("columns", ["0", "10", "80"])
def test_a_terminal_gets_a_bar_that_goes_away(columns, monkeypatch, capsys):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", columns)
    screen = Terminal()
    monkeypatch.setattr("sys.stderr", screen)
    with live("reading \x1b[2J", 3) as bar:
        bar.at(1, 3)
        bar.say("a result")
        bar.start("writing")
    shown = screen.getvalue()
    assert "\x1b[2J" not in shown
    assert shown.endswith("\x1b[2K")  # the last line is erased
    assert capsys.readouterr().out == "a result\n"


def test_nothing_where_nothing_is_to_be_shown(capsys, at_once):
    with live("reading", 3, shown=False) as bar:
        bar.at(1, 3)
        bar.say("a result")
    with progress_line(False) as told:
        assert told is None
    assert capsys.readouterr() == ("a result\n", "")


def test_files_are_counted_in_mib(capsys, at_once):
    with progress_line(True, "copying") as told:
        told("small.json", 10, 10)
        told("a.safetensors", 0, 64 << 20)
        told("a.safetensors", 32 << 20, 64 << 20)
    err = capsys.readouterr().err
    assert "copying a.safetensors, MiB (32 of 64" in err
    assert "small.json" not in err
