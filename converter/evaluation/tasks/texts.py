"""Prose to hide things in, and to measure on."""

from __future__ import annotations

import hashlib
import random
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ropext.converter.errors import UsageError
from ropext.converter.evaluation.asking import beginning

__all__ = ["Text", "load_text", "passage"]

_SHORTEST = 80
"""Of a paragraph that counts as prose, characters: what is shorter is a heading, a list or a grammar rule."""

_SUFFIXES = (".md", ".rst", ".txt")


@dataclass(frozen=True)
class Text:
    """Prose, cut into sentences.

    Attributes:
        name: where it is from: the names of the files and folders.
        sha256: of the sentences, so that two runs can be told to have read the same.
        sentences: each ends with its own full stop.
    """

    name: str
    sha256: str
    sentences: tuple[str, ...]

    def half(self, which: int) -> Text:
        """Every other passage of forty sentences: what is tuned on one half (0) can be tried on the other (1)."""
        return _text(self.name, (s for i, s in enumerate(self.sentences) if i // 40 % 2 == which))

    def from_anywhere(self, seed: int) -> Iterator[str]:
        """Yield the sentences from a random one on, in order and without end."""
        return self.without_end(random.Random(seed).randrange(len(self.sentences)))

    def without_end(self, start: int = 0) -> Iterator[str]:
        """Yield the sentences from `start` on, and again from the first, without end."""
        yield from self.sentences[start:]
        while True:
            yield from self.sentences


def load_text(files: Sequence[Path] = ()) -> Text:
    """Read prose from text files, and from those in folders; by default what Python itself ships about the language.

    Raises:
        UsageError: a file is missing or not UTF-8, or there are not two sentences.
    """
    if not files:
        from pydoc_data.topics import topics

        text = _text("pydoc_data.topics", _sentences(topics[key] for key in sorted(topics)))
    else:
        found = [file for each in files for file in _files(each)]
        text = _text(", ".join(each.absolute().name for each in files), _sentences(map(_read, found)))
    if len(text.sentences) < 80:
        names = ", ".join(map(str, files))
        raise UsageError(f"{names}: {len(text.sentences)} sentences of prose; give texts of at least 80")
    return text


def passage(tokenizer: Any, text: Text, length: int, seed: int) -> list[int]:
    """Return the ids of a passage of a text, which begins at a random place that a seed chooses."""
    ids = beginning(tokenizer)  # a token for the beginning, where the model has one
    sentences = text.from_anywhere(seed)
    while len(ids) < length:
        ids += tokenizer(f"{next(sentences)} ", add_special_tokens=False).input_ids
    return ids[:length]


def _text(name: str, sentences: Iterable[str]) -> Text:
    kept = tuple(sentences)
    return Text(name, hashlib.sha256("\n".join(kept).encode()).hexdigest(), kept)


def _files(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    found = sorted(file for file in path.rglob("*") if file.suffix in _SUFFIXES and file.is_file())
    if not found:
        raise UsageError(f"{path}: holds no file that ends in {', '.join(_SUFFIXES)}")
    return found


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise UsageError(f"{file}: is not UTF-8 text; convert it first") from None
    except OSError as error:
        raise UsageError(f"{file}: cannot be read: {error.strerror}") from None


def _sentences(pages: Iterable[str]) -> Iterator[str]:
    """Sentences of paragraphs of prose, each once."""
    seen = set()
    for page in pages:
        for paragraph in re.split(r"\n\s*\n", page):
            prose = " ".join(paragraph.split())
            if len(prose) >= _SHORTEST and prose[0].isupper() and prose[-1] in ".?!":
                for sentence in re.split(r"(?<=[.?!]) (?=[A-Z])", prose):
                    if sentence not in seen:
                        seen.add(sentence)
                        yield sentence
