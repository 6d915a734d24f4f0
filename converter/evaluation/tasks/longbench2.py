"""LongBench v2: 503 multiple-choice questions about texts of 8k to 2M words, asked and scored as published.

Bai et al., "LongBench v2: Towards Deeper Understanding and Reasoning on Realistic Long-context Multitasks"
(arXiv 2412.15204). The words around a question are those of `prompts/0shot*.txt`, cuts, answers and the score those of
`pred.py` and `result.py` of https://github.com/THUDM/LongBench: `docs/longbench2.md` says what differs.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ropext.converter.errors import UsageError

from .benchmark import FileRun, Wording, cut_middle
from .benchmark_files import Record, documents, read_records

if TYPE_CHECKING:
    from ropext.converter.evaluation.asking import Model

__all__ = ["ANSWER_TOKENS", "GROUPS", "Question", "chosen", "prompt", "prompt_after", "read", "runs", "score"]

ANSWER_TOKENS = 128
"""That an answer may have."""

THOUGHT_TOKENS = 1024
"""That a chain of thought may have."""

_DIFFICULTIES = ("easy", "hard")
_LENGTHS = ("short", "medium", "long")
"""Up to 32k words, up to 128k words, and more."""

GROUPS = (*_DIFFICULTIES, *_LENGTHS)
"""Parts that have an accuracy of their own."""

_DOWNLOAD = "give by --data the file data.json of https://huggingface.co/datasets/THUDM/LongBench-v2"

_CHOICES = "ABCD"
_QUESTION = (
    "What is the correct answer to this question: {question}\n"
    "Choices:\n(A) {choice_A}\n(B) {choice_B}\n(C) {choice_C}\n(D) {choice_D}\n\n"
)
_FORM = 'Format your response as follows: "The correct answer is (insert answer here)".'
_TEXT = "\n\n<text>\n{context}\n</text>\n\n"
_STEPS = "Let’s think step by step:"
_ASKED = f"Please read the following text and answer the question below.{_TEXT}{_QUESTION}{_FORM}"
_ASKED_TO_THINK = f"Please read the following text and answer the questions below.{_TEXT}{_QUESTION}{_STEPS}"
_ASKED_THEN = (
    "Please read the following text and answer the questions below.\n\nThe text is too long and omitted here.\n\n"
    f"{_QUESTION}{_STEPS} {{thought}}\n\n"
    f"Based on the above, what is the single, most likely answer choice? {_FORM}"
)

_SAID = re.compile(r"The correct answer is \(([A-D])\)")
_SAID_BARE = re.compile(r"The correct answer is ([A-D])")


@dataclass(frozen=True)
class Question:
    """One question.

    Attributes:
        fields: its texts, without space at their ends: `context`, `question`, `choice_A`, …
        answer: the right letter.
        difficulty: one of `_DIFFICULTIES`.
        length: one of `_LENGTHS`.
        place: file and line, for messages.
    """

    fields: dict[str, str]
    answer: str
    difficulty: str
    length: str
    place: str


def read(file: Path | None) -> tuple[list[Question], str]:
    """Read the questions.

    Args:
        file: the published `data.json`, or the same as JSON lines.

    Returns:
        The questions, and a digest of the file.

    Raises:
        UsageError: there is no such file.
        RopextError: it is of another form.
    """
    if file is None:
        raise UsageError(f"longbench2 needs a file that is not here: {_DOWNLOAD}")
    records, digest = read_records(file, _DOWNLOAD)
    return [_question(record) for record in records], digest


def _question(record: Record) -> Question:
    names = ("context", "question", *(f"choice_{letter}" for letter in _CHOICES))
    return Question(
        fields={name: record.text(name).strip() for name in names},
        answer=record.one_of("answer", _CHOICES),
        difficulty=record.one_of("difficulty", _DIFFICULTIES),
        length=record.one_of("length", _LENGTHS),
        place=record.place,
    )


def prompt(fields: Mapping[str, str], *, cot: bool = False) -> str:
    """What the user says, to be answered at once or after a chain of thought."""
    return (_ASKED_TO_THINK if cot else _ASKED).format(**fields)


def prompt_after(wording: Wording, fields: Mapping[str, str], thought: str) -> str:
    """What the model is given to continue after its chain of thought."""
    return wording.put(_ASKED_THEN.format(**fields, thought=thought))


def chosen(response: str) -> str | None:
    """The letter that an answer gives in the form that was asked for; None where it does not."""
    plain = response.strip().replace("*", "")
    found = _SAID.search(plain) or _SAID_BARE.search(plain)
    return found[1] if found else None


def score(answer: str, response: str) -> float:
    """1 for the right letter; an answer without one is wrong."""
    return float(chosen(response) == answer)


@dataclass(frozen=True)
class ThoughtRun(FileRun):
    """A question that is answered after a chain of thought, without the text before it.

    Attributes:
        then: the prompt that follows a thought.
    """

    then: Callable[[str], str] = str

    def answer(self, model: Model) -> tuple[str, dict[str, Any]]:
        """Let a model think, then answer by what it thought."""
        thought = model.continuation(self.prompt, THOUGHT_TOKENS, special_tokens=self.special_tokens).strip()
        said = model.continuation(self.then(thought), self.new_tokens, special_tokens=self.special_tokens)
        return said, {"thought": thought}


def runs(
    tokenizer: Any, questions: Sequence[Question], length: int, *, cot: bool = False, chat: bool | None = None
) -> Iterator[FileRun]:
    """All questions, about texts that are cut to a length.

    Args:
        tokenizer: of the model.
        questions: what to ask.
        length: that prompt and answer may have together (tokens).
        cot: let the model think before it answers.
        chat: by the tokenizer's chat template; None: where it has one.

    Raises:
        UsageError: the length leaves no room for a text, or there is no chat template.
    """
    wording = Wording.of(tokenizer, chat)
    most = length - (THOUGHT_TOKENS if cot else ANSWER_TOKENS)
    same = documents(question.fields["context"] for question in questions)
    for number, question in enumerate(questions):
        fields = question.fields
        text = cut_middle(wording, prompt(fields, cot=cot), most, around=prompt({**fields, "context": ""}, cot=cot))
        if not text:
            raise UsageError(
                f"{length} tokens leave no room for a text beside {question.place}, its choices and {length - most} "
                "tokens of answer; choose a longer length"
            )
        how: dict[str, Any] = {
            "task": "longbench2",
            "length": length,
            "number": number,
            "document": same[number],
            "prompt": wording.put(text),
            "answers": (question.answer,),
            "new_tokens": ANSWER_TOKENS,
            "score": partial(score, question.answer),
            "special_tokens": not wording.chat,
            "tokens": wording.count(text),
            "groups": (question.difficulty, question.length),
        }
        yield ThoughtRun(**how, then=partial(prompt_after, wording, fields)) if cot else FileRun(**how)
