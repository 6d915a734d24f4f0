"""What benchmarks that are files have in common: reading, a chat template around a question, cuts, and one question.

A benchmark is a module of data beside this one: its files, the words around a question, how long an answer may be, and
a score. Messages name the file and the line, and say what to do.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import TemplateError

from ropext.converter.errors import RopextError, UsageError
from ropext.converter.evaluation.asking import digest, prompt_ids
from ropext.converter.text import did_you_mean

if TYPE_CHECKING:
    from ropext.converter.evaluation.asking import Model

__all__ = [
    "FileRun",
    "Record",
    "Wording",
    "chat_prompt",
    "check_names",
    "cut_middle",
    "documents",
    "files_of",
    "is_chat",
    "read_lines",
    "read_records",
]


# Files


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


# Words around a question


def is_chat(tokenizer: Any) -> bool:
    """Whether a tokenizer has a chat template."""
    return bool(getattr(tokenizer, "chat_template", None))


def chat_prompt(tokenizer: Any, user: str, system: str = "") -> str:
    """Put a user's turn by a tokenizer's chat template, so that the answer comes next.

    A template that can let the model think is told not to.

    Args:
        tokenizer: has a chat template.
        user: what the user says.
        system: what a chat begins with; put before the user's words where the template knows no system.

    Raises:
        RopextError: the template refuses it.
    """
    asked = [{"role": "user", "content": user}]
    ways = [asked]
    if system:
        ways = [[{"role": "system", "content": system}, *asked], [{"role": "user", "content": system + user}]]
    why = ""
    for messages in ways:  # some templates know no system
        try:
            text: str = tokenizer.apply_chat_template(
                messages, tokenize=False, add_generation_prompt=True, enable_thinking=False
            )
        except TemplateError as error:
            why = str(error)
        else:
            if not system or system.strip() in text:  # and some leave it out without a word
                return text
    raise RopextError(f"the tokenizer's chat template cannot put a question: {why}")


@dataclass(frozen=True)
class Wording:
    """How a text is put to a model.

    Attributes:
        tokenizer: of the model.
        chat: by its chat template.
        system: what a chat begins with.
    """

    tokenizer: Any
    chat: bool
    system: str = ""

    @classmethod
    def of(cls, tokenizer: Any, chat: bool | None, system: str = "") -> Wording:
        """Return the way that is asked for.

        Args:
            tokenizer: of the model.
            chat: by its chat template; None: where it has one.
            system: what a chat begins with.

        Raises:
            UsageError: it has none.
        """
        if chat and not is_chat(tokenizer):
            raise UsageError("--chat: the tokenizer has no chat template; leave it out, or give an instruct model")
        return cls(tokenizer, is_chat(tokenizer) if chat is None else chat, system)

    def put(self, text: str) -> str:
        """What the model is given to continue."""
        return chat_prompt(self.tokenizer, text, self.system) if self.chat else text

    def count(self, text: str) -> int:
        """Tokens of that."""
        return len(prompt_ids(self.tokenizer, self.put(text), special_tokens=not self.chat))


def cut_middle(wording: Wording, text: str, most: int, *, around: str) -> str:
    """Cut a text in its middle, as published: its first and its last tokens are kept, as many of each.

    Args:
        wording: how it will be put.
        text: what is to be put: a document and the words around it.
        most: tokens that the prompt may have.
        around: these words without the document; none of them is cut off.

    Returns:
        The text, or what is kept of it; empty where the words around it need more than half the room.
    """
    over = wording.count(text) - most
    if over <= 0:
        return text
    if 2 * wording.count(around) > most:
        return ""
    ids = wording.tokenizer(text, add_special_tokens=False).input_ids
    kept = len(ids) - over
    while True:  # the seam may take a token more than its two sides
        half = max(0, kept) // 2
        cut: str = wording.tokenizer.decode(ids[:half] + ids[len(ids) - half :], skip_special_tokens=True)
        over = wording.count(cut) - most
        if over <= 0:
            return cut
        kept -= over


# A question


@dataclass(frozen=True)
class FileRun:
    """One question.

    Attributes:
        task: the part of the benchmark that it belongs to.
        length: that prompt and answer may have together (tokens).
        number: of the question, in its file.
        document: number of the first question about the same text.
        prompt: what the model is given to continue.
        answers: the right ones, for the results.
        new_tokens: that an answer may have.
        score: what an answer is worth, from 0 to 1.
        special_tokens: the tokenizer's begin the prompt; not where a chat template has put them.
        tokens: of the prompt.
        groups: parts of the benchmark that are averaged too.
        before: what stands before the answer where it is scored: words that the prompt ends with.
        one_line: the answer ends with its first line.
    """

    task: str
    length: int
    number: int
    document: int
    prompt: str
    answers: tuple[str, ...]
    new_tokens: int
    score: Callable[[str], float]
    special_tokens: bool
    tokens: int
    groups: tuple[str, ...] = ()
    before: str = ""
    one_line: bool = False

    @property
    def key(self) -> str:
        """What tells it from the others."""
        return f"{self.task} {self.length} {self.number}"

    @property
    def size(self) -> int:
        """Tokens of the prompt."""
        return self.tokens

    def answer(self, model: Model) -> tuple[str, dict[str, Any]]:
        """Let a model answer; what it writes, and what else is written down of it."""
        return model.continuation(self.prompt, self.new_tokens, special_tokens=self.special_tokens), {}

    def measure(self, model: Model) -> dict[str, Any]:
        """Ask a model; what is written down of it."""
        prediction, about = self.answer(model)
        if self.one_line:
            prediction = prediction.split("\n")[0]
        return {
            "length": self.length,
            "tokens": self.tokens,
            "seed": self.number,
            "asked": digest(self.prompt),
            "task": self.task,
            **({"groups": list(self.groups)} if self.groups else {}),
            "document": self.document,
            "score": float(self.score(self.before + prediction)),
            "prediction": prediction,
            "answers": list(self.answers),
            **about,
        }
