"""The passkey test: a number in filler, and the question for it (arXiv 2305.16300)."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

from ropext.converter.errors import UsageError
from ropext.converter.evaluation.asking import Prompt, Question, beginning

__all__ = ["FILLER", "Passkey", "hide_passkey", "passkey_prompt"]

FILLER = "The grass is green. The sky is blue. The sun is yellow. Here we go. There and back again. "
"""Filler, needle and question are those of the passkey test (arXiv 2305.16300), as the papers of the methods use it."""


@dataclass(frozen=True)
class Passkey:
    """A prompt with a number hidden in it.

    Attributes:
        input_ids: the prompt's tokens.
        key: the number.
        distance: tokens from the number to the end of the prompt.
    """

    input_ids: list[int]
    key: str
    distance: int


def hide_passkey(tokenizer: Any, length: int, depth: float, seed: int = 0) -> Passkey:
    """Make a prompt that hides a number in filler.

    Args:
        tokenizer: of the model to be asked.
        length: of the prompt (tokens); met to within a sentence.
        depth: where the number stands: 0 at the start of the filler, 1 at its end.
        seed: of the number.

    Raises:
        UsageError: the length leaves no room for filler.
    """
    key = str(random.Random(seed).randint(10_000, 99_999))
    task = (
        "There is an important info hidden inside a lot of irrelevant text. Find it and memorize it. "
        "I will quiz you about the important information there.\n"
    )
    needle = f"The pass key is {key}. Remember it. {key} is the pass key. "
    question = "\nWhat is the pass key? The pass key is"

    def tokens(text: str) -> list[int]:
        ids: list[int] = tokenizer(text, add_special_tokens=False).input_ids
        return ids

    sample = 64
    sentence = len(tokens(FILLER * sample)) / sample
    repeats = int((length - len(tokens(task + needle + question))) / sentence)
    if repeats < 1:
        raise UsageError(f"--length {length} leaves no room for filler: choose at least 200 tokens")
    before = round(repeats * depth)
    start = task + FILLER * before
    input_ids = tokens(start + needle + FILLER * (repeats - before) + question)
    return Passkey(input_ids, key, len(input_ids) - len(tokens(start)))


def passkey_prompt(tokenizer: Any, length: int, depth: float, seed: int) -> Prompt:
    """Hide a number of five digits in filler.

    Args:
        tokenizer: of the model to be asked.
        length: of text, question and answer together, at most (tokens); met to within a sentence of the filler.
        depth: where the number stands: 0 at the start of the filler, 1 at its end.
        seed: of the number.

    Raises:
        UsageError: the length leaves no room for filler.
    """
    hidden, start = hide_passkey(tokenizer, length, depth, seed), beginning(tokenizer)
    before = tokenizer("The pass key is", add_special_tokens=False).input_ids
    answer = tuple(tokenizer(f"The pass key is {hidden.key}", add_special_tokens=False).input_ids[len(before) :])
    more = len(start) + len(answer)
    if len(hidden.input_ids) + more > length:  # by less than a sentence
        hidden = hide_passkey(tokenizer, length - more, depth, seed)
    # The question's last token is read with the answer: what comes before it is read once in any case.
    ids: list[int] = [*start, *hidden.input_ids]
    question = Question(tuple(ids[-1:]), answer, hidden.key, depth, hidden.distance)
    return Prompt(tuple(ids[:-1]), (question,), length, seed)
