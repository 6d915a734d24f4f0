"""HELMET's recall and retrieval-augmented generation: four tasks each, from its files, asked and scored as published.

Yen et al., "HELMET: How to Evaluate Long-context Language Models Effectively and Thoroughly" (arXiv 2410.02694). Files,
lengths of answers, cuts and scores are those of `configs/`, `data.py`, `model_utils.py` and `utils.py` of
https://github.com/princeton-nlp/HELMET: `docs/helmet.md` says what differs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

from ropext.converter.errors import UsageError

from .benchmark import FileRun, Wording, cut_end
from .benchmark_files import check_names, documents, files_of
from .helmet_questions import DOWNLOAD, Question, json_kv, rag, ruler
from .leval_scores import normal

__all__ = [
    "GROUPS",
    "LENGTHS",
    "SAMPLES",
    "TASKS",
    "Task",
    "check",
    "chosen",
    "files",
    "folder_of",
    "runs",
    "score",
    "usual",
]

SAMPLES = 100
"""Questions of each task and length in the publication."""

_SIZES: Mapping[int, tuple[int, int]] = {
    4096: (50, 20),
    8192: (105, 50),
    16384: (220, 105),
    32768: (440, 220),
    65536: (900, 440),
    131072: (1800, 1000),
}
"""By length, how many keys and how many documents the files have in their names."""

LENGTHS = tuple(_SIZES)
"""Those that there are files for (tokens)."""

Metric = Literal["contains", "share"]


@dataclass(frozen=True)
class Task:
    """One of the eight.

    Attributes:
        group: `Recall` or `RAG`.
        file: its name in the folder; `{length}`, `{keys}` and `{documents}` depend on the length.
        new_tokens: that an answer may have.
        metric: whether the answer contains a right one, or the share of the right ones that it contains.
        solved: the file of solved questions; empty where there is none.
    """

    group: str
    file: str
    new_tokens: int
    metric: Metric = "contains"
    solved: str = ""


def _kilt(name: str, depths: int) -> Task:
    start = f"kilt/{name}-{{part}}-multikilt_1000_k{{size}}_dep{depths}.jsonl"
    solved = start.format(part="train", size=3)
    return Task("RAG", start.format(part="dev", size="{documents}"), 20, solved=solved)


TASKS: Mapping[str, Task] = {
    "json_kv": Task("Recall", "json_kv/test_k{keys}_dep6.jsonl", 100),
    "ruler_niah_mk_2": Task("Recall", "ruler/niah_multikey_2/validation_{length}.jsonl", 50, "share"),
    "ruler_niah_mk_3": Task("Recall", "ruler/niah_multikey_3/validation_{length}.jsonl", 100, "share"),
    "ruler_niah_mv": Task("Recall", "ruler/niah_multivalue/validation_{length}.jsonl", 50, "share"),
    "nq": _kilt("nq", 6),
    "triviaqa": _kilt("triviaqa", 6),
    "hotpotqa": _kilt("hotpotqa", 3),
    "popqa": Task(
        "RAG", "kilt/popqa_test_1000_k{documents}_dep6.jsonl", 20, solved="kilt/popqa_test_1000_k3_dep6.jsonl"
    ),
}

GROUPS = ("Recall", "RAG")


def chosen(tasks: Sequence[str] | None) -> list[str]:
    """The tasks that are asked for: all, those that are named, or those of a group that is named (`recall`, `rag`).

    Raises:
        UsageError: there is no such task.
    """
    groups = {group.lower(): [task for task in TASKS if TASKS[task].group == group] for group in GROUPS}
    check_names(tasks or (), (*TASKS, *groups), "HELMET")
    return list(dict.fromkeys(each for task in tasks or TASKS for each in groups.get(task, [task])))


def files(folder: Path, task: str, length: int) -> list[Path]:
    """The files that a task needs at a length: its questions, then solved ones where it has these."""
    keys, texts = _SIZES[length]
    form = TASKS[task]
    names = [form.file.format(length=length, keys=keys, documents=texts), form.solved]
    return [folder / name for name in names if name]


def folder_of(data: str | Path | None) -> Path:
    """The folder of the files.

    Raises:
        UsageError: nobody named it.
    """
    if data is None:
        raise UsageError(f"helmet needs files that are not here: {DOWNLOAD}")
    return Path(data)


def check(folder: Path, tasks: Sequence[str], length: int, *, named: bool) -> None:
    """Refuse a length that there are no files for.

    Args:
        folder: of the files.
        tasks: that are to be run.
        length: in tokens.
        named: somebody chose these tasks.

    Raises:
        UsageError: HELMET has none for it, or some are not there.
    """
    if length not in _SIZES:
        known = ", ".join(f"{each // 1024}k" for each in LENGTHS)
        raise UsageError(f"HELMET has no files for {length} tokens; choose --lengths of {known}")
    files_of({task: files(folder, task, length) for task in tasks}, "HELMET", DOWNLOAD, named=named)


def usual(lengths: Sequence[int]) -> list[int]:
    """Return the longest length that there are files for up to each of some lengths, each once."""
    below = [[known for known in LENGTHS if known <= length] for length in lengths]
    return list(dict.fromkeys(each[-1] for each in below if each))


def _questions(folder: Path, task: str, length: int, samples: int) -> tuple[list[Question], str]:
    file, *solved = files(folder, task, length)
    if task == "json_kv":
        return json_kv(file, samples)
    if solved:
        return rag(file, solved[0], samples, popqa=task == "popqa")
    return ruler(file, samples, several=task == "ruler_niah_mv")


def score(metric: Metric, answers: Sequence[str], said: str) -> float:
    """What an answer is worth, from 0 to 1.

    Args:
        metric: `contains`: whether a right one is in it, without case, punctuation and articles; `share`: how many of
            the right ones are, without case.
        answers: the right ones.
        said: what the model wrote.
    """
    if metric == "share":
        return sum(answer.lower() in said.lower() for answer in answers) / len(answers)
    return float(any(normal(answer.lower()) in normal(said.lower()) for answer in answers))


def runs(
    tokenizer: Any, folder: Path, task: str, length: int, samples: int = SAMPLES, *, chat: bool = False
) -> Iterator[FileRun]:
    """A task's questions at a length, drawn and cut as published.

    Args:
        tokenizer: of the model.
        folder: of the files.
        task: its name in `TASKS`.
        length: that prompt and answer may have together (tokens).
        samples: how many questions.
        chat: by the tokenizer's chat template.

    Raises:
        UsageError: a file cannot be read, a text has no room, or there is no chat template.
        RopextError: a file is of another form.
    """
    wording, form = Wording.of(tokenizer, chat), TASKS[task]
    found, digest = _questions(folder, task, length, samples)
    first = documents(question.asked for question in found)
    for question, same in zip(found, first, strict=True):
        begun = "" if chat else f"\n{question.begun}"

        def put(text: str, question: Question = question, begun: str = begun) -> str:
            return f"{question.before}{text}{question.after}{begun}"

        text = cut_end(wording, put, question.text, length - form.new_tokens)
        if question.text and not text:
            raise UsageError(f"{task}: {length} tokens leave no room for the text of {question.place}")
        yield FileRun(
            task=task,
            length=length,
            number=question.number,
            document=found[same].number,
            prompt=wording.put(put(text)),
            answers=question.answers,
            new_tokens=form.new_tokens,
            score=partial(score, form.metric, question.answers),
            special_tokens=not chat,
            tokens=wording.count(put(text)),
            groups=(form.group, task),
            before="" if chat else question.begun,
            one_line=form.group == "RAG",
            file_sha256=digest,
        )
