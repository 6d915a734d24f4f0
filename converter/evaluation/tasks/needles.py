"""Needles: numbers under names of their own, hidden in prose and asked for.

The needle and the question are those of RULER (arXiv 2404.06654: words for keys, numbers for values), which DPE's four
needles follow. Several questions are asked about one text, so that it is read once for all of them.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate, takewhile
from typing import Any

from ropext.converter.errors import UsageError
from ropext.converter.evaluation.asking import Prompt, Question, beginning

from .texts import Text

__all__ = ["Hidden", "draw_names", "hide", "needle", "needle_depths", "needle_prompt"]

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
    """One depth in each of `needles` equal parts of the text."""
    rng = random.Random(seed)
    return [(part + rng.random()) / needles for part in range(needles)]


@dataclass(frozen=True)
class Hidden:
    """A sentence that is hidden in a text, and what is asked about it.

    Attributes:
        sentence: as it stands in the text.
        depth: where: 0 at the start of the text, 1 at its end.
        question: that follows the text; empty: nothing is asked.
        answer: the right one.
        kind: of question, where a text is asked several.
    """

    sentence: str
    depth: float
    question: str = ""
    answer: str = ""
    kind: str = ""


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
    names = draw_names(rng, len(depths))
    values = [str(rng.randint(1_000_000, 9_999_999)) for _ in depths]
    needles = [needle(*each) for each in zip(names, values, depths, strict=True)]
    return hide(tokenizer, TASK, needles, text.from_anywhere(seed), length, seed)


def draw_names(rng: random.Random, count: int) -> list[str]:
    """So many different names of two words."""
    return rng.sample([f"{adjective}-{noun}" for adjective in _ADJECTIVES.split() for noun in _NOUNS.split()], count)


def needle(key: str, value: str, depth: float, kind: str = "") -> Hidden:
    """A number under a name."""
    return Hidden(NEEDLE.format(key=key, value=value), depth, QUESTION.format(key=key), value, kind)


def hide(
    tokenizer: Any, task: str, hidden: Sequence[Hidden], sentences: Iterable[str], length: int, seed: int
) -> Prompt:
    """Hide sentences between others, and ask about them.

    Args:
        tokenizer: of the model to be asked.
        task: what the text begins with.
        hidden: what is hidden.
        sentences: what it is hidden in, without end.
        length: of text, question and answer together, at most (tokens); met to within a sentence.
        seed: that all this was drawn with.

    Raises:
        UsageError: the length leaves no room.
    """

    def tokens(piece: str) -> list[int]:
        ids: list[int] = tokenizer(piece, add_special_tokens=False).input_ids
        return ids

    asked = {each.sentence: _question_and_answer(tokens, each) for each in hidden if each.question}
    start = beginning(tokenizer)  # a token for the beginning, where the model has one
    room = length - max(len(question) + len(answer) for question, answer in asked.values())
    own = task + " ".join(each.sentence for each in hidden)
    around = _filled(tokens, sentences, room - len(start) - len(tokens(own)))
    while True:
        if len(around) < len(hidden):
            raise UsageError(f"{length} tokens leave no room for prose and {len(hidden)} needles; choose more tokens")
        pieces = _hidden(hidden, around)
        input_ids = start + tokens(task + " ".join(pieces))
        if len(input_ids) <= room:
            break
        around.pop()  # sentences of their own have fewer tokens than joined ones in some vocabularies
    questions = []
    for each in hidden:
        if each.question:
            question, answer = asked[each.sentence]
            behind = len(tokens(" ".join(pieces[pieces.index(each.sentence) + 1 :])))
            questions.append(Question(tuple(question), tuple(answer), each.answer, each.depth, behind, each.kind))
    return Prompt(tuple(input_ids), tuple(questions), length, seed)


def _question_and_answer(tokens: Callable[[str], list[int]], hidden: Hidden) -> tuple[list[int], list[int]]:
    """Tokens of both as they are when one follows the other."""
    asked, both = tokens(hidden.question), tokens(f"{hidden.question} {hidden.answer}")
    common = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(asked, both, strict=False)))
    return both[:common], both[common:]


def _filled(tokens: Callable[[str], list[int]], sentences: Iterable[str], room: int) -> list[str]:
    """Sentences that fill this many tokens, or a few more."""
    found: list[str] = []
    for sentence in sentences:
        if room <= 0:
            break
        found.append(sentence)
        room -= len(tokens(f" {sentence}"))
    return found


def _hidden(hidden: Sequence[Hidden], around: Sequence[str]) -> list[str]:
    """Sentences with each hidden one between two of them, as near to its depth as can be."""
    ends = [0, *accumulate(map(len, around))]
    places = [min(range(len(ends)), key=lambda place: abs(ends[place] - each.depth * ends[-1])) for each in hidden]
    pieces = list(around)
    for place, sentence in sorted(zip(places, (each.sentence for each in hidden), strict=True), reverse=True):
        pieces.insert(place, sentence)
    return pieces
