"""The tasks by name: what each asks of a model at a length, made of a few settings."""

from __future__ import annotations

import math
import platform
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ropext.converter.errors import UsageError
from ropext.converter.lengths import tokens
from ropext.converter.text import did_you_mean

if TYPE_CHECKING:
    from ropext.converter.evaluation.asking import Item
    from ropext.converter.evaluation.tasks.texts import Text

__all__ = ["SAMPLES", "TASKS", "Task", "make_task"]

SAMPLES = {"niah": 6, "mixed": 3, "ppl": 4}
"""Texts at each length where nobody says how many.

They resolve what a doubling of reach makes of a model. Right answers are compared by reversing signs, which takes six
texts: 2 / 2^6 = 0.031. Log-probabilities and losses have Student's interval, where fewer do. `passkey` has a text at
each of ten depths, and `ruler` as many of each task as give six. Other benchmarks are asked whole.
"""

_UNUSED = 1_000_000
"""Seeds from here on are none of a calibration's."""


@dataclass(frozen=True)
class Task:
    """What is asked of every model.

    Attributes:
        items: what to ask at a length, tokens, for a tokenizer.
        settings: what the questions depend on, as the results record it; None: as if it were not there.
        remark: what the user should know of a length before it is asked, for a tokenizer; empty: nothing.
        check: refuses a length that it cannot ask at, before a model is loaded.
        usual: the lengths where nobody names any, of those that are usual for a model.
        asks: whether it tells how well a model reads, so that what a method costs on short prompts belongs to it.
    """

    items: Callable[[Any, int], Iterable[Item]]
    settings: dict[str, Any] = field(default_factory=dict)
    remark: Callable[[Any, int], str] = lambda tokenizer, length: ""
    check: Callable[[int], None] = lambda length: None
    usual: Callable[[Sequence[int]], Sequence[int]] = lambda lengths: lengths
    asks: bool = True


def make_task(name: str, samples: int | None, seed: int, settings: dict[str, Any]) -> Task:
    """Make a task.

    Args:
        name: one of `TASKS`.
        samples: how many are asked for at each length; None for the task's own number.
        seed: the random seed.
        settings: keyword arguments of the task's function here; None for its default.

    Raises:
        UsageError: there is no such task, or it has no such setting.
        RopextError: what it is made of is missing.
    """
    if name not in TASKS:
        raise UsageError(f"unknown task {name!r}{did_you_mean(name, TASKS) or ';'} there are {', '.join(TASKS)}")
    given = {key: value for key, value in settings.items() if value is not None}
    make = TASKS[name]
    known = set(make.__annotations__) - {"samples", "seed", "return"}
    if unknown := sorted(set(given) - known):
        raise UsageError(f"{name}: has no setting {unknown[0]!r}; its settings: {', '.join(sorted(known))}")
    task: Task = make(samples, seed, **given)
    return task


def _passkey(samples: int | None, seed: int, depths: int = 10) -> Task:
    """A number of five digits in filler: lengths times depths times samples."""
    from .passkey import passkey_prompt

    places = [(place + 0.5) / depths for place in range(depths)]

    def items(tokenizer: Any, length: int) -> Iterator[Item]:
        for sample in range(samples or 1):
            for number, depth in enumerate(places):
                yield passkey_prompt(tokenizer, length, depth, (seed * 1000 + sample) * depths + number)

    return Task(items, {"depths": depths})


def _niah(samples: int | None, seed: int, needles: int = 4, texts: Sequence[str | Path] = ()) -> Task:
    """Numbers of seven digits under names in prose."""
    from .needles import needle_depths, needle_prompt
    from .texts import load_text

    text = load_text(list(map(Path, texts))).half(1)

    def items(tokenizer: Any, length: int) -> Iterator[Item]:
        for sample in range(samples or SAMPLES["niah"]):
            drawn = _UNUSED + seed * 1000 + sample
            yield needle_prompt(tokenizer, text, length, needle_depths(needles, drawn), drawn)

    return Task(items, {"needles": needles, **_named(text)})


def _mixed(samples: int | None, seed: int, questions: int = 8, texts: Sequence[str | Path] = ()) -> Task:
    """Numbers hidden in several ways, and the prose itself."""
    from .mixed import mixed_sample
    from .perplexity import whole_windows
    from .texts import load_text

    text = load_text(list(map(Path, texts))).half(1)

    def items(tokenizer: Any, length: int) -> Iterator[Item]:
        for sample in range(samples or SAMPLES["mixed"]):
            yield mixed_sample(tokenizer, text, length, questions, _UNUSED + seed * 1000 + sample)

    def remark(tokenizer: Any, length: int) -> str:
        if whole_windows(tokenizer, text, length):
            return ""
        known = "what comes again a model knows by heart, so the loss of the text says little"
        return f"mixed at {length:,} tokens: {text.name} is shorter; {known}; give a longer --text"

    return Task(items, {"questions": questions, **_named(text)}, remark)


def _ppl(samples: int | None, seed: int, stride: str | int | None = None, texts: Sequence[str | Path] = ()) -> Task:
    """Perplexity of a text, read in windows of each length."""
    from .perplexity import passages, whole_windows
    from .texts import load_text

    text = load_text(list(map(Path, texts))).half(1)
    apart = None if stride is None else tokens(stride, "stride")

    def items(tokenizer: Any, length: int) -> Iterable[Item]:
        if apart is not None and apart > length:
            raise UsageError(f"--stride {apart}: is over the length {length}")
        if not whole_windows(tokenizer, text, length, apart):
            known = "what comes again a model knows by heart"
            raise UsageError(f"ppl at {length:,} tokens: {text.name} is shorter, and {known}; give a longer --text")
        return passages(tokenizer, text, length, samples or usual(tokenizer, length), apart)

    def usual(tokenizer: Any, length: int) -> int:
        return min(SAMPLES["ppl"], whole_windows(tokenizer, text, length, apart))

    def remark(tokenizer: Any, length: int) -> str:
        whole, read = whole_windows(tokenizer, text, length, apart), samples or usual(tokenizer, length)
        if whole >= (samples or SAMPLES["ppl"]):
            return ""
        again = "" if read <= whole else ", which repeat it"
        return f"ppl at {length:,} tokens: {text.name} fills {whole} windows; {read} read{again}; give a longer --text"

    return Task(items, {"stride": apart, **_named(text)}, remark)


def _attention(
    samples: int | None,
    seed: int,
    cells: int = 128,
    layers: str | None = None,
    heads: str | None = None,
    texts: Sequence[str | Path] = (),
) -> Task:
    """Attention maps of prose, averaged over layers and heads."""
    from .attention import Seen, indices
    from .texts import load_text, passage

    text = load_text(list(map(Path, texts))).half(1)
    over = {"layers": layers and indices(layers, "layers"), "heads": heads and indices(heads, "heads")}

    def items(tokenizer: Any, length: int) -> Iterator[Item]:
        for sample in range(samples or 1):
            ids = passage(tokenizer, text, length, seed * 1000 + sample)
            yield Seen(tuple(ids), cells, over["layers"] or None, over["heads"] or None, length, sample)

    return Task(items, {"cells": cells, **over, **_named(text)}, asks=False)


def _ruler(
    samples: int | None,
    seed: int,
    tasks: Sequence[str] = (),
    text: str | Path | None = None,
    squad: str | Path | None = None,
    hotpotqa: str | Path | None = None,
    chat: bool = False,
    thinking: str | int | None = None,
) -> Task:
    """RULER's thirteen tasks: whole, or those that are named; six prompts at least where nobody says how many."""
    from .ruler import TASKS as ALL
    from .ruler import generate, missing
    from .ruler_chat import chat_of
    from .ruler_runs import RulerRun

    files = [Path(each) if each else None for each in (squad, hotpotqa)]
    chosen = list(tasks or ALL)
    count = samples or math.ceil(SAMPLES["niah"] / len(chosen))
    if not tasks:
        lacks = {task: why for task in ALL if (why := missing(task, squad=files[0], hotpotqa=files[1]))}
        reasons = [f"{', '.join(t for t in lacks if lacks[t] == why)}: {why}" for why in dict.fromkeys(lacks.values())]
        part = f"or name what you want: --tasks {','.join(task for task in ALL if task not in lacks)}"
        if lacks:
            raise UsageError("\n".join(["RULER cannot be run whole here", *reasons, part]))
    prose = Path(text).read_text(encoding="utf-8") if text else None
    budget = 0 if thinking is None else tokens(thinking, "thinking")
    how: dict[str, Any] = {"text": prose, "squad": files[0], "hotpotqa": files[1]}

    def items(tokenizer: Any, length: int) -> Iterator[Item]:
        if budget >= length:
            raise UsageError(f"--thinking {budget}: leaves nothing of {length} tokens for the text")
        put = chat_of(tokenizer, budget) if chat or budget else None
        more = {**how, "template": put.template} if put else how
        for task in chosen:
            drawn = 42 + seed  # the publication's is 42
            examples = generate(task, tokenizer, length - (put.before if put else 0), count, drawn, **more)
            for number, example in enumerate(examples):
                yield RulerRun(example, length, number, put)

    name = Path(text).name if text else f"pydoc_data.topics of Python {platform.python_version()}"
    asked = {"chat": chat or budget > 0 or None, "thinking": budget or None}
    return Task(items, {"tasks": chosen, "text": name, **asked})


def _leval(samples: int | None, seed: int, tasks: Sequence[str] = (), data: str | Path | None = None) -> Task:
    """L-Eval's seven closed-ended tasks."""
    from .leval import find, read, runs

    files = find(list(tasks) or None, Path(data) if data else None)
    documents, digest = read(files)

    def items(tokenizer: Any, length: int) -> Iterator[Item]:
        for task, found in documents.items():
            yield from runs(tokenizer, task, found[:samples], length)

    return Task(items, {"tasks": list(documents), "data_sha256": digest})


def _infinitebench(
    samples: int | None, seed: int, tasks: Sequence[str] = (), data: str | Path | None = None, chat: bool = False
) -> Task:
    """∞Bench's seven closed tasks: whole, or those that are named."""
    from .infinitebench import read, runs

    questions, digest = read(Path(data) if data else None, list(tasks) or None)

    def items(tokenizer: Any, length: int) -> Iterator[Item]:
        for task, found in questions.items():
            yield from runs(tokenizer, task, found[:samples], length, chat=chat)

    return Task(items, {"tasks": list(questions), "chat": chat or None, "data_sha256": digest})


def _longbench2(
    samples: int | None, seed: int, data: str | Path | None = None, cot: bool = False, chat: bool | None = None
) -> Task:
    """LongBench v2's questions."""
    from .longbench2 import read, runs

    questions, digest = read(Path(data) if data else None)

    def items(tokenizer: Any, length: int) -> Iterator[Item]:
        yield from runs(tokenizer, questions[:samples], length, cot=cot, chat=chat)

    return Task(items, {"cot": cot, "chat": chat, "data_sha256": digest})


def _helmet(
    samples: int | None, seed: int, tasks: Sequence[str] = (), data: str | Path | None = None, chat: bool = False
) -> Task:
    """HELMET's recall and retrieval-augmented generation: whole, or what is named."""
    from .helmet import SAMPLES as PUBLISHED
    from .helmet import check, chosen, folder_of, runs, usual

    folder, names = folder_of(data), chosen(list(tasks) or None)

    def items(tokenizer: Any, length: int) -> Iterator[Item]:
        for task in names:
            yield from runs(tokenizer, folder, task, length, samples or PUBLISHED, chat=chat)

    def here(length: int) -> None:
        check(folder, names, length, named=bool(tasks))

    return Task(items, {"tasks": names, "chat": chat or None}, check=here, usual=usual)


def _named(text: Text) -> dict[str, str]:
    return {"text": text.name, "text_sha256": text.sha256}


TASKS: dict[str, Callable[..., Task]] = {
    "passkey": _passkey,
    "niah": _niah,
    "mixed": _mixed,
    "ppl": _ppl,
    "attention": _attention,
    "ruler": _ruler,
    "leval": _leval,
    "longbench2": _longbench2,
    "infinitebench": _infinitebench,
    "helmet": _helmet,
}
"""What can be asked, by name."""
