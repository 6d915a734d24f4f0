"""L-Eval's seven closed-ended tasks: questions about long documents, asked and scored as published.

An et al., "L-Eval: Instituting Standardized Evaluation for Long Context Language Models" (arXiv 2307.11088). The words
around a question are those of `Baselines/llama2-chat-test.py` and `LEval_config.py` of https://github.com/OpenLMLab/LEval
at cd34b05 (July 2024), and what its authors said of other models: `docs/leval.md` tells where from and what differs.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeGuard

from ropext.converter.errors import RopextError, UsageError
from ropext.converter.evaluation.asking import digest, prompt_ids
from ropext.converter.files.json_object import parse_object
from ropext.converter.hub.errors import reading

from .benchmark import chat_prompt, is_chat
from .benchmark_files import check_names, files_of, read_lines
from .leval_scores import score

if TYPE_CHECKING:
    from ropext.converter.evaluation.asking import Model

__all__ = ["AVERAGED", "NEW_TOKENS", "TASKS", "Document", "LevalRun", "Task", "find", "fit", "prompt", "read", "runs"]

NEW_TOKENS = 512
"""That an answer may have, whatever the task."""

_STEP = 250
"""So many words more are cut off at each trial."""

_REPOSITORY = "L4NLP/LEval"
_DOWNLOAD = (
    "give by --data the folder LEval-data/Closed-ended-tasks of https://github.com/OpenLMLab/LEval, or LEval/Exam of "
    f"https://huggingface.co/datasets/{_REPOSITORY}"
)

_ASKED = (
    "Document is as follows. {document} \nQuestion: {question}.  "
    "Please directly give the answer without any additional output or explanation "
)
_ANSWER = "\nAnswer:"
_JOINED = "{document}\n\n{question}"
_BASE = "{document} \nQ: {question} \nA:"

_FOLLOW = "Now you are given a very long document. Please follow the instruction based on this document. "
_ONE_LETTER = (
    f"{_FOLLOW}For multi-choice questions, there is only a sinlge correct option. Please only provide the letter "
    "corresponding to the answer (like A or B) when answering. For other questions, please directly give the concise "
    "and accurate answer. "
)
"""As published, “sinlge” too."""


@dataclass(frozen=True)
class Task:
    """One of the seven.

    Attributes:
        system: what a chat begins with.
        asked: what the user says.
        begun: how the answer begins.
        base: the whole prompt for a model without a chat template.
        keeps_end: of a document that is too long, the end is kept and not the start.
    """

    system: str
    asked: str = _ASKED
    begun: str = _ANSWER
    base: str = _BASE
    keeps_end: bool = False


TASKS: Mapping[str, Task] = {
    "tpo": Task(_ONE_LETTER),
    "quality": Task(_ONE_LETTER),
    "coursera": Task(
        f"{_FOLLOW}For multi-choice questions, there could be a sinlge correct option or multiple correct options. "
        "Please only provide the letter corresponding to the answer (like A or AB) when answering. "
    ),
    "sci_fi": Task(
        "Now you are given a scientific fiction. I will ask you some questions and the answer should be "
        '"True" or "False". Notice that you should answer the question based on the evidence in the document instead '
        "of your background knowledge."
    ),
    "gsm100": Task(
        "Given several question answer pairs, you need to follow a similar format to answer the last question. "
        "Make sure the response is end with The answer is _ . ",
        asked=_JOINED,
        begun="",
        base=_JOINED,
    ),
    "codeU": Task(
        "Now you are given a code base consisting of a large amount of functions and the corresponding comments. "
        "In the end, I will call some functions defined in the code base. Please carefully read these codes and "
        "comments and answer the question.",
        asked=_JOINED,
        begun="",
        base=_JOINED,
        keeps_end=True,
    ),
    "topic_retrieval_longchat": Task(
        "Below is a record of our previous conversation on many different topics. You are the ASSISTANT, and I am the "
        "USER. At the beginning of each topic, the USER will say 'I would like to discuss the topic of <TOPIC>'. "
        "Memorize each <TOPIC>. At the end of the record, I will ask you to retrieve the first/second/third topic "
        "names. Now the record start. ",
        asked=_JOINED,
        begun="",
    ),
}
"""By their names in the data; in the paper TOEFL, QuALITY, Coursera, SFiction, GSM, CodeU and TopicRet."""

AVERAGED = tuple(task for task in TASKS if task != "topic_retrieval_longchat")
"""The six that the paper's average is over."""

_IN_THE_STORY = "based on the world described in the document."
_IN_FACT = "based on the real-world knowledge and facts up until your last training"
_ASKED_IN_FACT = "Please directly answer without any additional output or explanation. "


# Data


@dataclass(frozen=True)
class Document:
    """A document, and what is asked about it.

    Attributes:
        text: the whole of it.
        questions: each with its answer.
        place: file and line, for messages.
    """

    text: str
    questions: tuple[tuple[str, str], ...]
    place: str


def find(tasks: Sequence[str] | None, folder: Path | None) -> dict[str, Path]:
    """The tasks' files.

    Args:
        tasks: which; by default all seven.
        folder: that holds `tpo.jsonl` and so on; by default the Hub's data set is asked.

    Returns:
        The files by task.

    Raises:
        UsageError: there is no such task, or a file is missing.
        RopextError: the Hub does not give them.
    """
    check_names(tasks or (), TASKS, "L-Eval")
    chosen = list(dict.fromkeys(tasks or TASKS))
    if folder is None:
        return {task: _fetched(task) for task in chosen}
    files = {task: folder / f"{task}.jsonl" for task in chosen}
    files_of({task: [file] for task, file in files.items()}, "L-Eval", _DOWNLOAD, named=bool(tasks))
    return files


def _fetched(task: str) -> Path:
    from huggingface_hub import hf_hub_download

    try:
        with reading(_REPOSITORY, None):
            return Path(hf_hub_download(_REPOSITORY, f"LEval/Exam/{task}.jsonl", repo_type="dataset"))
    except RopextError:
        raise RopextError(f"{task}.jsonl: the Hub does not give it, or cannot be reached; {_DOWNLOAD}") from None


def read(files: Mapping[str, Path]) -> tuple[dict[str, list[Document]], str]:
    """Read the tasks' files.

    Returns:
        Their documents, and a digest of all that was read.

    Raises:
        UsageError: a file cannot be read.
        RopextError: it is not of the form that its publishers gave it.
    """
    found, digest = {}, hashlib.sha256()
    for task, file in files.items():
        content, lines = read_lines(file, _DOWNLOAD)
        digest.update(content)
        found[task] = [_document(task, line, place) for place, line in lines]
    return found, digest.hexdigest()


def _document(task: str, line: str, place: str) -> Document:
    found = parse_object(line, place)
    text, questions, answers = (found.get(key) for key in ("input", "instructions", "outputs"))
    if not isinstance(text, str) or not _are_texts(questions) or not _are_texts(answers):
        raise RopextError(f"{place}: is no line of L-Eval, with a text `input` and lists `instructions` and `outputs`")
    if len(questions) != len(answers):
        raise RopextError(f"{place}: {len(questions)} `instructions` have {len(answers)} `outputs`; each needs its own")
    if found.get("evaluation", "exam") != "exam":
        raise RopextError(f"{place}: is evaluated by {found['evaluation']!r}; these are the tasks with `exam`")
    if task == "sci_fi" and not all("[fact:" in answer for answer in answers):
        raise RopextError(f"{place}: answers are not of the form `True [fact: False]`, as they once were; {_DOWNLOAD}")
    return Document(text, tuple(zip(questions, answers, strict=True)), place)


def _are_texts(value: Any) -> TypeGuard[list[str]]:
    return isinstance(value, list) and bool(value) and all(isinstance(each, str) and each.strip() for each in value)


# Prompts


def prompt(tokenizer: Any, task: str, document: str, question: str) -> str:
    """What a model is given to continue."""
    form = TASKS[task]
    if not is_chat(tokenizer):
        return form.base.format(document=document, question=question)
    return chat_prompt(tokenizer, form.asked.format(document=document, question=question), form.system) + form.begun


def prompt_in_fact(tokenizer: Any, question: str) -> str:
    """A question of `sci_fi`, without the story."""
    asked = question.replace(_IN_THE_STORY, _IN_FACT) + _ASKED_IN_FACT
    return (chat_prompt(tokenizer, asked) if is_chat(tokenizer) else asked) + _ANSWER


def _tokens(tokenizer: Any, text: str) -> int:
    return len(prompt_ids(tokenizer, text, special_tokens=not is_chat(tokenizer)))


def fit(text: str, room: int, fits: Callable[[str], bool], *, keeps_end: bool = False) -> str:
    """Cut a document by the published steps: as many words as there is room for tokens, then 250 fewer at a time.

    Args:
        text: the document.
        room: for it (tokens).
        fits: whether so much of it can be asked about.
        keeps_end: the end is kept, and not the start.

    Returns:
        What fits; nothing where no part does.
    """
    if fits(text):
        return text
    words, sizes = text.split(" "), range(room, 0, -_STEP)

    def cut(kept: int) -> str:
        return " ".join(words[-kept:] if keeps_end else words[:kept])

    found = bisect_left(sizes, True, key=lambda kept: fits(cut(kept)))  # the published search tries one after the other
    return cut(sizes[found]) if found < len(sizes) else ""


# What to ask


@dataclass(frozen=True)
class LevalRun:
    """One question.

    Attributes:
        task: its name in `TASKS`.
        length: that prompt and answer may have together (tokens).
        number: of the question, in its file.
        document: number of the document, in its file.
        text: the document, cut.
        question: as the file has it.
        answer: likewise.
        asked: digest of the prompt.
    """

    task: str
    length: int
    number: int
    document: int
    text: str
    question: str
    answer: str
    asked: str

    @property
    def key(self) -> str:
        """What tells it from the others."""
        return f"{self.task} {self.length} {self.number}"

    @property
    def size(self) -> int:
        """Tokens of prompt and answer, at most."""
        return self.length

    def measure(self, model: Model) -> dict[str, Any]:
        """Let a model answer; of `sci_fi` by the story and in fact."""
        asked = prompt(model.tokenizer, self.task, self.text, self.question)
        special = not is_chat(model.tokenizer)
        prediction = model.continuation(asked, NEW_TOKENS, special_tokens=special)
        if self.task == "sci_fi":
            asked_in_fact = prompt_in_fact(model.tokenizer, self.question)
            fact = model.continuation(asked_in_fact, NEW_TOKENS, special_tokens=special)
            prediction += f" [fact: {fact}]"
        return {
            "length": self.length,
            "tokens": _tokens(model.tokenizer, asked),
            "seed": self.number,
            "asked": self.asked,
            "task": self.task,
            "document": self.document,
            "score": score(self.task, prediction, self.answer),
            "prediction": prediction,
            "answers": [self.answer],
        }


def runs(tokenizer: Any, task: str, documents: Sequence[Document], length: int) -> Iterator[LevalRun]:
    """All questions of a task, about documents that are cut to a length.

    Raises:
        UsageError: the length leaves no room for a document.
    """
    number = 0
    for place, document in enumerate(documents):
        longest = max((question for question, _ in document.questions), key=partial(_tokens, tokenizer))
        room = length - NEW_TOKENS - _tokens(tokenizer, prompt(tokenizer, task, "", longest))

        def fits(text: str, longest: str = longest) -> bool:
            return _tokens(tokenizer, prompt(tokenizer, task, text, longest)) + NEW_TOKENS <= length

        text = fit(document.text, room, fits, keeps_end=TASKS[task].keeps_end)
        if room < 0 or (document.text and not text):
            raise UsageError(
                f"{task}: {length} tokens leave no room for {document.place}, its question and {NEW_TOKENS} tokens of "
                "answer; choose a longer length"
            )
        for question, answer in document.questions:
            asked = digest(prompt(tokenizer, task, text, question))
            yield LevalRun(task, length, number, place, text, question, answer, asked)
            number += 1
