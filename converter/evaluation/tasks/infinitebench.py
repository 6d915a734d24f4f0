"""∞Bench's seven closed tasks: passkeys, keys and values, lists, code and novels of 100k tokens and more.

Zhang et al., "∞Bench: Extending Long Context Evaluation Beyond 100K Tokens" (arXiv 2402.13718). The words around a
question, how long answers may be and how prompts are cut are those of `src/prompt.py`, `src/eval_utils.py` and
`src/eval_yarn_mistral.py` of https://github.com/OpenBMB/InfiniteBench: `docs/infinitebench.md` says what differs.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from ropext.converter.errors import UsageError

from . import infinitebench_scores as scores
from .benchmark import FileRun, Wording, cut_middle
from .benchmark_files import Record, check_names, documents, files_of, read_records

__all__ = ["CHAT_TOKENS", "TASKS", "Question", "Task", "prompt", "read", "runs"]

CHAT_TOKENS = 512
"""That an answer of a chat model may have; nothing was published about these."""

_DOWNLOAD = "give by --data the folder of files of https://huggingface.co/datasets/xinrongzhang2022/InfiniteBench"

_SYSTEM = "You are a helpful assistant"
_HIDDEN = "There is an important info hidden inside a lot of irrelevant text. Find it"
_QUIZ = "I will quiz you about the important information"
_KEYS = "Extract the value corresponding to the specified key in the JSON object below.\n\n{context}\n\n{input}"
_LIST = "{prefix}\n\n{context}\n\n{input}"
_OPTIONS = "A. {a}\nB. {b}\nC. {c}\nD. {d}"


@dataclass(frozen=True)
class Task:
    """One of the seven.

    Attributes:
        base: the whole prompt for a model that continues it.
        chat: what the user says to a chat model.
        new_tokens: that an answer may have, without a chat.
        score: whether an answer is right, by a function of `infinitebench_scores`.
        number: the right one is a number.
        choices: the record has four options.
    """

    base: str
    chat: str
    new_tokens: int
    score: Callable[..., bool]
    choices: bool = False
    number: bool = False


TASKS: Mapping[str, Task] = {
    "passkey": Task(
        f"{_HIDDEN} and memorize it. {_QUIZ}.\n\n{{context}}\n\n{{input}}\n\nThe pass key is",
        f"{_HIDDEN} and memorize them. {_QUIZ} there.\n\n{{context}}\n\n{{input}}",
        6,
        scores.first_digits,
    ),
    "number_string": Task(
        f"{_HIDDEN}. {_QUIZ} there.\n\n{{context}}\n\n{{input}}\n\nThe sequence of digits is",
        f"{_HIDDEN}. {_QUIZ} there.\n\n{{context}}\n\n{{input}}",
        12,
        scores.first_digits,
    ),
    "kv_retrieval": Task(_KEYS, _KEYS, 50, scores.word),
    "math_find": Task(_LIST, _LIST, 3, scores.first_number, number=True),
    "code_run": Task(
        "There is a function called {func} in the following Python code.\n\n{context}\n\nPlease compute the exact "
        "value of {call}. The value of {call} is",
        "Following is a set of Python functions. There is a function called named {func}.\n\n{context}\n\nPlease give "
        "me the exact number of the return value of {call}. Be concise. Your response must end with the final "
        "returned value.",
        5,
        scores.last_integer,
        number=True,
    ),
    "code_debug": Task(
        "Following is a Python code where exactly one of the functions/methods has a deliberate error that makes it "
        f"crash.\n\n{{context}}\n\nOptions:\n{_OPTIONS}\n\nThe correct option is:",
        "There is ONLY ONE function in the large project that is deliberately made to include an obvious error. "
        "Please find the function that contains the most obvious errors. I will give you four options to narrow your "
        "scope. You can inspect the options and think. Eventually, tell me the answer using one single letter (A, B, "
        f"C, or D).\n\n{{context}}\n\nWhich funtion has deliberate error?\n{_OPTIONS}\n\nYou should first find the "
        "functions in the options. Repeat their content, inspect through code, and at last give me your answer for "
        "the function that has the deliberate and obvious error in A, B, C, or D.",
        5,
        scores.function,
        choices=True,
    ),
    "longbook_choice_eng": Task(
        "Read the book and answer the question.\n\n{context}\n\nQuestion: {input}\n"
        f"{_OPTIONS}\n\nThe letter of the correct answer is",
        "Read the book and answer the question.\n\n{context}\n\nQuestion: {input}\n\nOnly one of the following options "
        "is correct, tell me the answer using one single letter (A, B, C, or D). Don't say anything else.\n"
        f"{_OPTIONS}",
        40,
        scores.choice,
        choices=True,
    ),
}
"""By their names in the data, with the published words, “funtion” too; in the paper Retrieve.PassKey, Retrieve.Number,
Retrieve.KV, Math.Find, Code.Run, Code.Debug and En.MC."""


@dataclass(frozen=True)
class Question:
    """One question.

    Attributes:
        fields: what a template takes: `context`, `input`, …
        answers: the right one; of a choice the option and its letter.
        place: file and line, for messages.
    """

    fields: dict[str, str]
    answers: tuple[str, ...]
    place: str


def read(folder: Path | None, tasks: Sequence[str] | None) -> tuple[dict[str, list[Question]], str]:
    """Read the tasks' files.

    Args:
        folder: that holds `passkey.jsonl` and so on.
        tasks: which; by default all seven.

    Returns:
        The questions by task, and a digest of all that was read.

    Raises:
        UsageError: there is no such task, or a file is missing.
        RopextError: a file is of another form.
    """
    check_names(tasks or (), TASKS, "∞Bench")
    if folder is None:
        raise UsageError(f"infinitebench needs files that are not here: {_DOWNLOAD}")
    files = {task: folder / f"{task}.jsonl" for task in dict.fromkeys(tasks or TASKS)}
    files_of({task: [file] for task, file in files.items()}, "∞Bench", _DOWNLOAD, named=bool(tasks))
    found, whole = {}, hashlib.sha256()
    for task, file in files.items():
        records, digest = read_records(file, _DOWNLOAD)
        whole.update(digest.encode())
        found[task] = [_question(task, record) for record in records]
    return found, whole.hexdigest()


def _question(task: str, record: Record) -> Question:
    text = record.text("content" if "content" in record.fields else "context")
    fields = {"context": text, "input": record.text("input")}
    answers = _answers(record)
    if TASKS[task].choices:
        options = record.texts("options", 4)
        fields |= dict(zip("abcd", options, strict=True))
        if answers[0] not in options:
            raise record.wrong("answer", "one of its `options`")
        answers = (answers[0], answers[1] if answers[1:] else "ABCD"[options.index(answers[0])])
    if TASKS[task].number and not re.fullmatch(r"-?[0-9]+(\.[0-9]+)?", answers[0]):
        raise record.wrong("answer", "a number")
    if task == "code_run":
        call = _found(record, r"(func_[0-9]+)\(-?[0-9]+\)", "a call of a function, such as func_7(3)")
        fields |= {"call": call[0], "func": call[1]}
    if task == "math_find":
        wanted = _found(record, r"(The .+) of", "a text that says which number, such as The largest number of")
        fields["prefix"] = f"What is {wanted[1].lower()} in the following list?"
    return Question(fields, answers, record.place)


def _found(record: Record, pattern: str, wanted: str) -> re.Match[str]:
    found = re.search(pattern, record.text("input"))
    if found is None:
        raise record.wrong("input", wanted)
    return found


def _answers(record: Record) -> tuple[str, ...]:
    """A text or a number, or a list of these."""
    value = record.fields.get("answer")
    each = value if isinstance(value, list) else [value]
    if not each or not all(isinstance(one, str | int | float) and not isinstance(one, bool) for one in each):
        raise record.wrong("answer", "a text or a number, or a list of these")
    return tuple(map(str, each))


def prompt(task: str, fields: Mapping[str, str], *, chat: bool = False) -> str:
    """What a model is asked, before a chat template is put around it."""
    return (TASKS[task].chat if chat else TASKS[task].base).format(**fields)


def runs(
    tokenizer: Any, task: str, questions: Sequence[Question], length: int, *, chat: bool = False
) -> Iterator[FileRun]:
    """All questions of a task, in prompts that are cut to a length.

    Args:
        tokenizer: of the model.
        task: its name in `TASKS`.
        questions: what to ask.
        length: that prompt and answer may have together (tokens).
        chat: by the tokenizer's chat template, with the words for chat models.

    Raises:
        UsageError: the length leaves no room for a text, or there is no chat template.
    """
    wording = Wording.of(tokenizer, chat, _SYSTEM)
    new_tokens = CHAT_TOKENS if chat else TASKS[task].new_tokens
    most = length - new_tokens
    same = documents(question.fields["context"] for question in questions)
    for number, question in enumerate(questions):
        around = prompt(task, {**question.fields, "context": ""}, chat=chat)
        text = cut_middle(wording, prompt(task, question.fields, chat=chat), most, around=around)
        if not text:
            raise UsageError(
                f"{task}: {length} tokens leave no room for the text of {question.place}, its question and "
                f"{new_tokens} tokens of answer; choose a longer length"
            )
        yield FileRun(
            task=task,
            length=length,
            number=number,
            document=same[number],
            prompt=wording.put(text),
            answers=question.answers,
            new_tokens=new_tokens,
            score=partial(TASKS[task].score, answers=question.answers),
            special_tokens=not chat,
            tokens=wording.count(text),
        )
