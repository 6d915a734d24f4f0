"""Needles: numbers under names of their own, hidden in prose and asked for.

The needle and the question are those of RULER (arXiv 2404.06654: words for keys, numbers for values), which DPE's four
needles follow. Several questions are asked about one text, so that it is read once for all of them.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from itertools import accumulate, takewhile
from typing import TYPE_CHECKING, Any

from ropext.converter.errors import UsageError
from ropext.converter.evaluation.asking import Prompt, Question, beginning

from .texts import Text

if TYPE_CHECKING:
    pass

__all__ = ["needle_depths", "needle_prompt"]

TASK = (
    "Some special magic numbers are hidden within the following text. Make sure to memorize it. I will quiz you "
    "about the numbers afterwards.\n"
)
NEEDLE = "One of the special magic numbers for {key} is: {value}."
QUESTION = (
    "\nWhat is the special magic number for {key} mentioned in the provided text? The special magic number for {key} "
    "mentioned in the provided text is"
)

_ADJECTIVES = """
amber brave calm dusty eager frozen gentle hollow ivory jolly keen lively mellow noble orange patient quiet rapid silver
tender upbeat velvet wooden young zealous bitter clever distant earnest faint
"""
_NOUNS = """
anchor basket candle dolphin engine feather garden hammer island jacket kettle ladder meadow needle orchard pepper
quarry ribbon saddle temple umbrella valley window yacht zipper bridge cactus donkey eagle falcon
"""


def needle_depths(needles: int, seed: int) -> list[float]:
    """One depth in each of so many equal parts of the text."""
    rng = random.Random(seed)
    return [(part + rng.random()) / needles for part in range(needles)]


def needle_prompt(tokenizer: Any, text: Text, length: int, depths: Sequence[float], seed: int) -> Prompt:
    """Hide numbers of seven digits in prose.

    Args:
        tokenizer: of the model to be asked.
        text: the prose; where it is too short it is repeated.
        length: of text, question and answer together, at most (tokens); met to within a sentence.
        depths: where each needle stands, from 0 at the start of the text to 1 at its end.
        seed: of the numbers, their names and the place in the prose at which the text starts.

    Raises:
        UsageError: the length leaves no room for prose, or there are more needles than names.
    """
    rng = random.Random(seed)
    names = rng.sample(
        [f"{adjective}-{noun}" for adjective in _ADJECTIVES.split() for noun in _NOUNS.split()], len(depths)
    )
    values = [str(rng.randint(1_000_000, 9_999_999)) for _ in depths]

    def tokens(piece: str) -> list[int]:
        ids: list[int] = tokenizer(piece, add_special_tokens=False).input_ids
        return ids

    needles = [NEEDLE.format(key=key, value=value) for key, value in zip(names, values, strict=True)]
    asked = [_question_and_answer(tokens, key, value) for key, value in zip(names, values, strict=True)]
    start = beginning(tokenizer)  # a token for the beginning, where the model has one
    room = length - max(len(question) + len(answer) for question, answer in asked)
    prose = _prose(tokens, text, seed, room - len(start) - len(tokens(TASK + " ".join(needles))))
    while True:
        if len(prose) < len(depths):
            raise UsageError(f"{length} tokens leave no room for prose and {len(depths)} needles; choose more tokens")
        pieces = _hide(needles, prose, depths)
        input_ids = start + tokens(TASK + " ".join(pieces))
        if len(input_ids) <= room:
            break
        prose.pop()  # sentences of their own have fewer tokens than joined ones in some vocabularies
    questions = []
    for needle, (question, answer), value, depth in zip(needles, asked, values, depths, strict=True):
        behind = " ".join(pieces[pieces.index(needle) + 1 :])
        questions.append(Question(tuple(question), tuple(answer), value, depth, len(tokens(behind))))
    return Prompt(tuple(input_ids), tuple(questions), length, seed)


def _question_and_answer(tokens: Callable[[str], list[int]], key: str, value: str) -> tuple[list[int], list[int]]:
    """Tokens of both as they are when one follows the other."""
    question = QUESTION.format(key=key)
    asked, both = tokens(question), tokens(f"{question} {value}")
    common = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(asked, both, strict=False)))
    return both[:common], both[common:]


def _prose(tokens: Callable[[str], list[int]], text: Text, seed: int, room: int) -> list[str]:
    """Sentences that fill so many tokens, or a few more."""
    prose: list[str] = []
    for sentence in text.from_anywhere(seed):
        if room <= 0:
            return prose
        prose.append(sentence)
        room -= len(tokens(f" {sentence}"))
    return prose


def _hide(needles: Sequence[str], prose: Sequence[str], depths: Sequence[float]) -> list[str]:
    """Sentences with each needle between two of them, as near to its depth as can be."""
    ends = [0, *accumulate(map(len, prose))]
    places = [min(range(len(ends)), key=lambda place: abs(ends[place] - depth * ends[-1])) for depth in depths]
    pieces = list(prose)
    for place, needle in sorted(zip(places, needles, strict=True), reverse=True):
        pieces.insert(place, needle)
    return pieces
