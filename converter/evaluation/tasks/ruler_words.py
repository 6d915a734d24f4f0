"""RULER's words to count: common words (`cwe`) and frequent words (`fwe`).

Common words are English ones, of the lists of the package `wonderwords`, as RULER's; 8,000 and more are needed for
128k tokens, so there is no list of our own. It changed its nouns between the versions 2 and 3, and with them the
prompts of a seed; 3 is taken. At lengths that would need more words than there are, prompts are shorter.

The one example before the question is RULER's. Frequent words are six random letters each. As in the published code
their prompt may fill the whole length and leave no room for the 50 tokens of the answer.
"""

from __future__ import annotations

import math
import random
import string
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.resources import files
from importlib.util import find_spec

from .ruler_fitting import Draft, NoRoom, Setting, fill, fit

__all__ = [
    "HOW_TO_INSTALL",
    "CommonWords",
    "FrequentWords",
    "adjectives",
    "common_words",
    "frequent_words",
    "installed",
    "nouns",
    "verbs",
]

PACKAGE = "wonderwords"
HOW_TO_INSTALL = "pip install 'wonderwords>=3.0.1,<4'"

COMMON_TASK = (
    "Below is a numbered list of words. In these words, some appear more often than others. Memorize the ones that "
    "appear most often.\n{context}\nQuestion: What are the 10 most common words in the above list?"
)
COMMON_ANSWER = " Answer: The top 10 words that appear most often in the list are:"
FREQUENT_TASK = (
    "Read the following coded text and track the frequency of each coded word. Find the three most frequently appeared "
    "coded words. {context}\nQuestion: Do not provide any explanation. Please ignore the dots '....'. What are the "
    "three most frequently appeared words in the above coded text?"
)
FREQUENT_ANSWER = " Answer: According to the coded text above, the three most frequently appeared words are:"

WORDS_STEP = 10
ZETA_2 = math.pi**2 / 6


@dataclass(frozen=True)
class CommonWords:
    """`cwe`: how often common and other words appear, and how many are common."""

    common_repeats: int
    other_repeats: int
    common: int


@dataclass(frozen=True)
class FrequentWords:
    """`fwe`: how many letters a word has. The k-th most frequent appears k ** -2 as often as the first."""

    letters: int


def common_words(task: CommonWords, setting: Setting) -> Iterator[Draft]:
    """Examples without end."""
    rng = random.Random(setting.seed)
    words = sorted({*nouns(), *adjectives(), *verbs()})
    random.Random(setting.seed).shuffle(words)
    short = setting.length < 4096

    def listed(number: int, common_repeats: int, other_repeats: int) -> tuple[str, list[str]]:
        chosen = rng.sample(words, number)
        common, other = chosen[: task.common], chosen[task.common :]
        repeated = common * common_repeats + other * other_repeats
        random.Random(setting.seed).shuffle(repeated)
        return setting.wrap(COMMON_TASK.format(context=_numbered(repeated)), COMMON_ANSWER), common

    def draft(number: int) -> Draft:
        example, common = listed(20, 3, 1) if short else listed(40, 10, 3)
        example += _numbered(common)
        prompt, common = listed(number, *((6, 1) if short else (task.common_repeats, task.other_repeats)))
        return Draft(f"{example}\n{prompt}", tuple(common))

    def counted(number: int) -> str:
        made = draft(number)
        return f"{made.prompt} {_numbered(made.answers)}"

    number = fit(counted, setting, WORDS_STEP, setting.room, most=len(words))
    if number < task.common:
        raise NoRoom
    while True:
        yield fill(draft, setting, number, WORDS_STEP, setting.room, least=WORDS_STEP)


def _numbered(words: Sequence[str]) -> str:
    return " ".join(f"{i}. {word}" for i, word in enumerate(words, start=1))


def frequent_words(task: FrequentWords, setting: Setting) -> Iterator[Draft]:
    """Examples without end."""
    rng = random.Random(setting.seed)
    room, size = setting.length, setting.length // 50
    step = room // 32
    if size < 4:
        raise NoRoom

    def vocabulary() -> list[str]:
        words: dict[str, None] = {}
        while len(words) < size:
            words["".join(rng.choices(string.ascii_lowercase, k=task.letters))] = None
        sorted_words = sorted(words)
        random.Random(setting.seed).shuffle(sorted_words)
        return ["...", *sorted_words[1:]]

    def prompt(words: Sequence[str], number: int) -> str:
        coded = [word for k, word in enumerate(words, start=1) for _ in range(_frequency(number, k))]
        random.Random(setting.seed).shuffle(coded)
        return setting.wrap(FREQUENT_TASK.format(context=" ".join(coded)), FREQUENT_ANSWER)

    words, most = vocabulary(), room // task.letters
    while setting.count(prompt(words, most)) < room:
        most += step
    most -= step
    while True:
        words, number = vocabulary(), most
        while setting.count(made := prompt(words, number)) > room and number > 0:
            number -= step
        if _frequency(number, 4) < 1:
            raise NoRoom
        yield Draft(made, tuple(words[1:4]))


def _frequency(number: int, k: int) -> int:
    """How often the k-th most frequent of `number` words stands there (zeta distribution)."""
    return int(number * k**-2.0 / ZETA_2)


def nouns() -> list[str]:
    """The nouns of `wonderwords`."""
    return _list("noun")


def adjectives() -> list[str]:
    """The adjectives of `wonderwords`."""
    return _list("adjective")


def verbs() -> list[str]:
    """The verbs of `wonderwords`."""
    return _list("verb")


def installed() -> bool:
    """Whether there are words."""
    return find_spec(PACKAGE) is not None


def _list(kind: str) -> list[str]:
    return [line.rstrip() for line in (files(PACKAGE) / "assets" / f"{kind}list.txt").read_text("utf-8").splitlines()]
