"""A model card as text: metadata in YAML between two lines of `---`, then Markdown. It is parsed and edited here alone.

huggingface_hub's `ModelCard` checks what is written (`require_valid`). It does not edit: it drops comments and what it
does not know of `model-index`, turns the language `no` into false, and follows aliases in the card of a stranger.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from ropext.converter.errors import RopextError

__all__ = [
    "Heading",
    "Section",
    "front_matter",
    "headings",
    "newline_of",
    "require_valid",
    "sections",
    "split",
    "with_key",
]

MAX_METADATA = 256 * 1024
"""Characters of metadata that are read."""

_FRONT_MATTER = re.compile(r"(\ufeff?---[ \t]*\r?\n)(.*?)(\r?\n)(---[ \t]*(?:\r?\n|$))", re.DOTALL)
_FENCE = re.compile(r" {0,3}(`{3,}(?=[^`]*$)|~{3,})")


@dataclass(frozen=True)
class Heading:
    """A heading of Markdown, and where its line begins."""

    level: int
    title: str
    start: int


@dataclass(frozen=True)
class Section:
    """A heading of the first or second level, and the text from there to the next."""

    level: int
    title: str
    text: str


# The text


def headings(text: str) -> Iterator[Heading]:
    """Yield the headings of Markdown that begin with `#`; one within a block of code is none."""
    fence, start = "", 0
    for line in text.splitlines(keepends=True):
        written = line.rstrip("\r\n")
        mark = _FENCE.match(written)
        if fence:
            # It ends at a run of the same characters, as long at least, with nothing behind it.
            run = written.strip()
            fence = "" if mark and len(run) >= len(fence) and not run.strip(fence[0]) else fence
        elif mark:
            fence = mark[1]
        elif level := _level(written):
            yield Heading(level, _title(written.strip()[level:].strip()), start)
        start += len(line)


def _level(line: str) -> int:
    """Return the level of the heading that a line is; 0 where it is none."""
    text = line.lstrip(" ")
    marks = len(text) - len(text.lstrip("#"))
    indented, behind = len(line) - len(text), text[marks : marks + 1]
    return marks if indented < 4 and marks < 7 and behind in ("", " ", "\t") else 0


def _title(text: str) -> str:
    """Leave out the marks that may close a heading."""
    shorter = text.rstrip("#")
    return shorter.strip() if shorter[-1:] in ("", " ", "\t") else text


def sections(text: str) -> list[Section]:
    """Cut Markdown at its headings of the first and second level; what stands before them is left out."""
    found = [heading for heading in headings(text) if heading.level < 3]
    ends = [*(heading.start for heading in found[1:]), len(text)]
    return [
        Section(heading.level, heading.title, text[heading.start : end])
        for heading, end in zip(found, ends, strict=False)
    ]


def newline_of(text: str) -> str:
    """Return how the lines of a text end."""
    return "\r\n" if "\r\n" in text else "\n"


# The metadata


def split(text: str) -> tuple[dict[str, Any], str]:
    """Split a model card into its metadata and its text.

    Args:
        text: the README.

    Returns:
        The metadata, empty where there is none or it is not valid YAML, and the Markdown after it.
    """
    match = _FRONT_MATTER.match(text)
    return (_metadata(match[2]), text[match.end() :]) if match else ({}, text)


def front_matter(metadata: Mapping[str, Any]) -> str:
    """Write metadata as the head of a card."""
    return f"---\n{yaml.safe_dump(dict(metadata), sort_keys=False, allow_unicode=True)}---\n"


def with_key(text: str, key: str, change: Callable[[Any], Any], name: str) -> str:
    """Set one key of a card's metadata, all else of which stays as it is written.

    Args:
        text: the card.
        key: which.
        change: called with the present value, or None; returns JSON values.
        name: of the card, for messages.

    Raises:
        RopextError: the metadata is not valid, or not written with one key on each line.
    """
    newline, match = newline_of(text), _FRONT_MATTER.match(text)
    written = match[2] if match else ""
    before = _strict(written, name)
    value = change(before.get(key))
    lines = yaml.safe_dump({key: value}, sort_keys=False, allow_unicode=True, width=1000).rstrip("\n")
    lines = lines.replace("\n", newline)
    if not match:
        return f"---{newline}{lines}{newline}---{newline}{newline}{text}"
    renewed = _with_lines(written, key, lines, newline)
    try:
        right = yaml.safe_load(renewed) == {**before, key: value}
    except yaml.YAMLError:
        right = False
    if not right:
        raise RopextError(f"{name}: its metadata cannot be added to as it is written; put one key on each line")
    return text[: match.start(2)] + renewed + text[match.end(2) :]


def _strict(written: str, name: str) -> dict[str, Any]:
    try:
        metadata = yaml.safe_load(written)
    except (yaml.YAMLError, ValueError):
        raise RopextError(f"{name}: its metadata is not valid YAML; repair it first") from None
    if not isinstance(metadata, dict | None):
        raise RopextError(f"{name}: its metadata is no mapping; repair it first")
    return metadata or {}


def _with_lines(written: str, key: str, lines: str, newline: str) -> str:
    """Put the lines of a key in the place of those that are there, or behind all others."""
    node = yaml.compose(written, Loader=yaml.SafeLoader)
    pairs = node.value if isinstance(node, yaml.MappingNode) else []
    for key_node, value_node in pairs:
        if key_node.value == key:
            return written[: key_node.start_mark.index] + lines + written[_end_of(value_node) :]
    return f"{written.rstrip()}{newline}{lines}" if written.strip() else lines


def _end_of(node: yaml.Node) -> int:
    """Return where what is written of a node ends; a block's own mark is where the next thing begins."""
    if isinstance(node, yaml.CollectionNode) and not node.flow_style and node.value:
        last = node.value[-1]
        return _end_of(last[1] if isinstance(last, tuple) else last)
    return int(node.end_mark.index)


def require_valid(text: str, name: str) -> None:
    """Hold a card against what the Hub's client knows of metadata, without asking the Hub.

    Raises:
        RopextError: it says what is wrong.
    """
    from huggingface_hub import ModelCard

    try:
        card: Any = ModelCard(text)
        metadata = card.data.to_dict()
    except (ValueError, TypeError, yaml.YAMLError) as error:
        raise RopextError(f"{name}: its metadata is not valid: {error}") from None
    for key in ("license", "license_name", "license_link", "library_name", "pipeline_tag"):
        if not isinstance(metadata.get(key, ""), str):
            raise RopextError(f"{name}: its metadata is not valid: {key} is {metadata[key]!r}, and has to be text.")
    for key in ("base_model", "datasets", "language", "tags"):
        values = metadata.get(key, [])
        if not all(isinstance(value, str) for value in (values if isinstance(values, list) else [values])):
            raise RopextError(f"{name}: its metadata is not valid: {key} is {values!r}, and has to be text or a list.")


def _metadata(text: str) -> dict[str, Any]:
    """Read somebody's metadata as the Hub does; empty where it is none, too long, or more than plain values."""
    if len(text) > MAX_METADATA:
        return {}
    try:
        found = yaml.load(text, Loader=_PlainLoader)
        json.dumps(found, ensure_ascii=False, default=str).encode()
    # PyYAML's constructors fail in many ways, on `!!int ""` with an IndexError.
    except (yaml.YAMLError, ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


class _PlainLoader(yaml.SafeLoader):
    """SafeLoader without aliases and merges, by which a few lines can stand for billions of values."""

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            raise yaml.composer.ComposerError(None, None, "an alias", self.peek_event().start_mark)  # type: ignore[no-untyped-call]
        node: yaml.Node | None = super().compose_node(parent, index)
        return node

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        """Leave `<<` where it is: it is refused as a key."""
