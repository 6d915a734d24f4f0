"""The passkey test: a number in filler, and the question for it (arXiv 2305.16300)."""

from __future__ import annotations

from typing import Any

from ropext.converter.demo import hide_passkey

from .needles import Prompt, Question

__all__ = ["passkey_prompt"]


def passkey_prompt(tokenizer: Any, length: int, depth: float, seed: int) -> Prompt:
    """Hide a number of five digits in filler.

    Args:
        tokenizer: of the model to be asked.
        length: of the text and its question (tokens); met to within a sentence.
        depth: where the number stands: 0 at the start of the filler, 1 at its end.
        seed: of the number.

    Raises:
        UsageError: the length leaves no room for filler.
    """
    hidden = hide_passkey(tokenizer, length, depth, seed)
    before = tokenizer("The pass key is", add_special_tokens=False).input_ids
    with_answer = tokenizer(f"The pass key is {hidden.key}", add_special_tokens=False).input_ids
    # The question's last token is read with the answer: what comes before it is read once in any case.
    ids: list[int] = [*tokenizer("").input_ids, *hidden.input_ids]
    answer = tuple(with_answer[len(before) :])
    question = Question(tuple(ids[-1:]), answer, hidden.key, depth, hidden.distance)
    return Prompt(tuple(ids[:-1]), (question,), length, seed)
