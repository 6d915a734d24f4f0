"""Where a conversion may go: never where it would harm."""

import pytest

from ropext.converter.convert.record import Entry, read_record
from ropext.converter.convert.write import write
from ropext.converter.errors import UsageError
from tests.helpers.written import WEIGHTS, entries


def _source(plan, output):
    return plan.source


def _inside(plan, output):
    return plan.source / "deeper"


def _around(plan, output):
    return plan.source.parent


def _file(plan, output):
    output.write_text("x")
    return output


def _below_file(plan, output):
    return plan.source.parent / "source" / "LICENSE" / "x"


def _link(plan, output):
    output.symlink_to(plan.source.parent)
    return output


def _root(plan, output):
    return output.__class__("/")


def _home(plan, output):
    return output.__class__.home()


@pytest.mark.parametrize("force", [False, True])
@pytest.mark.parametrize(
    ("place", "message"),
    [
        (_source, "may not be the source"),
        (_inside, "may not be the source"),
        (_around, "may not be the source"),
        (_below_file, "may not be the source"),
        (_file, "is a file"),
        (_link, "is a symbolic link"),
        (_root, "may not be the"),
        (_home, "may not be the home folder"),
    ],
)
def test_places_that_are_refused(plan, output, place, message, force):
    with pytest.raises(UsageError, match=message):
        write(plan, place(plan, output), force=force)
    assert (plan.source / "model.safetensors").read_bytes() == WEIGHTS


def test_current_folder_is_refused(plan, output, monkeypatch):
    (output / "deep").mkdir(parents=True)
    monkeypatch.chdir(output / "deep")
    for place in (output, output / "deep"):
        with pytest.raises(UsageError, match="may not be the current folder or hold it"):
            write(plan, place, force=True)


def test_empty_folder_is_taken(plan, output):
    output.mkdir()
    write(plan, output)
    assert (output / "config.json").exists()


def test_full_folder_needs_force(plan, output):
    output.mkdir()
    (output / "mine").write_text("x")
    with pytest.raises(UsageError, match=r"is not empty; choose another --output, or .* --force"):
        write(plan, output)
    assert entries(output) == ["mine"]


@pytest.mark.parametrize("name", [".git/HEAD", "thesis.txt", "results.jsonl", "sub/picture.png"])
def test_force_replaces_nothing_that_ropext_did_not_write(plan, output, name):
    write(plan, output)
    (output / name).parent.mkdir(exist_ok=True)
    (output / name).write_text("mine")
    with pytest.raises(UsageError, match=rf"holds what ropext did not write, .*: {name.split('/')[0]}; move that away"):
        write(plan, output, force=True)
    assert (output / name).read_text() == "mine"
    (output / name).unlink()
    write(plan, output, force=True)
    assert entries(output.parent) == ["output", "source"]


@pytest.mark.parametrize("name", ["README.md", "tokenizer_config.json", "ropext.json"])
def test_force_replaces_no_file_that_was_edited(plan, output, name):
    write(plan, output)
    (output / name).write_text("Mine.\n")
    with pytest.raises(UsageError, match="holds what ropext did not write"):
        write(plan, output, force=True)
    assert (output / name).read_text() == "Mine.\n"


@pytest.mark.parametrize("title", ["Results", "My notes"])
def test_force_drops_no_section_that_somebody_put_into_the_card(plan, output, title):
    """Also where the record knows the card, as after `ropext report --card` and `ropext card`."""
    write(plan, output)
    card = output / "README.md"
    card.write_text(f"# Tiny\n\n## Use\n\n## {title}\n\nMine.\n\n## Limits\n")
    record = read_record(output)
    (output / "ropext.json").write_bytes(record.with_files({"README.md": Entry.of(card.read_bytes())}).dump())
    before = entries(output)
    with pytest.raises(UsageError, match=f"--force would drop the sections '{title}'"):
        write(plan, output, force=True)
    assert entries(output) == before
    card.unlink()
    write(plan, output, force=True)
