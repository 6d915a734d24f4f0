"""What answers to ∞Bench's closed tasks are worth, by the rules of the published scorer.

Zhang et al., "∞Bench: Extending Long Context Evaluation Beyond 100K Tokens" (arXiv 2402.13718); `src/compute_scores.py`
of https://github.com/OpenBMB/InfiniteBench at 88b3daa. Where a rule is odd it is kept, for the numbers to be
comparable: `docs/infinitebench.md` names these.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

__all__ = ["choice", "first_digits", "first_number", "function", "last_integer", "word"]

_MARKS = "\n:\"'.,?!{}"
_NUMBER = re.compile(r"\d+\.\d+|\d+")


def _spaced(text: str, marks: Sequence[str]) -> str:
    """A text with a space in the place of each mark."""
    for mark in marks:
        text = text.replace(mark, " ")
    return text


def first_digits(prediction: str, answers: Sequence[str]) -> bool:
    """Whether the first run of digits is the answer (`passkey`, `number_string`)."""
    found = re.search("[0-9]+", prediction)
    return found is not None and found[0] == answers[0]


def word(prediction: str, answers: Sequence[str]) -> bool:
    """Whether one of the words is the answer (`kv_retrieval`)."""
    return answers[0] in _spaced(prediction, _MARKS).split()


def last_integer(prediction: str, answers: Sequence[str]) -> bool:
    """Whether the last word is the number (`code_run`)."""
    words = _spaced(prediction, "\n.`'\":").split()
    try:
        return bool(words) and int(words[-1]) == int(answers[0])
    except ValueError:
        return False


def first_number(prediction: str, answers: Sequence[str]) -> bool:
    """Whether the first number is the answer (`math_find`); an integer has to be written as one."""
    found = _NUMBER.search(prediction)
    if found is None:
        return False
    try:
        return int(found[0]) == int(answers[0])
    except ValueError:
        return "." in answers[0] and float(found[0]) == float(answers[0])


def function(prediction: str, answers: Sequence[str]) -> bool:
    """Whether the letter or the function is named (`code_debug`).

    A prediction has to begin with the letter and a point or colon, or have one of the two after “answer is:”, “is:” or
    “answer:”.

    Args:
        prediction: what the model wrote.
        answers: the function's name, and its letter.
    """
    name, letter = answers
    text = prediction.strip()
    if text[:2] in (f"{letter}.", f"{letter}:"):
        return True
    plain = re.sub(" +", " ", _spaced(text, ("\n", "`", "'", '"', "-", "*", "Option", "option")))
    rest = _after(plain, ("answer is:", "is:", "answer:"))
    return rest is not None and rest.startswith((letter, name))


def choice(prediction: str, answers: Sequence[str]) -> bool:
    """Whether the option is named (`longbook_choice_eng`).

    What counts is the first letter if that is one of A to D, else what follows “answer is”, “answer:” or “option is”,
    else the first word of these letters.

    Args:
        prediction: what the model wrote.
        answers: the right option, and its letter.
    """
    text = prediction.strip()
    if text[:1] in tuple("ABCD"):
        return text[0] in answers
    if text in answers:
        return True
    plain = re.sub(" +", " ", _spaced(text, "\n\"'.,?!{}"))
    rest = _after(plain, ("answer is:", "answer:", "answer is", "option is"))
    if rest is not None:
        return rest.startswith(tuple(answers))
    return next((each in answers for each in plain.split() if each in "ABCD"), False)


def _after(text: str, starts: Sequence[str]) -> str | None:
    """What follows the first of these that a text has, without the character after it; None where it has none."""
    for start in starts:
        if start in text:
            rest = text.partition(start)[2]
            return rest[1:] if rest else "\n"  # nothing follows: no answer begins so
    return None
