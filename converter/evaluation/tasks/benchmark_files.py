"""Files of benchmarks: which are there, and their records, read with messages that name the file and the line.

Messages also say where to get a file.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ropext.converter.errors import RopextError, UsageError
from ropext.converter.text import did_you_mean

__all__ = [
    "Record",
    "check_names",
    "documents",
    "files_of",
    "read_chosen",
    "read_lines",
    "read_records",
]


def check_names(tasks: Iterable[str], known: Iterable[str], benchmark: str) -> None:
    """Refuse a task that a benchmark does not have.

    Raises:
        UsageError: there is one.
    """
    names = list(known)
    for task in tasks:
        if task not in names:
            raise UsageError(f"{task} is none of {benchmark}'s tasks, {', '.join(names)}{did_you_mean(task, names)}")


def files_of(files: Mapping[str, Sequence[Path]], benchmark: str, download: str, *, named: bool) -> None:
    """Refuse to run a benchmark whose files are not all there.

    Args:
        files: that each task reads.
        benchmark: its name, for the message.
        download: where to get them.
        named: somebody chose these tasks; else the message says how.

    Raises:
        UsageError: files are missing; it names them, and the tasks that can be run without them.
    """
    lacks = {task: [file for file in each if not file.is_file()] for task, each in files.items()}
    missing = {task: each for task, each in lacks.items() if each}
    if not missing:
        return
    lines = [f"{benchmark} cannot be run whole here"] if not named else []
    lines += [f"{task}: there is no {', '.join(map(str, each))}" for task, each in missing.items()]
    lines.append(download)
    there = [task for task in files if task not in missing]
    if there and not named:
        lines.append(f"or name what you want: --tasks {','.join(there)}")
    raise UsageError("\n".join(lines))


def read_lines(file: Path, download: str) -> tuple[bytes, list[tuple[str, str]]]:
    """Read a file of lines.

    Args:
        file: where it is.
        download: where to get it.

    Returns:
        All of it, and its lines that are not empty, each with its place for messages.

    Raises:
        UsageError: it cannot be read.
        RopextError: there is nothing in it.
    """
    content, text = _content(file, download)
    return content, _numbered(file, text)


def _content(file: Path, download: str) -> tuple[bytes, str]:
    try:
        content = file.read_bytes()
        text = content.decode()
    except UnicodeDecodeError:
        raise UsageError(f"{file}: is not UTF-8 text") from None
    except OSError as error:
        raise UsageError(f"{file}: cannot be read: {error.strerror}; {download}") from None
    if not text.strip():
        raise RopextError(f"{file}: is empty; {download}")
    return content, text


def _numbered(file: Path, text: str) -> list[tuple[str, str]]:
    return [(f"{file}:{number}", line) for number, line in enumerate(text.split("\n"), start=1) if line.strip()]


@dataclass(frozen=True)
class Record:
    """One JSON object of a file.

    Attributes:
        place: file and line, for messages.
        fields: what it says.
        download: where to get the file, for messages.
    """

    place: str
    fields: Mapping[str, Any]
    download: str

    def text(self, name: str) -> str:
        """A field that has to be text.

        Raises:
            RopextError: it is not there, or something else.
        """
        value = self.fields.get(name)
        if not isinstance(value, str) or not _is_unicode(value):
            raise self.wrong(name, "a text")
        return value

    def texts(self, name: str, count: int | None = None) -> list[str]:
        """A field that has to be a list of texts, of so many where a number is given; else of one at least.

        Raises:
            RopextError: it is not there, or something else.
        """
        value = self.fields.get(name)
        whole = isinstance(value, list) and all(isinstance(each, str) and _is_unicode(each) for each in value)
        if not whole or not value or len(value) != (count or len(value)):
            raise self.wrong(name, f"a list of {count or 'one or more'} texts")
        return list(value)

    def one_of(self, name: str, known: Sequence[str]) -> str:
        """A field that has one of some values.

        Raises:
            RopextError: it is not there, or something else.
        """
        value = self.fields.get(name)
        if not isinstance(value, str) or value not in tuple(known):
            raise self.wrong(name, f"one of {', '.join(known)}")
        return value

    def wrong(self, name: str, wanted: str) -> RopextError:
        """What to raise where a field is not what is wanted."""
        found = "is missing" if name not in self.fields else f"is not {wanted}"
        return RopextError(f"{self.place}: `{name}` {found}; the file is of another form: {self.download}")


def read_records(file: Path, download: str) -> tuple[list[Record], str]:
    """Read JSON objects: one a line, or one list of them.

    Args:
        file: where it is.
        download: where to get it.

    Returns:
        They, and a digest of the file.

    Raises:
        UsageError: the file cannot be read.
        RopextError: it is something else, or empty.
    """
    content, text = _content(file, download)
    if text.lstrip().startswith("["):
        whole = _parsed(text, str(file), download)
        values = [(f"{file}: record {number}", each) for number, each in enumerate(whole, start=1)]
    else:
        values = [(place, _parsed(line, place, download)) for place, line in _numbered(file, text)]
    for place, value in values:
        if not isinstance(value, dict):
            raise RopextError(f"{place}: is no JSON object; {download}")
    if not values:
        raise RopextError(f"{file}: is empty; {download}")
    return [Record(place, value, download) for place, value in values], hashlib.sha256(content).hexdigest()


def read_chosen(
    file: Path,
    download: str,
    look: Callable[[Record], Hashable],
    choose: Callable[[Sequence[Hashable]], Iterable[int]],
) -> tuple[dict[int, Record], str]:
    """Read a few records of a file of lines that may be larger than memory.

    Args:
        file: where it is.
        download: where to get it.
        look: what the choice depends on, of each record.
        choose: numbers of the records that are wanted, by what was seen of all.

    Returns:
        These, by number, in the order of the choice; and a digest of the file.

    Raises:
        UsageError: the file cannot be read.
        RopextError: it is something else, or empty.
    """
    whole, seen, starts = hashlib.sha256(), list[Hashable](), list[tuple[int, int]]()
    try:
        with file.open("rb") as stream:
            start = 0
            for number, line in enumerate(stream, start=1):
                whole.update(line)
                if line.strip():
                    seen.append(look(_record(line, f"{file}:{number}", download)))
                    starts.append((start, number))
                start += len(line)
            if not seen:
                raise RopextError(f"{file}: is empty; {download}")
            found = {}
            for each in choose(seen):
                start, number = starts[each]
                stream.seek(start)
                found[each] = _record(stream.readline(), f"{file}:{number}", download)
    except OSError as error:
        raise UsageError(f"{file}: cannot be read: {error.strerror}; {download}") from None
    return found, whole.hexdigest()


def _record(line: bytes, place: str, download: str) -> Record:
    try:
        text = line.decode()
    except UnicodeDecodeError:
        raise RopextError(f"{place}: is not UTF-8 text; {download}") from None
    value = _parsed(text, place, download)
    if not isinstance(value, dict):
        raise RopextError(f"{place}: is no JSON object; {download}")
    return Record(place, value, download)


def _parsed(text: str, place: str, download: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise RopextError(f"{place}: not valid JSON: {error}; {download}") from None


def _is_unicode(text: str) -> bool:
    """Whether there is no half of a surrogate pair, which no tokenizer takes."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def documents(texts: Iterable[str]) -> list[int]:
    """Return for each text the number of the first that is the same: questions about one are not independent."""
    first: dict[str, int] = {}
    return [first.setdefault(text, number) for number, text in enumerate(texts)]
