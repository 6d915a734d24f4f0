"""Every `ropext` command that README and the pages show is one that the command line understands."""

import click
import pytest

from ropext.converter.cli.app import main
from tests.helpers.documented import PAGES, ROOT, documented

SHIPPED = {file.stem for file in (ROOT / "presets").glob("*.yaml")}
COMMANDS = [each for each in documented() if each.of_ropext is not None]
PLACEHOLDERS = {"NAME", "NAME|FILE", "TASK", "METHOD"}


def resolve(words):
    """The command that words name, its context, and what follows it."""
    command, context = main, click.Context(main, info_name="ropext")
    while isinstance(command, click.Group) and words and words[0] not in PLACEHOLDERS:
        if words[0].startswith("-"):
            break
        name, words = words[0], words[1:]
        group, command = command, command.get_command(context, name)
        assert command is not None, f"{group.name} has no command {name!r}"
        context = click.Context(command, info_name=name, parent=context)
    return command, context, words


def check(words, whole):
    """Fail with click's own message if a command line is wrong."""
    command, context, rest = resolve(list(words))
    if isinstance(command, click.Group):
        return
    values, extra, _ = command.make_parser(context).parse_args(args=rest)
    assert not extra, f"{extra} is too much"
    for param in command.params:
        value = values.get(param.name)
        if param.name not in values or value in (None, ()) or type(value).__name__ == "Sentinel":
            assert not (whole and param.required), f"{param.human_readable_name} is missing"
        elif not isinstance(param.type, click.Path | click.File) and not PLACEHOLDERS & set(words):
            param.type_cast_value(context, value)
        if param.name in ("preset", "preset_name", "presets"):
            for name in value if isinstance(value, list | tuple) else [value]:
                assert names_a_preset(name), f"no preset is called {name!r}"


def names_a_preset(name):
    return not isinstance(name, str) or name in PLACEHOLDERS or name.endswith(".yaml") or name in SHIPPED


@pytest.mark.parametrize("command", COMMANDS, ids=str)
def test_a_documented_command_is_understood(command):
    try:
        check(command.of_ropext, command.whole)
    except (click.ClickException, AssertionError) as error:
        message = error.format_message() if isinstance(error, click.ClickException) else str(error)
        pytest.fail(f"{command}: {message}", pytrace=False)


def test_commands_are_found_in_every_place():
    assert len(COMMANDS) > 60
    assert {"README.md", "docs/evaluating.md", "docs/methods/dpe.md"} <= {each.page for each in COMMANDS}
    assert {page.name for page in PAGES} >= {"README.md", "native.md", "yarn.md"}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("convert --prset x", "--prset"),
        ("convert --preset llama3-8b-dpee", "no preset is called"),
        ("report results/ --picture map", "map"),
        ("suggest org/model", "missing"),
        ("frobnicate", "no command"),
        ("eval passkey model --lengths 4q", "4q"),
        ("inspect a b", "too much"),
    ],
)
def test_a_wrong_command_is_noticed(words, message):
    with pytest.raises((click.ClickException, AssertionError), match=message):
        check(words.split(), whole=True)
