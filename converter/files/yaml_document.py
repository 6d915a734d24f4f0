"""YAML as presets use it: core types of YAML 1.2, a line for every key, no duplicate keys, nothing executed.

PyYAML alone reads YAML 1.1, in which `1e-5` is text and `on` is true, and lets the last of two equal keys
win.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from typing import Any

import yaml

from ropext.converter.errors import InvalidPreset, KeyPath, Problem, dotted
from ropext.converter.preset import Document

__all__ = ["MAX_BYTES", "dump", "load", "parse"]


MAX_BYTES = 256 * 1024
MAX_VALUES = 20_000
MAX_DEPTH = 32

_PREFIX = "tag:yaml.org,2002:"
_SURROGATE = re.compile("[\ud800-\udfff]")


def load(content: bytes, file: str) -> Document:
    """Parse the bytes of a YAML or JSON file.

    Args:
        content: UTF-8, with or without a byte order mark, at most 256 KiB.
        file: its name, for messages.

    Raises:
        InvalidPreset: when it cannot be read at all.
    """
    if len(content) > MAX_BYTES:
        raise _fatal(file, 0, f"is more than {MAX_BYTES} bytes long, too long for a preset")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise _fatal(file, line, "is not UTF-8 text; save it as UTF-8") from None
    return parse(text, file)


def parse(text: str, file: str) -> Document:
    """Parse YAML text; see `load`."""
    # JSON may be indented by tabs, YAML may not. Inside JSON's strings a raw tab is illegal, so none is lost.
    source = text.replace("\t", " ") if text.lstrip().startswith("{") else text
    try:
        node = yaml.compose(source, Loader=_CoreLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise _fatal(file, mark.line + 1 if mark else 0, f"is not valid YAML: {_reason(error)}") from None
    except yaml.reader.ReaderError as error:
        line = text[: error.position].count("\n") + 1
        raise _fatal(file, line, f"holds a character that YAML does not allow (U+{error.character:04X})") from None
    except RecursionError:
        raise _fatal(file, 0, "is nested too deeply to be a preset") from None
    builder = _Builder(file)
    data = None if node is None else builder.build(node, ())
    return Document(data, builder.lines, tuple(builder.problems))


def dump(data: Mapping[str, Any]) -> str:
    """Write values as YAML text, keys in their order."""
    return str(yaml.safe_dump(dict(data), sort_keys=False, allow_unicode=True, width=120))


def _fatal(file: str, line: int, message: str) -> InvalidPreset:
    return InvalidPreset([Problem(file, line, "", message)])


def _reason(error: yaml.MarkedYAMLError) -> str:
    return ", ".join(part for part in (error.context, error.problem) if part)


class _CoreLoader(yaml.SafeLoader):
    """SafeLoader that recognises what YAML 1.2's core schema does, `.inf` and `.nan` left out."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012


def _recognise(kind: str, pattern: str, first: str) -> None:
    _CoreLoader.add_implicit_resolver(_PREFIX + kind, re.compile(rf"^(?:{pattern})$"), list(first))


_recognise("null", r"~|null|Null|NULL|", "~nN")
_recognise("bool", r"true|True|TRUE|false|False|FALSE", "tTfF")
_recognise("int", r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", "-+0123456789")
_recognise("float", r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?", "-+.0123456789")
_CoreLoader.yaml_implicit_resolvers[""] = [(_PREFIX + "null", re.compile(r"^$"))]


def _int(text: str) -> int:
    number = int(text, 0) if text.startswith(("0o", "0x")) else int(text)
    if abs(number) >= 2**63:
        raise ValueError(text)
    return number


def _float(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(text)
    return number


def _text(text: str) -> str:
    text.encode()  # fails on half of a surrogate pair, which an escape can spell
    return text


def _bool(text: str) -> bool:
    return {"true": True, "false": False}[text.lower()]


_SCALARS: Mapping[str, Callable[[str], Any]] = {
    _PREFIX + "str": _text,
    _PREFIX + "int": _int,
    _PREFIX + "float": _float,
    _PREFIX + "bool": _bool,
    _PREFIX + "null": lambda text: None,
}


class _Builder:
    """Turns nodes into values and notes where each came from."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.lines: dict[KeyPath, int] = {}
        self.problems: list[Problem] = []
        self._built = 0

    def build(self, node: yaml.Node, path: KeyPath) -> Any:
        # Counted per use, not per node: a few nested aliases can stand for billions of values, or themselves.
        self._built += 1
        if self._built > MAX_VALUES or len(path) > MAX_DEPTH:
            raise _fatal(self.file, _line(node), "holds too much to be a preset (aliases counted each time)")
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, path)
        if isinstance(node, yaml.SequenceNode):
            return self._sequence(node, path)
        return self._scalar(node, path)

    def _mapping(self, node: yaml.MappingNode, path: KeyPath) -> Any:
        if not self._plain(node, path, "map"):
            return None
        values: dict[str, Any] = {}
        for key_node, value_node in node.value:
            key = self._key(key_node, path)
            if key is None:
                continue
            place: KeyPath = (*path, key)
            if key in values:
                self._report(key_node, place, f"is given twice, first on line {self.lines[place]}; keep one")
                continue
            self.lines[place] = _line(key_node)
            values[key] = self.build(value_node, place)
        return values

    def _sequence(self, node: yaml.SequenceNode, path: KeyPath) -> Any:
        if not self._plain(node, path, "seq"):
            return None
        places: list[KeyPath] = [(*path, index) for index in range(len(node.value))]
        self.lines.update(zip(places, map(_line, node.value), strict=True))
        return [self.build(item, place) for item, place in zip(node.value, places, strict=True)]

    def _scalar(self, node: yaml.Node, path: KeyPath) -> Any:
        construct = _SCALARS.get(node.tag)
        if construct is None:
            self._report(node, path, f"the tag {node.tag} is not allowed; write the plain value")
            return None
        try:
            return construct(node.value)
        except (ValueError, KeyError):
            kind = node.tag.removeprefix(_PREFIX)
            self._report(node, path, f"{node.value[:40]!r} is not a usable {kind}")
            return None

    def _key(self, node: yaml.Node, path: KeyPath) -> str | None:
        if isinstance(node, yaml.ScalarNode) and node.tag == _PREFIX + "str" and not _SURROGATE.search(node.value):
            return str(node.value)
        self._report(node, path, "a key must be a word")
        return None

    def _plain(self, node: yaml.Node, path: KeyPath, kind: str) -> bool:
        if node.tag == _PREFIX + kind:
            return True
        self._report(node, path, f"the tag {node.tag} is not allowed; write the plain value")
        return False

    def _report(self, node: yaml.Node, path: KeyPath, message: str) -> None:
        self.problems.append(Problem(self.file, _line(node), dotted(path), message))


def _line(node: yaml.Node) -> int:
    return int(node.start_mark.line) + 1
