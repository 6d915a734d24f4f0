"""Model cards as text: headings, sections, metadata."""

import pytest
from huggingface_hub import ModelCard

from ropext.converter.files.model_card import Section, front_matter, headings, sections, split, with_key


def titles(text):
    return [(heading.level, heading.title) for heading in headings(text)]


@pytest.mark.parametrize("inside", ["## Use", "# The base model's card", "   ## Use"])
@pytest.mark.parametrize(
    ("opening", "closing"),
    [
        ("```", "```"),
        ("~~~", "~~~"),
        ("```python", "```"),
        ("~~~ `x`", "~~~~~"),
        ("``````", "```````"),
        ("   ~~~~", "  ~~~~ "),
    ],
)
def test_a_heading_in_a_block_of_code_is_none(opening, closing, inside):
    assert titles(f"# a\n{opening}\n{inside}\n{closing}\n## b\n") == [(1, "a"), (2, "b")]


@pytest.mark.parametrize(
    ("opening", "other"), [("```", "~~~"), ("~~~", "```"), ("````", "```"), ("```", "``` x"), ("~~~", "    ~~~")]
)
def test_what_does_not_close_a_block(opening, other):
    assert titles(f"{opening}\n## a\n{other}\n## b\n{opening}\n## c\n") == [(2, "c")]


@pytest.mark.parametrize("line", ["``` `a`", "    ```", "``", "text ```"])
def test_what_opens_no_block(line):
    assert titles(f"{line}\n## a\n") == [(2, "a")]


def test_a_block_that_is_never_closed():
    assert titles("# a\n~~~\n## b\n") == [(1, "a")]


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("## Use", (2, "Use")),
        ("   ##\tUse ## ", (2, "Use")),
        ("## Use#", (2, "Use#")),
        ("# C # #", (1, "C #")),
        ("##", (2, "")),
        ("## ##", (2, "")),
        ("###### f", (6, "f")),
        ("####### g", None),
        ("    ## code", None),
        ("##Use", None),
        ("text", None),
    ],
)
def test_headings(line, found):
    assert titles(f"{line}\r\n") == ([found] if found else [])


def test_where_headings_are():
    text = "x\r\n## a\r\n```\n## b\n```\n## c"
    assert [text[heading.start :][:4] for heading in headings(text)] == ["## a", "## c"]


def test_sections():
    text = "before\n# a\n1\n### b\n2\n## c\n~~~\n## d\n~~~\n"
    assert sections(text) == [
        Section(1, "a", "# a\n1\n### b\n2\n"),
        Section(2, "c", "## c\n~~~\n## d\n~~~\n"),
    ]
    assert sections("text") == []


def test_split():
    assert split("---\nlicense: mit\nlanguage: [en, 'no']\n---\ntext") == (
        {"license": "mit", "language": ["en", "no"]},
        "text",
    )
    assert split("text") == ({}, "text")


@pytest.mark.parametrize(
    "metadata", ["a: &x [1]\nb: *x", "a: &x {b: 1}\nc:\n  <<: *x", "- a", ": [", '!!int ""', "a: {"]
)
def test_metadata_is_plain(metadata):
    assert split(f"---\n{metadata}\n---\ntext") == ({}, "text")


def test_front_matter_keeps_order():
    metadata = {"zeta": 1, "license": "mit", "mine": {"b": 1, "a": "é"}}
    text = front_matter(metadata)
    assert list(split(text + "x")[0]) == ["zeta", "license", "mine"]
    assert ModelCard(text + "x").data.to_dict() == metadata


THEIRS = "---\n# a remark\nlicense:   'mit'\nmodel-index:\n- name: a\n  mine: 1\nlanguage: [no]\n---\n# T\n"


def test_one_key_is_set_and_nothing_else():
    seen = []
    text = with_key(THEIRS, "model-index", lambda before: seen.append(before) or [{"name": "b"}], "README.md")
    assert text == THEIRS.replace("- name: a\n  mine: 1\n", "- name: b\n")
    assert seen == [[{"name": "a", "mine": 1}]]
    added = with_key(THEIRS, "added", lambda before: before is None, "README.md")
    assert added == THEIRS.replace("language: [no]\n", "language: [no]\nadded: true\n")
