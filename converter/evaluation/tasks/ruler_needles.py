"""RULER's needles in a haystack: `niah_*`.

The haystack is one line of noise over and over, prose, or needles that nobody asks for. RULER's prose is Paul Graham's
essays, cut into sentences by NLTK's Punkt; here it is any text, cut by a regular expression, so that a needle may stand
a sentence earlier or later. A text that is too short is repeated (as RULER came to do later; the code behind the
paper's numbers then gave shorter prompts). Below 4096 tokens, which RULER never goes, prose is measured out in steps of
50 words in place of 500.
"""

from __future__ import annotations

import random
import re
import uuid
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import cycle, islice, pairwise
from typing import Literal, overload

from .ruler_fitting import Draft, NoRoom, Setting, fill, fit
from .ruler_words import adjectives, nouns

__all__ = ["Needles", "needles"]

Kind = Literal["numbers", "words", "uuids"]

NEEDLE = "One of the special magic {kind} for {key} is: {value}."
NOISE = "The grass is green. The sky is blue. The sun is yellow. Here we go. There and back again."
TASK_ONE = (
    "A special magic {kind} is hidden within the following text. Make sure to memorize it. I will quiz you about the "
    "{kind} afterwards.\n{context}\nWhat is the special magic {kind} for {query} mentioned in the provided text?"
)
TASK_MANY = (
    "Some special magic {kind} are hidden within the following text. Make sure to memorize it. I will quiz you about "
    "the {kind} afterwards.\n{context}\nWhat are all the special magic {kind} for {query} mentioned in the provided "
    "text?"
)
ANSWER_ONE = " The special magic {kind} for {query} mentioned in the provided text is"
ANSWER_MANY = " The special magic {kind} for {query} mentioned in the provided text are"

DEPTHS = [round(i * 100 / 39) for i in range(40)]
"""Where needles may stand in prose, percent of its sentences."""


@dataclass(frozen=True)
class Needles:
    """One of the tasks.

    Attributes:
        haystack: what the needles are hidden in.
        key: what a needle is found by.
        value: what is asked for.
        keys: needles with keys of their own; at least as many as `queries`.
        values: under each key.
        queries: keys asked for.
    """

    haystack: Literal["noise", "essay", "needle"]
    key: Kind = "words"
    value: Kind = "numbers"
    keys: int = 1
    values: int = 1
    queries: int = 1

    @property
    def words(self) -> bool:
        """Whether it takes any."""
        return "words" in (self.key, self.value)

    @property
    def hidden(self) -> int:
        """Keys in the prompt."""
        return max(self.keys, self.queries)


def needles(task: Needles, setting: Setting, text: str) -> Iterator[Draft]:
    """Examples without end.

    Args:
        task: which.
        setting: model, length and seed.
        text: the prose, for `essay`.
    """
    maker = _Maker(task, setting, text.split())
    step = _step(task, setting.length)
    units = fit(maker.counted, setting, step, setting.room)
    while True:
        yield fill(maker.draft, setting, units, step, setting.room, least=min(units, step))


def _step(task: Needles, length: int) -> int:
    if task.haystack == "essay":
        return 50 if length < 4096 else 500
    return 5 if length < 4096 else 25


class _Maker:
    def __init__(self, task: Needles, setting: Setting, prose: Sequence[str]) -> None:
        self._task = task
        self._setting = setting
        self._prose = prose
        self._rng = random.Random(setting.seed)
        self._words = _keys() if task.words else ()

    def counted(self, units: int) -> str:
        draft = self.draft(units)
        return draft.prompt + " ".join(draft.answers)

    def draft(self, units: int) -> Draft:
        task, rng = self._task, self._rng
        keys: list[str] = []
        values: list[list[str]] = []
        hidden: list[str] = []
        for _ in range(task.hidden):
            key = self._thing(task.key)
            keys.append(key)
            values.append([])
            for _ in range(task.values):
                values[-1].append(self._thing(task.value))
                hidden.append(NEEDLE.format(kind=task.value, key=key, value=values[-1][-1]))
        random.Random(self._setting.seed).shuffle(hidden)
        context = self._in_prose(hidden, units) if task.haystack == "essay" else self._in_lines(hidden, units)
        asked = rng.sample(range(task.hidden), task.queries)
        query = _in_words([keys[i] for i in asked])
        one = task.queries * task.values == 1
        kind = task.value[:-1] if one else task.value
        prompt = self._setting.wrap(
            (TASK_ONE if one else TASK_MANY).format(kind=kind, context=context, query=query),
            (ANSWER_ONE if one else ANSWER_MANY).format(kind=kind, query=query),
        )
        return Draft(prompt, tuple(value for i in asked for value in values[i]))

    def _thing(self, kind: Kind) -> str:
        if kind == "numbers":
            return str(self._rng.randint(10**6, 10**7 - 1))
        if kind == "uuids":
            return str(uuid.UUID(int=self._rng.getrandbits(128), version=4))
        return self._rng.choice(self._words)

    def _in_prose(self, hidden: Sequence[str], units: int) -> str:
        sentences = _sentences(" ".join(islice(cycle(self._prose), units)))
        depths = self._rng.sample(DEPTHS, len(hidden))
        places = sorted(int(len(sentences) * (depth / 100)) for depth in depths)
        pieces = [" ".join(sentences[: places[0]])]
        for needle, (start, end) in zip(hidden, pairwise([*places, len(sentences)]), strict=True):
            pieces += [needle, " ".join(sentences[start:end])]
        return " ".join(pieces)

    def _in_lines(self, hidden: Sequence[str], units: int) -> str:
        task = self._task
        if task.haystack == "noise":
            lines = [NOISE] * units
        else:
            lines = [
                NEEDLE.format(kind=task.value, key=self._thing(task.key), value=self._thing(task.value))
                for _ in range(units)
            ]
        if units < len(hidden):
            raise NoRoom
        places = sorted(self._rng.sample(range(units), len(hidden)), reverse=True)
        for place, needle in zip(places, hidden, strict=True):
            lines.insert(place, needle)
        return "\n".join(lines)


def _in_words(keys: Sequence[str]) -> str:
    return keys[0] if len(keys) == 1 else ", ".join(keys[:-1]) + ", and " + keys[-1]


class _Keys(Sequence[str]):
    """Every adjective with every noun, in alphabetic order: six million words, of which few are ever made."""

    def __init__(self, adjectives: Iterable[str], nouns: Iterable[str]) -> None:
        self._nouns = sorted(set(nouns))
        self._blocks: list[tuple[str, Sequence[str]]] = []
        self._ends: list[int] = []
        heads = sorted({f"{adjective}-" for adjective in adjectives})
        while heads:
            # Only words that begin alike, as those of `all-` and `all-around-`, are out of the order of adjectives.
            alike = [heads.pop(0)]
            while heads and heads[0].startswith(alike[0]):
                alike.append(heads.pop(0))
            block = (alike[0], self._nouns)
            if len(alike) > 1:
                block = ("", sorted({head + noun for head in alike for noun in self._nouns}))
            self._blocks.append(block)
            self._ends.append(len(self) + len(block[1]))

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> list[str]: ...
    def __getitem__(self, index: int | slice) -> str | list[str]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        index = range(len(self))[index]
        at = bisect_right(self._ends, index)
        head, words = self._blocks[at]
        return head + words[index - self._ends[at]]  # counted from the block's end


@lru_cache(maxsize=1)
def _keys() -> Sequence[str]:
    return _Keys(adjectives(), nouns())


@lru_cache(maxsize=2)
def _sentences(text: str) -> list[str]:
    return re.split(r"(?:(?<=[.?!])|(?<=[.?!][\"')\]]))(?<!e\.g\.)(?<!i\.e\.) ", text) if text else []
