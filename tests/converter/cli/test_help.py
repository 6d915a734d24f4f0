"""Every help stands alone: a sentence for each option, an example that parses, a page that exists."""

import re
import shlex
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from ropext.converter.cli.app import main

ROOT = Path(__file__).parents[3]


def commands(command, path=("ropext",)):
    yield path, command
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            yield from commands(command.get_command(context, name), (*path, name))


COMMANDS = {" ".join(path): command for path, command in commands(main)}


def every(kind):
    found = [(name, each) for name, command in COMMANDS.items() for each in command.params if isinstance(each, kind)]
    return [pytest.param(name, each, id=f"{name} {each.opts[-1]}") for name, each in found]


@pytest.mark.parametrize(("name", "option"), every(click.Option))
def test_the_help_of_an_option_is_a_sentence(name, option):
    text = option.help
    assert text, "no help"
    assert re.fullmatch(r"[A-Z].*\.", text), "a sentence begins with a capital and ends with a full stop"
    assert len(text.split()) > 1
    assert text.split()[0] not in {"Of", "By", "As", "Such", "With", "This", "That", "For", "In"}, "stands alone"
    assert "[default" not in text, "click writes the default"
    assert "repeatable" not in text.lower(), "written as: May be given several times."
    if option.multiple:
        assert text.endswith("May be given several times.")


@pytest.mark.parametrize("name", COMMANDS)
def test_the_help_of_a_command_begins_with_a_sentence(name):
    first = re.split(r"\n\s*\n", COMMANDS[name].help.strip())[0]
    assert re.match(r"[A-Z][a-z]+ .*", first)
    assert " ".join(first.split()).endswith(".")


@pytest.mark.parametrize("name", COMMANDS)
def test_the_help_of_a_command_ends_with_examples_and_a_page(name):
    shown = CliRunner().invoke(main, [*name.split()[1:], "--help"])
    assert shown.exit_code == 0
    match = re.search(r"\n  Example:\n((?:    ropext .*\n)+)\n  Documentation: (\S+)\n$", shown.output)
    assert match, shown.output
    assert (ROOT / match[2]).is_file()
    for line in match[1].splitlines():
        assert line.strip().startswith(name)
        parse(shlex.split(line)[1:])


def parse(arguments):
    """Parse as click does, and run nothing."""
    command, context = main, None
    while True:
        context = command.make_context(command.name, list(arguments), parent=context)
        if not isinstance(command, click.Group):
            return
        rest = [*context._protected_args, *context.args]
        if not rest:
            pytest.fail(f"names no command of {command.name}")
        _, command, arguments = command.resolve_command(context, rest)


def test_all_commands_stand_in_groups_and_exit_statuses_are_told():
    text = CliRunner().invoke(main, ["--help"]).output
    headings = [line for line in text.splitlines() if re.fullmatch(r"[A-Z][a-z ]+:", line)]
    assert headings == ["Options:", "Make:", "Serve:", "Measure:", "Publish:", "Maintain:", "Exit status:"]
    for name in main.list_commands(click.Context(main)):
        assert re.search(rf"^  {name} ", text, re.MULTILINE)
    for status in ("0", "1", "2", "130"):
        assert re.search(rf"^  {status} ", text, re.MULTILINE)


@pytest.mark.parametrize("columns", ["0", "20", "nonsense"])
def test_help_on_odd_terminals(columns, monkeypatch):
    monkeypatch.setenv("COLUMNS", columns)
    assert "Maintain" in CliRunner().invoke(main, ["--help"]).output
