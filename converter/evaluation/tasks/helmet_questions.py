"""HELMET's questions of recall and retrieval-augmented generation, read from its files.

Yen et al., "HELMET: How to Evaluate Long-context Language Models Effectively and Thoroughly" (arXiv 2410.02694). The
words around a question, which questions are drawn from a file, and which solved ones stand before each are those of
`data.py` of https://github.com/princeton-nlp/HELMET.
"""

from __future__ import annotations

import hashlib
import math
import random
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ropext.converter.errors import RopextError

from .benchmark_files import Record, read_chosen, read_records

__all__ = ["DOWNLOAD", "SHOTS", "Question", "json_kv", "rag", "ruler"]

DOWNLOAD = (
    "give by --data the folder data of data.tar.gz of https://huggingface.co/datasets/princeton-nlp/HELMET, "
    "in which json_kv, kilt and ruler are"
)

SHOTS = 2
"""Solved questions before each; of RULER's there are none."""

_SEED = 42
_POPULAR = 3.0
"""PopQA asks of what fewer than ten to the power of this read about each month."""

_KEY = (
    "\n\nExtract the value corresponding to the specified key in the JSON object below.\n\n{solved}Key: {question}",
    "Corresponding value:",
)
_DOCUMENTS = (
    "Use the given documents to write a concise and short answer to the question. Write your answer in the following "
    "format:\nAnswer: [answer]\n\n"
)
_DOCUMENT = "Document (Title: {title}): {text}"
_ONE = (
    "A special magic {kind} is hidden within the following text. Make sure to memorize it. I will quiz you about the "
    "{kind} afterwards.\n",
    "\nWhat is the special magic {kind} for {query} mentioned in the provided text?",
    "The special magic {kind} for {query} mentioned in the provided text is",
)
_SEVERAL = (
    "Some special magic {kind} are hidden within the following text. Make sure to memorize it. I will quiz you about "
    "the {kind} afterwards.\n",
    "\nWhat are all the special magic {kind} for {query} mentioned in the provided text?",
    "The special magic {kind} for {query} mentioned in the provided text are",
)


@dataclass(frozen=True)
class Question:
    """One question.

    Attributes:
        number: of its line in the file, from 0.
        asked: what is asked, the same for one question about several texts.
        before: what stands before the text.
        text: what is cut if the prompt is too long.
        after: what stands after it.
        begun: how the answer begins.
        answers: the right ones.
        place: file and line, for messages.
    """

    number: int
    asked: str
    before: str
    text: str
    after: str
    begun: str
    answers: tuple[str, ...]
    place: str


def _shuffled(count: int, seed: int) -> list[int]:
    """Numbers in the order in which Hugging Face's data sets shuffle rows."""
    return [int(each) for each in np.random.default_rng(seed).permutation(count)]


def _answers(record: Record, *names: str) -> tuple[str, ...]:
    """A text, or a list of texts or of lists of texts."""
    name = next((each for each in names if each in record.fields), names[0])
    value = record.fields.get(name)
    rows = value if isinstance(value, list) else [value]
    found = [each for row in rows for each in (row if isinstance(row, list) else [row])]
    texts = tuple(each for each in found if isinstance(each, str))
    if not texts or len(texts) < len(found):
        raise record.wrong(name, "a text or a list of texts")
    return texts


# Recall


def json_kv(file: Path, samples: int) -> tuple[list[Question], str]:
    """Draw questions about keys in JSON from a file; and its digest."""
    return _drawn(file, samples, _of_json_kv)


def _of_json_kv(number: int, record: Record) -> Question:
    pairs = record.fields.get("demos")
    whole = isinstance(pairs, list) and all(isinstance(each, list) and len(each) == 2 for each in pairs)
    if not isinstance(pairs, list) or not whole or len(pairs) < SHOTS:
        raise record.wrong("demos", f"a list of {SHOTS} or more pairs of key and value")
    solved = "\n\n".join(f"Key: {key}\nCorresponding value: {value}" for key, value in pairs[:SHOTS]) + "\n\n"
    asked = record.text("question")
    after = _KEY[0].format(solved=solved, question=asked)
    text, answers = record.text("context"), _answers(record, "answer")
    return Question(number, asked, "", text, after, _KEY[1], answers, record.place)


def ruler(file: Path, samples: int, *, several: bool) -> tuple[list[Question], str]:
    """Draw questions about needles from a file; and its digest.

    Args:
        file: as RULER's generators write it, with the text apart.
        samples: how many.
        several: numbers are asked for, not one.
    """

    def of(number: int, record: Record) -> Question:
        words = {"kind": record.text("type_needle_v"), "query": record.text("query")}
        before, after, begun = (each.format(**words) for each in (_SEVERAL if several else _ONE))
        text, answers = record.text("context"), _answers(record, "answer", "outputs")
        return Question(number, str(number), before, text, after, begun, answers, record.place)

    return _drawn(file, samples, of)


def _drawn(file: Path, samples: int, of: Callable[[int, Record], Question]) -> tuple[list[Question], str]:
    def choose(rows: Sequence[Hashable]) -> list[int]:
        return _shuffled(len(rows), _SEED)[:samples]

    records, digest = read_chosen(file, DOWNLOAD, lambda record: None, choose)
    return [of(number, record) for number, record in records.items()], digest


# Retrieval-augmented generation


def rag(file: Path, solved: Path, samples: int, *, popqa: bool) -> tuple[list[Question], str]:
    """Draw questions about retrieved documents from a file; and its digest.

    Args:
        file: of the questions, each at several places of the right document.
        solved: of solved ones.
        samples: how many questions.
        popqa: ask of what few read about, and take no solved question that is asked.
    """
    known, known_digest = read_records(solved, DOWNLOAD)
    known = [record for record in known if not popqa or _is_rare(record)]
    if len({_key(record) for record in known}) <= SHOTS:
        raise RopextError(f"{solved}: has fewer than {SHOTS + 1} questions; {DOWNLOAD}")

    def look(record: Record) -> Hashable:
        return _key(record) if not popqa or _is_rare(record) else None

    def choose(keys: Sequence[Hashable]) -> list[int]:
        there = sorted({key for key in keys if key is not None}, key=_rank)
        drawn = set(random.Random(_SEED).sample(there, min(samples, len(there))))
        return [number for number, key in enumerate(keys) if key in drawn]

    records, digest = read_chosen(file, DOWNLOAD, look, choose)
    both = hashlib.sha256(f"{digest} {known_digest}".encode()).hexdigest()
    return [_of_rag(number, record, known, popqa=popqa) for number, record in records.items()], both


def _rank(key: Hashable) -> tuple[str, Hashable]:
    return type(key).__name__, key


def _key(record: Record) -> Hashable:
    """What tells a question from others: its id, or where files have none its words."""
    value = record.fields.get("id")
    return value if isinstance(value, str | int) else record.text("question")


def _is_rare(record: Record) -> bool:
    value = record.fields.get("s_pop")
    if not isinstance(value, int | float) or value <= 0:
        raise record.wrong("s_pop", "a number over 0")
    return math.log10(value) < _POPULAR


def _of_rag(number: int, record: Record, known: Sequence[Record], *, popqa: bool) -> Question:
    key = _key(record)
    others = [each for each in known if not popqa or _key(each) != key]
    seed = int(hashlib.sha256(str(key).encode()).hexdigest(), 16) % 2**31
    solved = "".join(f"{each}\n\n" for each in _solved(others, seed))
    after = f"\n\nQuestion: {record.text('question')}"
    answers = _answers(record, "answers")
    return Question(number, str(key), _DOCUMENTS + solved, _documents(record), after, "Answer:", answers, record.place)


def _solved(known: Sequence[Record], seed: int) -> Iterator[str]:
    """The first solved questions of a shuffled order, each once."""
    found: dict[Hashable, Record] = {}
    for number in _shuffled(len(known), seed):
        found.setdefault(_key(known[number]), known[number])
        if len(found) == SHOTS:
            break
    for record in found.values():
        answer = _answers(record, "answers")[0]
        yield f"{_documents(record)}\n\nQuestion: {record.text('question')}\nAnswer: {answer}"


def _documents(record: Record) -> str:
    found = record.fields.get("ctxs")
    if not isinstance(found, list) or not all(map(_is_document, found)):
        raise record.wrong("ctxs", "a list of documents, with texts `title` and `text`")
    return "\n\n".join(_DOCUMENT.format(title=each["title"], text=each["text"]) for each in found)


def _is_document(value: object) -> bool:
    return isinstance(value, Mapping) and all(isinstance(value.get(name), str) for name in ("title", "text"))
