"""RULER's questions about documents: `qa_1` (SQuAD) and `qa_2` (HotpotQA), from files that the user has.

The documents that answer the question stand among others: for SQuAD first those of the same article, then any. Where
all documents of the file fit they are all there, in an order of their own; the published code then shuffles its list
in place, and asks its next questions about the wrong documents.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

from ropext.converter.errors import UsageError

from .ruler_fitting import Draft, Setting, fill, fit

__all__ = ["DOWNLOADS", "Questions", "questions"]

Dataset = Literal["squad", "hotpotqa"]

DOWNLOADS: dict[Dataset, str] = {
    "squad": "dev-v2.0.json from https://rajpurkar.github.io/SQuAD-explorer",
    "hotpotqa": "hotpot_dev_distractor_v1.json from https://hotpotqa.github.io",
}

_ASK = "Answer the question based on the given documents. Only give me the answer and do not output any other words."
TASK = _ASK + "\n\nThe following are given documents.\n\n{context}\n\n" + _ASK + "\n\nQuestion: {query}"
ANSWER = " Answer:"
DOCUMENT = "Document {number}:\n{document}"
STEP = 10


@dataclass(frozen=True)
class Questions:
    """Which file the questions and documents are from."""

    dataset: Dataset


@dataclass(frozen=True)
class _Question:
    """One question; documents are given by their place in the sorted list of all."""

    query: str
    answers: tuple[str, ...]
    documents: tuple[int, ...]
    same_article: tuple[int, ...] = ()


def questions(task: Questions, setting: Setting, file: Path) -> Iterator[Draft]:
    """One example for each question of the file, in its order.

    Raises:
        UsageError: the file cannot be read, or is not of the form that its publishers gave it.
    """
    asked, documents = _read(task.dataset, file)
    rng = random.Random(setting.seed)

    def draft(question: _Question, number: int) -> Draft:
        chosen = list(range(len(documents)))
        if number < len(documents):
            chosen = _choose(question, number, len(documents), rng)
        random.Random(setting.seed).shuffle(chosen)
        context = "\n\n".join(DOCUMENT.format(number=i, document=documents[j]) for i, j in enumerate(chosen, start=1))
        return Draft(setting.wrap(TASK.format(context=context, query=question.query), ANSWER), question.answers)

    def counted(number: int) -> str:
        made = draft(asked[0], number)
        return f"{made.prompt} {list(made.answers)}"

    number = fit(counted, setting, STEP, setting.room, most=len(documents))
    for question in asked:
        least = len(question.documents)
        yield fill(_for(draft, question), setting, max(number, least), STEP, setting.room, least)


def _for(draft: Callable[[_Question, int], Draft], question: _Question) -> Callable[[int], Draft]:
    return lambda number: draft(question, number)


def _choose(question: _Question, number: int, documents: int, rng: random.Random) -> list[int]:
    more = number - len(question.documents)
    if more <= len(question.same_article):
        return [*question.documents, *rng.sample(question.same_article, max(0, more))]
    known = [*question.documents, *question.same_article]
    others = sorted(set(range(documents)) - set(known))
    return [*known, *rng.sample(others, more - len(question.same_article))]


@lru_cache(maxsize=2)
def _read(dataset: Dataset, file: Path) -> tuple[list[_Question], list[str]]:
    try:
        data = json.loads(file.read_text(encoding="utf-8"))
        asked, documents = _squad(data) if dataset == "squad" else _hotpotqa(data)
    except OSError as error:
        raise UsageError(f"{file}: cannot be read: {error.strerror}") from None
    except (ValueError, TypeError, KeyError) as error:
        raise UsageError(f"{file}: is not {DOWNLOADS[dataset]}: {type(error).__name__}: {error}") from None
    if not asked:
        raise UsageError(f"{file}: holds no question that has an answer")
    return asked, documents


def _squad(data: Any) -> tuple[list[_Question], list[str]]:
    articles = [article["paragraphs"] for article in data["data"]]
    documents = sorted({paragraph["context"] for paragraphs in articles for paragraph in paragraphs})
    place = {document: i for i, document in enumerate(documents)}
    asked = []
    for paragraphs in articles:
        article = [place[paragraph["context"]] for paragraph in paragraphs]
        for here, paragraph in zip(article, paragraphs, strict=True):
            others = tuple(i for i in article if i != here)
            for question in paragraph["qas"]:
                if not question["is_impossible"]:
                    answers = tuple(answer["text"] for answer in question["answers"])
                    asked.append(_Question(question["question"], answers, (here,), others))
    return asked, documents


def _hotpotqa(data: Any) -> tuple[list[_Question], list[str]]:
    pages = [[f"{title}\n{''.join(sentences)}" for title, sentences in each["context"]] for each in data]
    documents = sorted({page for each in pages for page in each})
    place = {document: i for i, document in enumerate(documents)}
    asked = [
        _Question(each["question"], (each["answer"],), tuple(place[page] for page in own))
        for each, own in zip(data, pages, strict=True)
    ]
    return asked, documents
